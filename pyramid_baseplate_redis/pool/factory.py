"""Make connection pools from the settings of a client. Nothing here opens a socket."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any

import redis
from redis.maint_notifications import MaintNotificationsConfig

from ..exceptions import ConfigurationError
from ..settings.client import ClientSettings
from ..settings.sources import load_client_settings
from ..settings.tls import verify
from ..settings.url import SENTINEL_EXAMPLE
from ..telemetry.hot_keys.tracker import HotKeyTracker
from .blocking_pool import BlockingConnectionPool
from .circuit_breaker import CircuitBreaker
from .connection_kwargs import server_address
from .credentials import server_credentials
from .sentinel.manager import sentinel_manager
from .sentinel.pool import SentinelBlockingConnectionPool, SentinelConnection, SentinelSSLConnection

__all__ = [
    "BlockingConnectionPool",
    "pool_from_config",
    "pool_from_settings",
    "sentinel_pool_from_config",
]


def pool_from_config(
    app_config: Mapping[str, Any], prefix: str = "redis.", **kwargs: Any
) -> BlockingConnectionPool:
    """Make a connection pool from the settings that start with ``prefix``.

    :param app_config: the application's settings.
    :param prefix: the beginning of the keys, with the dot.
    :param kwargs: passed to the pool and through it to its connections; they win over the
        settings. Times are in seconds, as in redis-py.
    :returns: a :class:`redis.BlockingConnectionPool` that has not opened any socket.
    :raises ConfigurationError: a setting is missing, malformed or names an unreadable file.
    :raises TypeError: a keyword argument is unknown to redis-py.

    The name and the parameters are those of ``baseplate.clients.redis.pool_from_config``.
    """
    return pool_from_settings(load_client_settings(app_config, prefix), **kwargs)


def sentinel_pool_from_config(
    app_config: Mapping[str, Any], prefix: str = "redis.", **kwargs: Any
) -> SentinelBlockingConnectionPool:
    """Make a pool of connections to the server that Sentinels name.

    The parameters are those of :func:`pool_from_config`.

    :raises ConfigurationError: as there, or the URL isn't a ``redis+sentinel://`` one.
    :raises TypeError: a keyword argument is unknown to redis-py.
    """
    settings = load_client_settings(app_config, prefix)
    check_sentinel(settings)
    pool = pool_from_settings(settings, **kwargs)
    assert isinstance(pool, SentinelBlockingConnectionPool)
    return pool


def check_sentinel(settings: ClientSettings) -> None:
    """Refuse a URL that isn't a ``redis+sentinel://`` one.

    :raises ConfigurationError: it isn't; the message shows how to write one.
    """
    if not settings.parsed_url.is_sentinel:
        raise ConfigurationError(
            f"{settings.url_place}: is not a Sentinel URL. Write it like {SENTINEL_EXAMPLE}"
        )


def pool_from_settings(settings: ClientSettings, **kwargs: Any) -> BlockingConnectionPool:
    """Make the pool of a client from settings that were read; see :func:`pool_from_config`.

    :raises ConfigurationError: as there, or the URL leads to a Cluster.
    :raises TypeError: a keyword argument is unknown to redis-py.
    """
    if settings.parsed_url.is_cluster:
        raise ConfigurationError(
            f"{settings.url_place}: is a Cluster URL, and each node of a Cluster has its own "
            "pool. Use cluster_pool_from_config() instead."
        )
    settings = settings.overridden_by(kwargs)
    keywords = pool_kwargs(settings)
    client = partial(plain_client, settings)
    rates = settings.track_key_reads_sample_rate, settings.track_key_writes_sample_rate
    if any(rates):
        keywords.setdefault("hot_keys", HotKeyTracker(client, *rates, settings.name))
    pool: BlockingConnectionPool
    if settings.parsed_url.is_sentinel:
        pool = SentinelBlockingConnectionPool(
            settings.parsed_url.service,
            sentinel_manager(settings),
            is_master=settings.read_from == "primary",
            **keywords,
        )
    else:
        pool = BlockingConnectionPool(**keywords)
    pool.make_background_client = client
    return pool


# Those that have a value for any kind of server. Keyword arguments of the same names win.
_SETTINGS_OF_POOLS = (
    "max_connections", "timeout", "max_idle_time", "max_lifetime", "leak_warning", "socket_timeout",
    "socket_connect_timeout", "health_check_interval", "decode_responses", "client_name",
)  # fmt: skip


def pool_kwargs(settings: ClientSettings) -> dict[str, Any]:
    """Return the keyword arguments for a pool and its connections.

    :param settings: with the application's keyword arguments, which win.
    :raises ConfigurationError: as for :func:`pool_from_config`.
    """
    connection_class = settings.keywords.get("connection_class")
    is_tls = isinstance(connection_class, type) and issubclass(
        connection_class, redis.SSLConnection
    )
    verify(settings, uses_tls=is_tls or settings.parsed_url.is_tls)
    kwargs = {
        "name": settings.name,
        "db": settings.db,
        **{keyword: settings.keyword_argument(keyword) for keyword in _SETTINGS_OF_POOLS},
        # With "auto", redis-py stops checking for unread data when a connection is checked out.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        **_address(settings),
    }
    if settings.protocol is not None:
        kwargs["protocol"] = settings.protocol
    kwargs |= settings.keywords
    if "breaker" not in kwargs:
        kwargs["breaker"] = make_breaker(settings, _server_of(settings, kwargs))
    return kwargs | server_credentials(settings) | {"client_settings": settings}


def make_breaker(settings: ClientSettings, server: str) -> CircuitBreaker | None:
    """Return the circuit breaker for a pool, or ``None`` if the settings turn it off.

    :param server: the server's address, for messages.
    """
    if not settings.breaker_failures:
        return None
    reset = settings.breaker_reset.total_seconds()
    return CircuitBreaker(settings.name, settings.breaker_failures, reset, server)


def _server_of(settings: ClientSettings, keywords: Mapping[str, Any]) -> str:
    url = settings.parsed_url
    return (
        f"the {settings.read_from} of {url.service}"
        if url.is_sentinel
        else server_address(keywords)
    )


# Keyword arguments that background_settings() leaves out: it sets them, or only requests' clients
# use them.
_OF_REQUESTS_ONLY = frozenset({
    "max_connections", "timeout", "retry", "retry_on_error", "retry_on_timeout", "decode_responses",
    "queue_class", "breaker", "hot_keys", "leak_warning", "max_idle_time",
})  # fmt: skip


def background_settings(settings: ClientSettings, overrides: Mapping[str, Any]) -> ClientSettings:
    """Return the settings of a client with one connection for background work, without telemetry.

    :param settings: those of the requests' client, with its keyword arguments.
    :param overrides: keyword arguments that win over those.
    """
    none = timedelta(0)
    kept = {key: value for key, value in settings.keywords.items() if key not in _OF_REQUESTS_ONLY}
    return dataclasses.replace(
        settings,
        keywords={**kept, **overrides},
        max_connections=1,
        retries=0,
        breaker_failures=0,
        leak_warning=none,
        max_idle_time=none,  # no background thread for a single connection
        decode_responses=False,
        read_from="primary",  # a replica can't be written to
        read_from_replicas=False,
        track_key_reads_sample_rate=0.0,
        track_key_writes_sample_rate=0.0,
    )


def plain_client(settings: ClientSettings, **overrides: Any) -> redis.Redis:
    """Return a client with one connection for background work, without telemetry.

    It takes no connection from the pool that requests use.

    :param settings: those of that pool, with its keyword arguments.
    :param overrides: keyword arguments that win over those.
    """
    return redis.Redis.from_pool(pool_from_settings(background_settings(settings, overrides)))


def _address(settings: ClientSettings) -> dict[str, Any]:
    url = settings.parsed_url
    if url.scheme == "embedded":
        # Imported here because production never needs the code that starts servers.
        from .embedded import EmbeddedConnection, missing_extra

        if missing := missing_extra():
            raise ConfigurationError(f"{settings.url_key}: {missing}")
        return {"connection_class": EmbeddedConnection, "directory": url.path or None}
    if url.scheme == "unix":
        return {"connection_class": redis.UnixDomainSocketConnection, "path": url.path}
    address: dict[str, Any] = {"socket_keepalive": settings.socket_keepalive}
    if url.is_tls:
        address |= settings.tls
    if url.is_sentinel:
        address["connection_class"] = SentinelSSLConnection if url.is_tls else SentinelConnection
    elif url.is_tls:
        address["connection_class"] = redis.SSLConnection
    if not (url.is_sentinel or url.is_cluster):  # those find the addresses of their servers
        address |= {"host": url.host, "port": url.port}
    return address
