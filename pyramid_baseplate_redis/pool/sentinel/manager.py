"""Make the manager that asks a client's Sentinels, from the client's settings."""

from __future__ import annotations

from typing import Any

import redis
from redis.maint_notifications import MaintNotificationsConfig

from ...settings.client import ClientSettings
from ..blocking_pool import BlockingConnectionPool
from ..credentials import sentinel_credentials
from .discovery import SentinelClient, SentinelManager

_CONNECTIONS = 5  # to each Sentinel; one of them subscribes to its announcements
_HEALTH_CHECK = 5.0  # seconds after which a Sentinel that is gone is noticed


def sentinel_manager(settings: ClientSettings) -> SentinelManager:
    """Return a manager with one client for each Sentinel.

    The Sentinels have their own users and passwords; all else is configured as for the servers.
    """
    url, argument = settings.parsed_url, settings.keyword_argument
    # To ask all of them in vain takes no longer than to connect to one server and get a reply.
    share = len(url.hosts)
    reply, connect = argument("socket_timeout"), argument("socket_connect_timeout")
    kwargs: dict[str, Any] = {
        "name": settings.name,
        "max_connections": _CONNECTIONS,
        "socket_timeout": reply and reply / share,
        "socket_connect_timeout": connect and connect / share,
        # Callers queued behind a hung Sentinel soon give up and try the next one.
        "timeout": ((reply or 0) + (connect or 0)) / share or settings.pool_timeout.total_seconds(),
        "health_check_interval": _HEALTH_CHECK,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        **{key: argument(key) for key in ("socket_keepalive", "protocol", "client_name")},
        **sentinel_credentials(settings),
    }
    if url.is_tls:
        own = {key: value for key, value in settings.keywords.items() if key.startswith("ssl_")}
        kwargs |= {**settings.tls, **own, "connection_class": redis.SSLConnection}
    clients = [
        SentinelClient(connection_pool=BlockingConnectionPool(host=host, port=port, **kwargs))
        for host, port in url.hosts
    ]
    return SentinelManager(clients, settings.min_other_sentinels)
