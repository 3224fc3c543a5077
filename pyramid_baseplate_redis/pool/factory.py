"""Connection pools: ClientSettings become a redis-py pool. Nothing here opens a socket."""

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

# Messages that this process has logged: a second application makes a client's pool again.
_warned: set[str] = set()
# A Sentinel's own connections: one is for its announcements.
_SENTINEL_CONNECTIONS = 5
_SENTINEL_HEALTH_CHECK = 5.0  # seconds: an announcer that has vanished is missed after that time


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
    return pool_from_settings(load_client_settings(app_config, prefix), **kwargs)


def sentinel_pool_from_config(
    app_config: Mapping[str, Any], prefix: str = "redis.", **kwargs: Any
) -> SentinelBlockingConnectionPool:
    """Make a pool of connections to the server that Sentinels name; see :func:`pool_from_config`.

    :raises ConfigurationError: if the URL isn't a ``redis+sentinel://`` one, too.
    """
    settings = load_client_settings(app_config, prefix)
    check_sentinel(settings)
    pool = pool_from_settings(settings, **kwargs)
    assert isinstance(pool, SentinelBlockingConnectionPool)
    return pool


def check_sentinel(settings: ClientSettings) -> None:
    """Refuse a URL that doesn't lead to Sentinels.

    :raises ConfigurationError: which says how to write it.
    """
    if not settings.parsed_url.is_sentinel:
        raise ConfigurationError(
            f"{settings.url_place}: leads to no Sentinel; write it like {SENTINEL_EXAMPLE}"
        )


def pool_from_settings(settings: ClientSettings, **kwargs: Any) -> BlockingConnectionPool:
    """Make the pool of a client; like :func:`pool_from_config`, from settings already read."""
    if settings.parsed_url.is_cluster:
        raise ConfigurationError(
            f"{settings.url_place}: leads to a Cluster, whose nodes have a pool each; use "
            "cluster_pool_from_config"
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
    """The keyword arguments of a pool, and the settings that hold together with them.

    :param kwargs: they win over the settings.
    :raises ConfigurationError: as :func:`pool_from_config`.
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
        # With "auto", redis-py no longer checks at checkout that no unread reply is left.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        **_address(settings),
    }
    if settings.protocol is not None:
        keywords["protocol"] = settings.protocol
    keywords["breaker"] = make_breaker(settings, _server_of(settings, {**keywords, **kwargs}))
    if kwargs.get("retry") is not None:  # redis-py's own retries take the place of ours
        settings = dataclasses.replace(settings, retries=0)
    keywords |= {**kwargs, **_credentials(settings, kwargs), "client_settings": settings}
    return keywords, settings


def _sentinel_manager(settings: ClientSettings, kwargs: Mapping[str, Any]) -> SentinelManager:
    """The Sentinels have users and passwords of their own, and all else as the servers have."""
    url = settings.parsed_url
    # Asking them all in vain takes no longer than connecting to one server and its reply.
    share = len(url.hosts)
    reply = kwargs.get("socket_timeout", settings.socket_timeout.total_seconds())
    connect = kwargs.get("socket_connect_timeout", settings.socket_connect_timeout.total_seconds())
    keywords: dict[str, Any] = {
        "name": settings.name,
        "max_connections": _SENTINEL_CONNECTIONS,
        "socket_timeout": reply and reply / share,
        "socket_connect_timeout": connect and connect / share,
        # Who comes behind those that ask a frozen one goes on to the next soon.
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
    """The circuit breaker of a pool.

    :param server: for its messages.
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


# What the settings of a plain client say, or what only the requests' client is to have.
_NOT_OF_PLAIN_CLIENT = frozenset({
    "max_connections", "timeout", "retry", "retry_on_error", "retry_on_timeout", "decode_responses",
    "queue_class", "breaker", "hot_keys", "leak_warning", "max_idle_time",
})  # fmt: skip


def plain_client(
    settings: ClientSettings, kwargs: Mapping[str, Any], **overrides: Any
) -> redis.Redis:
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
    address: dict[str, Any] = {"socket_keepalive": settings.socket_keepalive}
    if url.is_sentinel:
        address["connection_class"] = SentinelSSLConnection if url.is_tls else SentinelConnection
        return address | (settings.tls if url.is_tls else {})
    if not url.is_cluster:  # where each node has its own
        address |= {"host": url.host, "port": url.port}
    if not url.is_tls:
        return address
    return address | settings.tls | {"connection_class": redis.SSLConnection}


logger = logging.getLogger(__package__)


def warn_if_unverified(settings: ClientSettings, kwargs: Mapping[str, Any]) -> None:
    """Log a warning if a client uses TLS without verifying who it talks to.

    One for each client and process.

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
        problem = "the server's certificate isn't verified: it may be anybody's"
    elif requirements in ("optional", ssl.CERT_OPTIONAL):
        key, value, better = "ssl_cert_reqs", "optional", "required"
        problem = "it is left to Python whether the server's certificate is verified"
    elif not kwargs.get("ssl_check_hostname", settings.ssl_check_hostname):
        key, value, better = "ssl_check_hostname", "false", "true"
        problem = "the server's certificate may be that of any other host"
    else:
        return
    if key in kwargs:
        value += ", a keyword argument"
    elif key in settings.in_url:
        value += f", in the query of {settings.url_place}"
    message = f"{settings.prefix}{key}: {value}: {problem}; write {better}, or leave it out"
    if message not in _warned:
        _warned.add(message)
        logger.warning(message)
