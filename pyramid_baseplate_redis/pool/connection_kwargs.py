"""Checks of the keyword arguments for redis-py's connections, and facts read from them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import redis
from redis.connection import AbstractConnection
from redis.driver_info import DriverInfo

from ..exceptions import ConfigurationError

_PACKAGE = __name__.partition(".")[0]


def has_retries(connection_kwargs: Mapping[str, Any]) -> bool:
    """Return whether redis-py's own retries are on."""
    keys = ("retry", "retry_on_timeout", "retry_on_error")
    return any(connection_kwargs.get(key) for key in keys)


def server_address(connection_kwargs: Mapping[str, Any]) -> str:
    """Return the address of a pool's connections, for messages."""
    if "directory" in connection_kwargs:
        return "the embedded server"
    if "path" in connection_kwargs:
        return str(connection_kwargs["path"])
    if "connection_pool" in connection_kwargs:
        proxy = connection_kwargs["connection_pool"]
        return f"the {'primary' if proxy.is_master else 'replicas'} of {proxy.service_name}"
    if "host" not in connection_kwargs:
        return "the server"
    return f"{connection_kwargs['host']}:{connection_kwargs.get('port') or 6379}"


_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
# Modules of classes that pass their **kwargs on to the next class, up to AbstractConnection.
_PASS_ON = ("redis.", f"{_PACKAGE}.")


def check_keywords(pool_class: type, keywords: Mapping[str, Any], name: str = "") -> None:
    """Refuse a keyword argument that neither the pool nor its connections accept.

    redis-py raises the same error, but only when it makes the first connection.

    :param pool_class: the pool's class.
    :param keywords: the pool's keyword arguments, with those for its connections.
    :param name: the name to show instead of the class's name, for a private class.
    :raises TypeError: a keyword argument is unknown.
    """
    connection_class = keywords.get("connection_class", redis.Connection)
    taken = _keywords_of_connection(connection_class)
    if taken is None:
        return
    for cls in pool_class.__mro__:
        taken |= _named_parameters(cls)[0]
    unknown = sorted(set(keywords) - taken)
    if unknown:
        raise TypeError(
            f"unexpected keyword argument {unknown[0]!r}: neither "
            f"{name or pool_class.__name__} nor {connection_class.__name__} has it"
        )


def check_caching(name: str, keywords: Mapping[str, Any]) -> None:
    """Refuse redis-py's client-side caching.

    :param name: the client's name.
    :raises ConfigurationError: it is turned on.
    """
    for key in ("cache", "cache_config"):
        if keywords.get(key) is not None:
            raise ConfigurationError(
                f"{name}.{key}: redis-py's client-side caching deadlocks when threads share a "
                "client. Remove this keyword argument."
            )


def check_pool_caching(name: str, pool: Any) -> None:
    """Refuse a connection pool of redis-py that caches on the client's side.

    ``from_url`` makes a pool that caches from its keyword arguments.

    :param name: the client's name.
    :raises ConfigurationError: it does.
    """
    if getattr(pool, "cache", None) is not None:
        raise ConfigurationError(
            f"{name}.connection_pool: redis-py's client-side caching deadlocks when threads share "
            "a client. Remove the keyword argument cache or cache_config."
        )


def _driver_info() -> DriverInfo:
    try:
        version = metadata.version(_PACKAGE)
    except metadata.PackageNotFoundError:  # it was copied, not installed
        version = "unknown"
    return DriverInfo().add_upstream_driver(_PACKAGE, version)


# Made here, since redis-py would make one for each connection, and read its version from a file.
# On Python 3.13 that imports modules: if a process forks while another thread imports a module, the
# child hangs when it imports that module.
_DRIVER_INFO = _driver_info()
_DRIVER_KEYWORDS = {"driver_info", "lib_name", "lib_version"}


def add_driver_info(connection_kwargs: dict[str, Any]) -> None:
    """Have ``CLIENT LIST`` show this package, unless the application's arguments name another."""
    connection_class = connection_kwargs.get("connection_class", redis.Connection)
    takes_it = isinstance(connection_class, type) and issubclass(
        connection_class, AbstractConnection
    )
    if takes_it and _DRIVER_KEYWORDS.isdisjoint(connection_kwargs):
        connection_kwargs["driver_info"] = _DRIVER_INFO


def _keywords_of_connection(connection_class: Any) -> set[str] | None:
    """Return the keyword arguments that a connection accepts; ``None`` if it may accept any."""
    if not isinstance(connection_class, type):
        return None  # redis-py accepts any callable
    taken = {"cache", "cache_config"}
    for cls in connection_class.__mro__:
        if "__init__" not in vars(cls) or cls is object:
            continue
        names, takes_any = _named_parameters(cls)
        taken |= names
        if not takes_any:
            break
        if not f"{cls.__module__}.".startswith(_PASS_ON):
            return None  # only the class itself knows how it uses its **kwargs
    return taken


def _named_parameters(cls: type) -> tuple[set[str], bool]:
    """Return the parameters of the class's own ``__init__``, and whether it has ``**kwargs``."""
    if "__init__" not in vars(cls) or cls is object:
        return set(), False
    parameters = inspect.signature(vars(cls)["__init__"]).parameters.values()
    names = {item.name for item in parameters if item.kind not in _VARIABLE}
    return names, any(item.kind is inspect.Parameter.VAR_KEYWORD for item in parameters)
