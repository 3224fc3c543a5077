"""Dataclass fields that are settings, and the messages about malformed and unknown keys."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, field, fields
from functools import partial
from typing import Any

from ..exceptions import ConfigurationError
from . import parsers

PACKAGE_PREFIX = "baseplate_redis."


def setting(
    parse: Callable[[Any], Any],
    default: Any = None,
    *,
    hidden: bool = False,
    only: str = "",
    in_url: bool = False,
    keyword: str = "",
    since: str = "0.1.0",
) -> Any:
    """Return a dataclass field that is also a setting.

    :param parse: returns the value of a raw one, or raises :class:`ValueError`.
    :param default: the value if the setting is absent.
    :param hidden: whether it is a secret.
    :param only: the feature that it needs: ``TLS``, ``Sentinel`` or ``Cluster``.
    :param in_url: whether it may be a query argument of the URL, as in redis-py.
    :param keyword: the name of the pool's keyword argument, and of the query argument, if it is not
        that of the field.
    :param since: the first version of this package that has it.
    """
    metadata = {
        "parse": parse,
        "only": only,
        "in_url": in_url,
        "keyword": keyword,
        "since": since,
    }
    return field(default=default, repr=not hidden, metadata=metadata)


# A setting that redis-py has as well, as a keyword argument and a query argument of URLs.
redis_setting = partial(setting, in_url=True)
tls_setting = partial(redis_setting, only="TLS")


def settings_of(cls: type) -> dict[str, Field[Any]]:
    """Return the fields of a dataclass that are settings, by name."""
    return {item.name: item for item in fields(cls) if "parse" in item.metadata}


def own_keys(app_config: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield the keys that start with ``prefix``, without it, and their values.

    Keys with another dot after the prefix belong to other libraries and are left out.
    """
    for key, value in app_config.items():
        if isinstance(key, str) and key.startswith(prefix) and "." not in key[len(prefix) :]:
            yield key[len(prefix) :], value


def parsed(prefix: str, key: str, parse: Callable[[Any], Any], raw: Any) -> Any:
    """Return ``parse(raw)``.

    :raises ConfigurationError: ``parse`` raised :class:`ValueError`; the message names the key.
    """
    value, problem = attempt(parse, raw)
    if problem:
        raise ConfigurationError(f"{prefix}{key}: {problem}")
    return value


def attempt(parse: Callable[[Any], Any], raw: Any) -> tuple[Any, str]:
    """Return the parsed value and an empty text, or ``None`` and the reason.

    An error is raised by the caller, outside of an except clause: a chained exception could contain
    a secret value.
    """
    try:
        return parse(raw), ""
    except ValueError as error:
        problem = str(error)
    without, addition = parsers.without_addition(raw) if isinstance(raw, str) else ("", "")
    if addition and not attempt(parse, without)[1]:
        return None, addition
    return None, problem


def parsed_all(
    prefix: str, given: Mapping[str, Any], settings: Mapping[str, Field[Any]]
) -> dict[str, Any]:
    """Return the values of raw ones by key; see :func:`parsed`."""
    return {
        key: parsed(prefix, key, settings[key].metadata["parse"], raw) for key, raw in given.items()
    }


_MOST_LISTED = 12  # a longer list hides what is wrong

_IN_URL_ONLY = dict.fromkeys(("host", "port", "db", "path"), "write it in {}url") | {
    "ssl": "write rediss:// in {}url"
}


def unknown_key(prefix: str, key: str, known: list[str]) -> str:
    """Return the message for an unknown key, which suggests the nearest known one."""
    near = difflib.get_close_matches(key, known, n=1)
    if near:
        hint = f"did you mean {prefix}{near[0]}?"
    elif len(known) > _MOST_LISTED:
        hint = "the reference of settings in the documentation has them all"
    else:
        hint = f"the settings are {parsers.listed(known)}"
    if prefix != PACKAGE_PREFIX:
        hint = _IN_URL_ONLY.get(key, hint).format(prefix)
    if prefix == PACKAGE_PREFIX:
        return f"{prefix}{key}: unknown setting; {hint}"
    return f"{prefix}{key}: unknown setting; {hint} {elsewhere(prefix)}"


def one_edit_apart(one: str, other: str) -> bool:
    """Return whether one letter is missing, added, wrong or swapped with the next one."""
    short, long = sorted((one, other), key=len)
    while short and short[0] == long[0]:
        short, long = short[1:], long[1:]
    return bool(long) and (
        short == long[1:]
        or (short[1:] == long[1:] and len(short) == len(long))
        or (short[:2] == long[1::-1] and short[2:] == long[2:])
    )


def elsewhere(prefix: str) -> str:
    """Return the hint for settings that may belong to another library."""
    return (
        f"(if {prefix}* belongs to something else, list the Redis clients in "
        f"{PACKAGE_PREFIX}clients; then no other prefix is read)"
    )
