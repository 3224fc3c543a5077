"""Prefixes that are nearly this package's own, or no usual names of clients."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ...exceptions import ConfigurationError
from ..fields import PACKAGE_PREFIX, one_edit_apart
from ..url import has_redis_scheme
from ..url_settings import URL_KEYS
from .prefix import Mistake, Prefix, settings_by_prefix

_PACKAGE = PACKAGE_PREFIX[:-1]
# pyramid_session_redis and its predecessors have redis.sessions.url.
_OF_OTHERS = ("sessions", "session")


def check_package_prefix(app_config: Mapping[str, Any]) -> None:
    """Refuse misspelled forms of the prefix ``baseplate_redis.``, and clients that start with it.

    :raises ConfigurationError: there is one.
    """
    for name, given in settings_by_prefix(app_config).items():
        client = name.removeprefix(PACKAGE_PREFIX)
        # The testing kit has baseplate_redis.testing.url.
        if client not in (name, "testing") and has_redis_scheme(given.get("url")):
            raise ConfigurationError(
                f"{name}.url: the settings of a client have no {PACKAGE_PREFIX} before them; write "
                f"{client}.url"
            )
        plain = name.replace("-", "_").lower().removeprefix("pyramid_")
        is_near = one_edit_apart(plain, _PACKAGE) and given.keys().isdisjoint(URL_KEYS)
        if name != _PACKAGE and (plain == _PACKAGE or is_near):
            key = next(iter(given))
            raise ConfigurationError(
                f"{name}.{key}: the settings of this package start with {PACKAGE_PREFIX}; write "
                f"{PACKAGE_PREFIX}{key}"
            )


def unusual_names(found: Collection[str]) -> Iterator[str]:
    """Yield warnings about clients whose names start with an underscore or in upper case.

    :param found: the names of the clients that only the settings declare.
    """
    for name in found:
        usual = name.lower().lstrip("_")
        if usual and (name.startswith("_") or name[0].isupper()):
            yield (
                f"{name}.url: declares the Redis client request.{name}; write {usual}.url if you "
                f"mean request.{usual}, or list the Redis clients in {PACKAGE_PREFIX}clients"
            )


def unusable_name(prefix: Prefix) -> Mistake | None:
    """Find a Redis URL of a name that cannot be an attribute of the request."""
    if not has_redis_scheme(prefix.given.get("url")):
        return None
    first, dot, rest = prefix.name.partition(".")
    if first == _PACKAGE:
        return None  # check_package_prefix() refuses it
    if first in ("redis", "valkey") and rest.isidentifier() and rest not in _OF_OTHERS:
        better = rest
    elif not dot or prefix.only_ours:
        better = re.sub(r"\W|^(?=\d)", "_", prefix.name)
    else:
        return None
    return Mistake(
        f"{prefix.name}.url: is a Redis URL, but {prefix.name} is not a Python identifier and "
        f"declares no client; write {better}.url",
        False,
    )
