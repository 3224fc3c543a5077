"""Settings that were meant to declare a client, but declare none.

A prefix is a client's if it has a key that other libraries don't have, or a value that was meant to
be a Redis URL. Each such prefix is an error. If it may belong to another library, it is a warning.
No message contains a value, which may be a password.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from ...exceptions import ConfigurationError
from .. import parsers
from ..client import SETTINGS
from ..fields import PACKAGE_PREFIX, attempt, elsewhere, one_edit_apart
from ..url import has_redis_scheme, scheme_problem
from ..url_settings import PLACES, URL_KEYS, ReadURL

_A_URL = "write a URL such as redis://localhost:6379/0"
_PACKAGE = PACKAGE_PREFIX[:-1]
_REDIS_PORTS = ("6379", "26379")
# Keys that no other library is known to have.
_ONLY_OURS = frozenset({
    "leak_warning", "retry_budget", "breaker_failures", "breaker_reset", "trace_query_text",
    "trace_exclude", "track_key_reads_sample_rate", "track_key_writes_sample_rate",
    "sentinel_password_file", "min_other_sentinels", "require_full_coverage",
})  # fmt: skip
# Keys that other libraries take from redis-py, as we do.
_REDIS_PY = ("socket_timeout", "socket_connect_timeout", "socket_keepalive", "decode_responses")
# pyramid_session_redis and its predecessors have redis.sessions.url.
_OTHERS_PARTS = ("sessions", "session")


class _Mistake(NamedTuple):
    message: str
    is_error: bool


class _Prefix(NamedTuple):
    """The settings of a prefix that declares no client.

    ``given`` has the values by the part of the key after the prefix and its dot.
    """

    name: str
    given: dict[str, Any]
    clients: Collection[str]
    read_url: ReadURL

    @property
    def only_ours(self) -> list[str]:
        """The keys that only this package has; a time with a unit is one."""
        return [
            key
            for key, value in self.given.items()
            if key in _ONLY_OURS or (_is_time(key) and not attempt(parsers.Timespan, value)[1])
        ]


def _is_time(key: str) -> bool:
    return key in SETTINGS and isinstance(SETTINGS[key].default, timedelta)


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
    warnings = [_odd_name(name) for name in found if name not in declared and _is_odd(name)]
    clients = {*found, *declared}
    for name, given in _prefixes(app_config).items():
        if name in clients or name == _PACKAGE:
            continue
        prefix = _Prefix(name, given, clients, read_url)
        checks = _CHECKS if name.isidentifier() else (_name,)
        mistake = next(filter(None, (check(prefix) for check in checks)), None)
        if mistake is None:
            continue
        message = f"{mistake.message} {elsewhere(f'{name}.')}"
        if mistake.is_error:
            raise ConfigurationError(message)
        warnings.append(message)
    return warnings


def check_package_prefix(app_config: Mapping[str, Any]) -> None:
    """Refuse misspelled forms of the prefix ``baseplate_redis.``, and clients that start with it.

    :raises ConfigurationError: there is one.
    """
    for name, given in _prefixes(app_config).items():
        client = name.removeprefix(PACKAGE_PREFIX)
        # The testing kit has baseplate_redis.testing.url.
        if client not in (name, "testing") and has_redis_scheme(given.get("url")):
            raise ConfigurationError(
                f"{name}.url: the settings of a client have no {PACKAGE_PREFIX} before them; write "
                f"{client}.url"
            )
        plain = name.replace("-", "_").lower().removeprefix("pyramid_")
        if name != _PACKAGE and (plain == _PACKAGE or one_edit_apart(plain, _PACKAGE)):
            key = next(iter(given))
            raise ConfigurationError(
                f"{name}.{key}: the settings of this package start with {PACKAGE_PREFIX}; write "
                f"{PACKAGE_PREFIX}{key}"
            )


def _prefixes(app_config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for key, value in app_config.items():
        prefix, _, rest = key.rpartition(".") if isinstance(key, str) else ("",) * 3
        if prefix:
            found.setdefault(prefix, {})[rest] = value
    return found


def _is_odd(name: str) -> bool:
    return name.startswith("_") or name[0].isupper()


def _odd_name(name: str) -> str:
    usual = name.lower().lstrip("_")
    return (
        f"{name}.url: declares the Redis client request.{name}; write {usual}.url if you mean "
        f"request.{usual}, or list the Redis clients in {PACKAGE_PREFIX}clients"
    )


def _name(prefix: _Prefix) -> _Mistake | None:
    """Find a Redis URL of a name that cannot be an attribute of the request."""
    if not has_redis_scheme(prefix.given.get("url")):
        return None
    first, dot, rest = prefix.name.partition(".")
    if first == _PACKAGE:
        return None  # see check_package_prefix()
    if first in ("redis", "valkey") and rest.isidentifier() and rest not in _OTHERS_PARTS:
        better = rest
    elif not dot or prefix.only_ours:
        better = re.sub(r"\W|^(?=\d)", "_", prefix.name)
    else:
        return None
    return _Mistake(
        f"{prefix.name}.url: is a Redis URL, but {prefix.name} is not a Python identifier and "
        f"declares no client; write {better}.url",
        False,
    )


def _url(prefix: _Prefix) -> _Mistake | None:
    """Find a URL that has no Redis scheme."""
    url = prefix.given.get("url")
    if not isinstance(url, str):
        return None
    key = f"{prefix.name}.url"
    if not url.strip():
        return _Mistake(f"{key}: is empty; {_A_URL}", bool(prefix.only_ours))
    problem, was_meant = scheme_problem(url)
    if was_meant or _leads_to_redis(prefix, "url_env", re.sub(r"[${}\s]", "", url)):
        return _Mistake(f"{key}: {problem}", True)
    if prefix.only_ours:
        return _Mistake(f"{key}: {problem}; {prefix.name}.{prefix.only_ours[0]} is set", True)
    if "://" not in url and any(name in prefix.given for name in _REDIS_PY):
        return _Mistake(f"{key}: {problem}", False)
    return None


def _leads_to_redis(prefix: _Prefix, url_key: str, place: Any) -> bool:
    name, problem = attempt(PLACES[url_key], place)
    if problem:
        return False
    url, problem = attempt(lambda name: prefix.read_url(url_key, name), name)
    return not problem and scheme_problem(url)[1]


def _url_key(prefix: _Prefix) -> _Mistake | None:
    """Find a key that is nearly ``url``, ``url_env`` or ``url_file``."""
    if not prefix.given.keys().isdisjoint(URL_KEYS):
        return None
    for key, value in prefix.given.items():
        for near in URL_KEYS:
            if key.lower() != near and not one_edit_apart(key.lower(), near):
                continue
            message = f"{prefix.name}.{key}: unknown setting; did you mean {prefix.name}.{near}?"
            if near != "url" and _leads_to_redis(prefix, near, value):
                return _Mistake(message, True)
            if near == "url" and isinstance(value, str) and scheme_problem(value)[1]:
                # Other libraries have "uri" and "urls".
                is_ours = key not in ("uri", "urls") or bool(prefix.only_ours)
                return _Mistake(message, is_ours)
    return None


def _address(prefix: _Prefix) -> _Mistake | None:
    """Find a host and a port in place of a URL."""
    given = prefix.given
    found = [key for key in ("host", "port") if key in given]
    is_redis = re.search("redis|valkey", prefix.name, re.IGNORECASE) is not None
    if not found or not given.keys().isdisjoint(URL_KEYS):
        return None
    if not is_redis and str(given.get("port")).strip() not in _REDIS_PORTS:
        return None
    return _Mistake(
        f"{prefix.name}.{found[0]}: declares no Redis client; write the host and the port in "
        f"{prefix.name}.url, such as redis://localhost:6379/0",
        bool(prefix.only_ours),
    )


def _other_settings(prefix: _Prefix) -> _Mistake | None:
    """Find a client's settings without a URL, or with a client's name that is misspelled."""
    given, name = prefix.given, prefix.name
    if not given.keys().isdisjoint({*URL_KEYS, "queue"}):
        return None
    near = next((client for client in _long(prefix.clients) if one_edit_apart(client, name)), "")
    if near and given.keys() <= SETTINGS.keys():
        key = next(iter(given))
        message = f"{name}.{key}: there is no Redis client {name}; did you mean {near}.{key}?"
        return _Mistake(message, bool(prefix.only_ours))
    if prefix.only_ours:
        message = f"{name}.{prefix.only_ours[0]}: a Redis client has this setting, but {name}.url"
        return _Mistake(f"{message} is missing; {_A_URL}", False)
    return None


def _long(names: Collection[str]) -> Iterator[str]:
    """Yield the names that are long enough for a single letter to be a slip."""
    return (name for name in names if len(name) > 2)


_CHECKS = (_url, _url_key, _address, _other_settings)
