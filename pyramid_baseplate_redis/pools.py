"""Connection pools: ClientSettings become a redis-py pool. Nothing here opens a socket."""

from __future__ import annotations

import dataclasses
import ssl
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any

import redis
from redis.maint_notifications import MaintNotificationsConfig

from .blocking_pool import BlockingConnectionPool
from .breaker import CircuitBreaker
from .connection_arguments import server_address
from .exceptions import ConfigurationError
from .files import PasswordFile, check_files, client_settings, warn_if_unverified
from .hot_keys import HotKeyTracker
from .settings import ClientSettings

__all__ = ["BlockingConnectionPool", "pool_from_config", "pool_from_settings"]


def pool_from_config(
    app_config: Mapping[str, Any], prefix: str = "redis.", **kwargs: Any
) -> BlockingConnectionPool:
    """Make a connection pool from the settings that start with ``prefix``.

    :param app_config: the application's settings.
    :param prefix: what the keys start with, dot included.
    :param kwargs: passed to the pool and through it to its connections; they win over the
        settings. Times are seconds here, as in redis-py.
    :returns: a :class:`redis.BlockingConnectionPool` that has not opened any socket.
    :raises ConfigurationError: if a setting is missing, malformed or names an unreadable file.
    :raises TypeError: if redis-py doesn't know a keyword argument.

    The name and the parameters are those of ``baseplate.clients.redis.pool_from_config``.
    """
    return pool_from_settings(client_settings(app_config, prefix), **kwargs)


def pool_from_settings(settings: ClientSettings, **kwargs: Any) -> BlockingConnectionPool:
    """Make the pool of a client; like :func:`pool_from_config`, from settings already read."""
    check_files(settings)
    _check_tls_version(settings, kwargs)
    warn_if_unverified(settings, kwargs)
    keywords: dict[str, Any] = {
        "max_connections": settings.max_connections,
        "timeout": settings.pool_timeout.total_seconds(),
        "name": settings.name,
        "max_idle_time": settings.max_idle_time.total_seconds(),
        "max_lifetime": settings.max_lifetime.total_seconds(),
        "leak_warning": settings.leak_warning.total_seconds(),
        "db": settings.db,
        "socket_timeout": settings.socket_timeout.total_seconds(),
        "socket_connect_timeout": settings.socket_connect_timeout.total_seconds(),
        "health_check_interval": settings.health_check_interval.total_seconds(),
        "protocol": settings.protocol,
        "decode_responses": settings.decode_responses,
        "client_name": settings.client_name,
        # With "auto", redis-py no longer checks at checkout that no unread reply is left.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        **_address(settings),
    }
    if settings.breaker_failures:
        keywords["breaker"] = CircuitBreaker(
            settings.name,
            settings.breaker_failures,
            settings.breaker_reset.total_seconds(),
            server_address(keywords | kwargs),
        )
    rates = settings.track_key_reads_sample_rate, settings.track_key_writes_sample_rate
    if any(rates):
        client = partial(_plain_client, settings, kwargs)
        keywords["hot_keys"] = HotKeyTracker(client, *rates, settings.name)
    if kwargs.get("retry") is not None:  # redis-py's own retries take the place of ours
        settings = dataclasses.replace(settings, retries=0)
    return BlockingConnectionPool(
        client_settings=settings, **(keywords | kwargs | _credentials(settings, kwargs))
    )


# What the settings of a plain client say, or what only the requests' client is to have.
_NOT_OF_PLAIN_CLIENT = frozenset({
    "max_connections", "timeout", "retry", "retry_on_error", "retry_on_timeout", "decode_responses",
    "cache", "cache_config", "queue_class", "breaker", "hot_keys", "leak_warning", "max_idle_time",
})  # fmt: skip


def _plain_client(settings: ClientSettings, kwargs: Mapping[str, Any]) -> redis.Redis:
    """A client for the background, not monitored, which takes no connection from a request's."""
    none = timedelta(0)
    settings = dataclasses.replace(
        settings,
        max_connections=1,
        retries=0,
        breaker_failures=0,
        leak_warning=none,
        max_idle_time=none,  # or else another thread would look after the one connection
        decode_responses=False,
        track_key_reads_sample_rate=0.0,
        track_key_writes_sample_rate=0.0,
    )
    own = {key: value for key, value in kwargs.items() if key not in _NOT_OF_PLAIN_CLIENT}
    return redis.Redis.from_pool(pool_from_settings(settings, **own))


def _check_tls_version(settings: ClientSettings, kwargs: Mapping[str, Any]) -> None:
    version = kwargs.get("ssl_min_version")
    if version is not None and version < ssl.TLSVersion.TLSv1_2:
        raise ConfigurationError(
            f"{settings.prefix}ssl_min_version: the keyword argument allows versions below TLSv1.2"
        )


def _credentials(settings: ClientSettings, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments first; redis-py takes either a provider or a user name and a password."""
    if kwargs.get("credential_provider") is not None:
        return {}
    username = kwargs.get("username", settings.username)
    if settings.password_file is not None and kwargs.get("password") is None:
        key = f"{settings.prefix}password_file"
        provider = PasswordFile(key, username, settings.password_file)
        return {"credential_provider": provider, "username": None, "password": None}
    return {"username": username, "password": kwargs.get("password", settings.password)}


def _address(settings: ClientSettings) -> dict[str, Any]:
    url = settings.parsed_url
    if url.scheme == "embedded":
        # Not above: production needn't load what starts servers.
        from .embedded import EmbeddedConnection, missing_extra

        if missing := missing_extra():
            raise ConfigurationError(f"{settings.url_key}: {missing}")
        return {"connection_class": EmbeddedConnection, "directory": url.path or None}
    if url.scheme == "unix":
        return {"connection_class": redis.UnixDomainSocketConnection, "path": url.path}
    address = {
        "host": url.host,
        "port": url.port,
        "socket_keepalive": settings.socket_keepalive,
    }
    if url.scheme != "rediss":
        return address
    return address | settings.tls | {"connection_class": redis.SSLConnection}
