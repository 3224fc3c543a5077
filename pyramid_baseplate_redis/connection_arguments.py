"""The keyword arguments of redis-py's connections: what they say, and which there are."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import redis


def has_retries(connection_kwargs: Mapping[str, Any]) -> bool:
    """Whether redis-py's own retries are on."""
    keys = ("retry", "retry_on_timeout", "retry_on_error")
    return any(connection_kwargs.get(key) for key in keys)


def server_address(connection_kwargs: Mapping[str, Any]) -> str:
    """Where a pool's connections go, for messages."""
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


def check_keywords(pool_class: type, keywords: Mapping[str, Any]) -> None:
    """Refuse a keyword argument that neither the pool nor its connections know.

    :raises TypeError: which redis-py raises on first use only.
    """
    connection_class = keywords.get("connection_class", redis.Connection)
    if not isinstance(connection_class, type):
        return  # any callable will do for redis-py, and nobody can tell what it takes
    known: set[str] = {"cache", "cache_config"}
    for cls in (*pool_class.__mro__, *connection_class.__mro__):
        if "__init__" in vars(cls) and cls is not object:
            parameters = inspect.signature(vars(cls)["__init__"]).parameters.values()
            known.update(item.name for item in parameters if item.kind not in _VARIABLE)
    unknown = sorted(set(keywords) - known)
    if unknown:
        raise TypeError(
            f"unexpected keyword argument {unknown[0]!r}: neither {pool_class.__name__} nor "
            f"{connection_class.__name__} has it"
        )
