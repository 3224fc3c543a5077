"""Make connection pools from the settings of a client. Nothing here opens a socket."""

from __future__ import annotations

import dataclasses
import logging
import ssl
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any

import redis
from redis.maint_notifications import MaintNotificationsConfig

from ..exceptions import ConfigurationError
from ..settings.client import ClientSettings
from ..settings.sources import load_client_settings
from ..settings.tls import check_files
from ..settings.url import SENTINEL_EXAMPLE
from ..telemetry.hot_keys import HotKeyTracker
from .blocking_pool import BlockingConnectionPool
from .circuit_breaker import CircuitBreaker
from .connection_kwargs import server_address
from .credentials import PasswordFile
from .sentinel.discovery import SentinelClient, SentinelManager
from .sentinel.pool import SentinelBlockingConnectionPool, SentinelConnection, SentinelSSLConnection

__all__ = [
    "BlockingConnectionPool",
    "pool_from_config",
    "pool_from_settings",
    "sentinel_pool_from_config",
]

# Messages that this process has logged: a second application makes the same pools again.
_warned: set[str] = set()
# Connections to each Sentinel, one of which subscribes to its announcements.
_SENTINEL_CONNECTIONS = 5
_SENTINEL_HEALTH_CHECK = 5.0  # seconds after which a Sentinel that is gone is noticed


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
    keywords, settings = pool_keywords(settings, kwargs)
    rates = settings.track_key_reads_sample_rate, settings.track_key_writes_sample_rate
    client = partial(plain_client, settings, kwargs)
    if any(rates):
        keywords.setdefault("hot_keys", HotKeyTracker(client, *rates, settings.name))
    pool: BlockingConnectionPool
    if settings.parsed_url.is_sentinel:
        pool = SentinelBlockingConnectionPool(
            settings.parsed_url.service,
            _sentinel_manager(settings, kwargs),
            is_master=settings.read_from == "primary",
            **keywords,
        )
    else:
        pool = BlockingConnectionPool(**keywords)
    pool.make_background_client = client
    return pool


def pool_keywords(
    settings: ClientSettings, kwargs: Mapping[str, Any]
) -> tuple[dict[str, Any], ClientSettings]:
    """Return the keyword arguments for a pool, and the settings changed to agree with them.

    :param kwargs: keyword arguments that win over the settings.
    :raises ConfigurationError: as for :func:`pool_from_config`.
    """
    settings = dataclasses.replace(settings, keywords=dict(kwargs))
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
        "decode_responses": settings.decode_responses,
        "client_name": settings.client_name,
        # With "auto", redis-py stops checking for unread data when a connection is checked out.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        **_address(settings),
    }
    if settings.protocol is not None:
        keywords["protocol"] = settings.protocol
    keywords["breaker"] = make_breaker(settings, _server_of(settings, {**keywords, **kwargs}))
    if kwargs.get("retry") is not None:  # redis-py's own retries replace ours
        settings = dataclasses.replace(settings, retries=0)
    keywords |= {**kwargs, **_credentials(settings, kwargs), "client_settings": settings}
    return keywords, settings


def _sentinel_manager(settings: ClientSettings, kwargs: Mapping[str, Any]) -> SentinelManager:
    """Return a manager with one client for each Sentinel.

    The Sentinels have their own users and passwords; all else is configured as for the servers.
    """
    url = settings.parsed_url
    # To ask all of them in vain takes no longer than to connect to one server and get a reply.
    share = len(url.hosts)
    reply = kwargs.get("socket_timeout", settings.socket_timeout.total_seconds())
    connect = kwargs.get("socket_connect_timeout", settings.socket_connect_timeout.total_seconds())
    keywords: dict[str, Any] = {
        "name": settings.name,
        "max_connections": _SENTINEL_CONNECTIONS,
        "socket_timeout": reply and reply / share,
        "socket_connect_timeout": connect and connect / share,
        # Callers queued behind a hung Sentinel soon give up and try the next one.
        "timeout": ((reply or 0) + (connect or 0)) / share or settings.pool_timeout.total_seconds(),
        "socket_keepalive": kwargs.get("socket_keepalive", settings.socket_keepalive),
        "health_check_interval": _SENTINEL_HEALTH_CHECK,
        "protocol": kwargs.get("protocol", settings.protocol),
        "client_name": kwargs.get("client_name", settings.client_name),
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        "username": settings.sentinel_username,
        "password": settings.sentinel_password,
    }
    if settings.sentinel_password_file is not None:
        key, username = f"{settings.prefix}sentinel_password_file", settings.sentinel_username
        provider = PasswordFile(key, username, settings.sentinel_password_file)
        keywords |= {"credential_provider": provider, "username": None, "password": None}
    if url.is_tls:
        own = {key: value for key, value in kwargs.items() if key.startswith("ssl_")}
        keywords |= {**settings.tls, **own, "connection_class": redis.SSLConnection}
    clients = [
        SentinelClient(connection_pool=BlockingConnectionPool(host=host, port=port, **keywords))
        for host, port in url.hosts
    ]
    return SentinelManager(clients, settings.min_other_sentinels)


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


