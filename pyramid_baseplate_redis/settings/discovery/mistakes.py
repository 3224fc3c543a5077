"""Settings that were meant to declare a client, but declare none.

A prefix is a client's if it has a key that other libraries don't have, or a value that was meant to
be a Redis URL. Each such prefix is an error. If it may belong to another library, it is a warning.
No message contains a value, which may be a password.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ...exceptions import ConfigurationError
from ..client import SETTINGS
from ..fields import PACKAGE_PREFIX, attempt, elsewhere, one_edit_apart
from ..url import scheme_problem
from ..url_settings import PLACES, URL_KEYS, ReadURL
from .names import unusable_name, unusual_names
from .prefix import Mistake, Prefix, settings_by_prefix

_A_URL = "write a URL such as redis://localhost:6379/0"
_REDIS_PORTS = ("6379", "26379")
# Keys that other libraries take from redis-py, as we do.
_REDIS_PY = ("socket_timeout", "socket_connect_timeout", "socket_keepalive", "decode_responses")


def check_prefixes(
    app_config: Mapping[str, Any],
    found: Collection[str],
    declared: Collection[str],
    read_url: ReadURL,
) -> list[str]:
    """Return warnings about settings that look like those of a client, but declare none.

    :param app_config: all settings of the application, which has no ``baseplate_redis.clients``.
    :param found: the names of the clients that the settings declare.
    :param declared: the names of the clients that the application declares.
    :param read_url: as for :meth:`ClientSettings.from_config`.
    :raises ConfigurationError: settings are clearly a client's.
    """
    warnings = list(unusual_names([name for name in found if name not in declared]))
    clients = {*found, *declared}
    for name, given in settings_by_prefix(app_config).items():
        if name in clients or name == PACKAGE_PREFIX[:-1]:
            continue
        prefix = Prefix(name, given, clients, read_url)
        checks = _CHECKS if name.isidentifier() else (unusable_name,)
        mistake = next(filter(None, (check(prefix) for check in checks)), None)
        if mistake is None:
            continue
        message = f"{mistake.message} {elsewhere(f'{name}.')}"
        if mistake.is_error:
            raise ConfigurationError(message)
        warnings.append(message)
    return warnings


def _url(prefix: Prefix) -> Mistake | None:
    """Find a URL that has no Redis scheme."""
    url = prefix.given.get("url")
    if not isinstance(url, str):
        return None
    key = f"{prefix.name}.url"
    if not url.strip():
        return Mistake(f"{key}: is empty; {_A_URL}", bool(prefix.only_ours))
    problem, was_meant = scheme_problem(url)
    if was_meant or _leads_to_redis(prefix, "url_env", re.sub(r"[${}\s]", "", url)):
        return Mistake(f"{key}: {problem}", True)
    if prefix.only_ours:
        return Mistake(f"{key}: {problem}; {prefix.name}.{prefix.only_ours[0]} is set", True)
    is_likely = _names_redis(prefix) or any(key in prefix.given for key in _REDIS_PY)
    if "://" not in url and is_likely:
        return Mistake(f"{key}: {problem}", False)
    return None


def _names_redis(prefix: Prefix) -> bool:
    return re.search("redis|valkey", prefix.name, re.IGNORECASE) is not None


def _leads_to_redis(prefix: Prefix, url_key: str, place: Any) -> bool:
    name, problem = attempt(PLACES[url_key], place)
    if problem:
        return False
    url, problem = attempt(lambda name: prefix.read_url(url_key, name), name)
    return not problem and scheme_problem(url)[1]


def _url_key(prefix: Prefix) -> Mistake | None:
    """Find a key that is nearly ``url``, ``url_env`` or ``url_file``."""
    if not prefix.given.keys().isdisjoint(URL_KEYS):
        return None
    for key, value in prefix.given.items():
        for near in URL_KEYS:
            if key.lower() != near and not one_edit_apart(key.lower(), near):
                continue
            message = f"{prefix.name}.{key}: unknown setting; did you mean {prefix.name}.{near}?"
            if near != "url" and _leads_to_redis(prefix, near, value):
                return Mistake(message, True)
            if near == "url" and isinstance(value, str) and scheme_problem(value)[1]:
                # Other libraries have "uri" and "urls".
                is_ours = key not in ("uri", "urls") or bool(prefix.only_ours)
                return Mistake(message, is_ours)
    return None


def _address(prefix: Prefix) -> Mistake | None:
    """Find a host and a port in place of a URL."""
    given = prefix.given
    found = [key for key in ("host", "port") if key in given]
    if not found or not given.keys().isdisjoint(URL_KEYS):
        return None
    if not _names_redis(prefix) and str(given.get("port")).strip() not in _REDIS_PORTS:
        return None
    return Mistake(
        f"{prefix.name}.{found[0]}: declares no Redis client; write the host and the port in "
        f"{prefix.name}.url, such as redis://localhost:6379/0",
        bool(prefix.only_ours),
    )


def _other_settings(prefix: Prefix) -> Mistake | None:
    """Find a client's settings without a URL, or with a client's name that is misspelled."""
    given, name = prefix.given, prefix.name
    if not given.keys().isdisjoint({*URL_KEYS, "queue"}):
        return None
    near = next((client for client in _long(prefix.clients) if one_edit_apart(client, name)), "")
    if near and given.keys() <= SETTINGS.keys():
        key = next(iter(given))
        message = f"{name}.{key}: there is no Redis client {name}; did you mean {near}.{key}?"
        return Mistake(message, bool(prefix.only_ours))
    if prefix.only_ours:
        message = f"{name}.{prefix.only_ours[0]}: a Redis client has this setting, but {name}.url"
        return Mistake(f"{message} is missing; {_A_URL}", False)
    return None


def _long(names: Collection[str]) -> Iterator[str]:
    """Yield the names that are long enough for a single letter to be a slip."""
    return (name for name in names if len(name) > 2)


_CHECKS = (_url, _url_key, _address, _other_settings)
