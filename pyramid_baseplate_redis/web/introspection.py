"""The facts on clients and queues for Pyramid's introspection, without secrets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..settings.client import HIDDEN, SETTING_OF_KEYWORD

if TYPE_CHECKING:
    from pyramid.config import Configurator

CLIENTS_CATEGORY = "redis clients"
QUEUES_CATEGORY = "redis message queues"
REQUEST_CATEGORY = "request extensions"  # Pyramid's
_PLAIN = (bool, int, float, type(None))


def client_facts(name: str, factory: Any, client: Any) -> dict[str, Any]:
    """Return the settings that apply to a client, keyword arguments included.

    Keyword arguments that don't correspond to a setting are shown by name only.

    :param factory: the client's :class:`~.interfaces.IRedisContextFactory`.
    :param client: the application's :class:`~.factories.RedisClient`, or ``None``.
    """
    pool = factory.connection_pool
    kwargs = getattr(client, "kwargs", {})
    facts: dict[str, Any] = {
        "name": name,
        "redis_client_name": getattr(client, "redis_client_name", "") or name,
        "pool": type(pool).__name__,
        "keyword_arguments": sorted(kwargs),
    }
    settings = getattr(pool, "client_settings", None)
    if settings is None:
        return facts
    url = settings.parsed_url
    facts["kind"] = "Cluster" if url.is_cluster else "Sentinel" if url.is_sentinel else "standalone"
    facts |= settings.shown()
    for key, value in kwargs.items():
        setting = SETTING_OF_KEYWORD.get(key)
        if setting is not None and (value is not None or setting in facts):
            facts[setting] = _shown(setting, value)
    return facts


def _shown(setting: str, value: Any) -> Any:
    """Return a keyword argument's value, in redis-py's units; hide text, which may be secret."""
    return value if isinstance(value, _PLAIN) and setting not in HIDDEN else "***"


@contextmanager
def source_line_hidden(config: Configurator, name: str, client: Any) -> Iterator[None]:
    """Hide the source code of the actions in the block, if the application gave a RedisClient.

    Pyramid quotes the line of code that declares something. If the line makes a RedisClient, it
    may contain a password. The file and the line number stay.
    """
    if client is None:
        yield
        return
    info, before = config.action_info, config.info
    config.info = type(info)(info.file, info.line, info.function, f"the Redis client {name}")
    try:
        yield
    finally:
        config.info = before


def relate_client(config: Configurator, name: str) -> None:
    """Relate a client to its attribute of the request."""
    _relate(config, (CLIENTS_CATEGORY, name), (REQUEST_CATEGORY, name))


def relate_queue(config: Configurator, queue: Any) -> None:
    """Relate a queue to its client and to its attribute of the request.

    :param queue: the queue's introspectable.
    """
    for other in (CLIENTS_CATEGORY, queue["client"]), (REQUEST_CATEGORY, queue["name"]):
        _relate(config, (QUEUES_CATEGORY, queue["name"]), other)


def _relate(config: Configurator, *pairs: tuple[str, str]) -> None:
    # Both are missing if the application has switched introspection off.
    if all(config.introspector.get(*pair) is not None for pair in pairs):
        config.introspector.relate(*pairs)
