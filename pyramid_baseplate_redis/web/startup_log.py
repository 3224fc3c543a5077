"""The line that an application logs at start: its clients and its queues, without secrets."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

from pyramid.events import ApplicationCreated

from ..interfaces import IMessageQueueFactory, IRedisContextFactory
from ..settings.client import ClientSettings
from ..settings.package import package_settings
from ..settings.url import redacted

logger = logging.getLogger(__package__)


def log_clients(event: ApplicationCreated) -> None:
    """Log the application's Redis clients and message queues, or a warning if it has no client.

    An application that says so with an empty ``baseplate_redis.clients`` gets no warning.
    """
    registry = event.app.registry
    factories = sorted(registry.getUtilitiesFor(IRedisContextFactory))
    if factories:
        clients = ", ".join(f"{name}{_address(factory)}" for name, factory in factories)
        queues = ", ".join(
            f"{name} ({'durable' if factory.settings.durable else 'list'})"
            for name, factory in sorted(registry.getUtilitiesFor(IMessageQueueFactory))
        )
        logger.info("Redis clients: %s%s", clients, f"; message queues: {queues}" if queues else "")
    elif package_settings(registry).clients is None:
        others = sorted(key for key in map(str, registry.settings) if _names_a_url(key))
        logger.warning(
            "no Redis client is configured: no setting such as foo.url has a Redis URL%s, and "
            "config.add_redis_client() was not called. Write foo.url = redis://localhost:6379/0 "
            "into the application's settings, or an empty baseplate_redis.clients if there is no "
            "client",
            f" (not one: {', '.join(others)})" if others else "",
        )


def _names_a_url(key: str) -> bool:
    name, _, rest = key.rpartition(".")
    return rest == "url" and name.isidentifier()


def _address(factory: Any) -> str:
    settings = getattr(factory.connection_pool, "client_settings", None)
    return f" ({_server(settings)})" if isinstance(settings, ClientSettings) else ""


def _server(settings: ClientSettings) -> str:
    url = settings.parsed_url
    if settings.url_key != f"{settings.prefix}url":
        return settings.url_place  # nothing of a URL in a file or a variable is shown
    if url.is_cluster:
        return f"cluster, {len(url.hosts)} {'node' if len(url.hosts) == 1 else 'nodes'} named"
    address = {key: settings.keywords[key] for key in ("host", "port") if key in settings.keywords}
    db = settings.keywords.get("db", settings.db)
    return redacted(dataclasses.replace(url, **address), None, False, db)