# Keyword arguments that plain_client() ignores: it sets them, or only requests' clients use them.
_NOT_OF_PLAIN_CLIENT = frozenset({
    "max_connections", "timeout", "retry", "retry_on_error", "retry_on_timeout", "decode_responses",
    "queue_class", "breaker", "hot_keys", "leak_warning", "max_idle_time",
})  # fmt: skip


def plain_client(
    settings: ClientSettings, kwargs: Mapping[str, Any], **overrides: Any
) -> redis.Redis:
    """Return a client with one connection for background work, without telemetry.

    It takes no connection from the pool that requests use.

    :param kwargs: the keyword arguments of that pool.
    :param overrides: keyword arguments that win over those.
    """
    none = timedelta(0)
    settings = dataclasses.replace(
        settings,
        max_connections=1,
        retries=0,
        breaker_failures=0,
        leak_warning=none,
        max_idle_time=none,  # no background thread for a single connection
        decode_responses=False,
        read_from="primary",  # a replica can't be written to
        track_key_reads_sample_rate=0.0,
        track_key_writes_sample_rate=0.0,
    )
    own = {key: value for key, value in kwargs.items() if key not in _NOT_OF_PLAIN_CLIENT}
    return redis.Redis.from_pool(pool_from_settings(settings, **{**own, **overrides}))


def _check_tls_version(settings: ClientSettings, kwargs: Mapping[str, Any]) -> None:
    version = kwargs.get("ssl_min_version")
    if version is not None and version < ssl.TLSVersion.TLSv1_2:
        raise ConfigurationError(
            f"{settings.prefix}ssl_min_version: the keyword argument allows versions below TLSv1.2."
            " Pass ssl.TLSVersion.TLSv1_2 or TLSv1_3."
        )


def _credentials(settings: ClientSettings, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a credential provider, or else a user name and a password; redis-py takes one kind."""
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
        # Imported here because production never needs the code that starts servers.
        from .embedded import EmbeddedConnection, missing_extra

        if missing := missing_extra():
            raise ConfigurationError(f"{settings.url_key}: {missing}")
        return {"connection_class": EmbeddedConnection, "directory": url.path or None}
    if url.scheme == "unix":
        return {"connection_class": redis.UnixDomainSocketConnection, "path": url.path}
    address: dict[str, Any] = {"socket_keepalive": settings.socket_keepalive}
    if url.is_sentinel:
        address["connection_class"] = SentinelSSLConnection if url.is_tls else SentinelConnection
        return address | (settings.tls if url.is_tls else {})
    if not url.is_cluster:  # each node of a Cluster has its own address
        address |= {"host": url.host, "port": url.port}
    if not url.is_tls:
        return address
    return address | settings.tls | {"connection_class": redis.SSLConnection}


logger = logging.getLogger(__package__)


def warn_if_unverified(settings: ClientSettings, kwargs: Mapping[str, Any]) -> None:
    """Log a warning if a client uses TLS without verifying the server.

    It is logged once for each client and process.

    :param kwargs: the pool's keyword arguments, which win over the settings.
    """
    connection_class = kwargs.get("connection_class")
    speaks_tls = isinstance(connection_class, type) and issubclass(
        connection_class, redis.SSLConnection
    )
    if not settings.parsed_url.is_tls and not speaks_tls:
        return
    requirements = kwargs.get("ssl_cert_reqs", settings.ssl_cert_reqs)
    if requirements in ("none", None, ssl.CERT_NONE):
        key, value, better = "ssl_cert_reqs", "none", "required"
        problem = "the server's certificate is not verified and may belong to anyone"
    elif requirements in ("optional", ssl.CERT_OPTIONAL):
        key, value, better = "ssl_cert_reqs", "optional", "required"
        problem = "Python decides whether the server's certificate is verified"
    elif not kwargs.get("ssl_check_hostname", settings.ssl_check_hostname):
        key, value, better = "ssl_check_hostname", "false", "true"
        problem = "the server's certificate may be that of another host"
    else:
        return
    if key in kwargs:
        value += ", a keyword argument"
    elif key in settings.in_url:
        value += f", in the query of {settings.url_place}"
    message = f"{settings.prefix}{key}: {value}: {problem}. Write {better}, or leave it out."
    if message not in _warned:
        _warned.add(message)
        logger.warning(message)
