"""A dataclass field that is a setting: how its text is read, and what is said of unknown keys."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from typing import Any

from ..exceptions import ConfigurationError
from . import parsers

PACKAGE_PREFIX = "baseplate_redis."


def setting(
    parse: Callable[[Any], Any], default: Any = None, *, hidden: bool = False, only: str = ""
) -> Any:
    """A field that is also a setting: how its value is read, and what holds when it is absent.

    :param only: what it needs: ``TLS``, ``Sentinel`` or ``Cluster``.
    """
    return field(default=default, repr=not hidden, metadata={"parse": parse, "only": only})


def own_keys(app_config: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in app_config.items():
        if isinstance(key, str) and key.startswith(prefix) and "." not in key[len(prefix) :]:
            yield key[len(prefix) :], value


def parsed(prefix: str, key: str, parse: Callable[[Any], Any], raw: Any) -> Any:
    try:
        return parse(raw)
    except ValueError as error:
        message = f"{prefix}{key}: {error}"
    # Raised out here so that no chained exception carries a value that the message left out.
    raise ConfigurationError(message)


_IN_URL_ONLY = dict.fromkeys(("host", "port", "db", "path"), "write it in {}url") | {
    "ssl": "write rediss:// in {}url"
}


def unknown_key(prefix: str, key: str, known: list[str]) -> str:
    """The message for a key that isn't a setting, with the nearest one that is."""
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {prefix}{near[0]}?" if near else f"known are {parsers.listed(known)}"
    if prefix != PACKAGE_PREFIX:
        hint = _IN_URL_ONLY.get(key, hint).format(prefix)
    if prefix == PACKAGE_PREFIX:
        return f"{prefix}{key}: unknown setting; {hint}"
    return f"{prefix}{key}: unknown setting; {hint} {elsewhere(prefix)}"


def elsewhere(prefix: str) -> str:
    return (
        f"(if {prefix}* belongs to something else, name the Redis clients in "
        f"{PACKAGE_PREFIX}clients and no other prefix is read)"
    )
