"""Client specs and context factories: from the settings of a client to one client per request.

A client spec, such as :class:`RedisClient`, reads the settings and makes the pool and a context
factory, once per process. The context factory makes a client for each request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import redis
from opentelemetry.trace import INVALID_SPAN, Span
from zope.interface import implementer

from .client.client import MonitoredRedisConnection
from .cluster.client import MonitoredRedisClusterConnection
from .cluster.pool import ClusterConnectionPool, check_cluster
from .interfaces import IRedisContextFactory
from .pool.factory import check_sentinel, pool_from_settings
from .settings.client import ClientSettings
from .settings.sources import load_client_settings
from .telemetry.metrics import observe_pool

_Client = TypeVar("_Client", MonitoredRedisConnection, MonitoredRedisClusterConnection)
_Pool = TypeVar("_Pool")


class RedisClient:
    """Configures a Redis client.

    :param redis_client_name: ``db.client.connection.pool.name`` on the spans; by default the
        keyword argument ``client_name``, or the client's name if that is missing too.
    :param kwargs: passed to the pool, where they override the settings; see
        :func:`~.pool.factory.pool_from_config`.

    The names are those of ``baseplate.clients.redis.RedisClient``.
    """

    def __init__(self, redis_client_name: str = "", **kwargs: Any) -> None:
        self.redis_client_name = redis_client_name or kwargs.get("client_name") or ""
        self.kwargs = kwargs

    def parse(
        self, key_path: str, raw_config: Mapping[str, Any]
    ) -> RedisContextFactory | ClusterRedisContextFactory:
        """Read the settings ``<key_path>.*`` and make the client's context factory and pool.

        The scheme of the URL decides whether the client talks to one server, to a server that
        Sentinel names, or to a Cluster.

        :param key_path: the client's name.
        :param raw_config: the application's settings.
        :raises ConfigurationError: a setting is malformed.
        """
        return self.factory(load_client_settings(raw_config, f"{key_path}."))

    def factory(self, settings: ClientSettings) -> RedisContextFactory | ClusterRedisContextFactory:
        """Make the client's context factory and pool from settings already read."""
        name = settings.name
        if settings.parsed_url.is_cluster:
            shared = ClusterConnectionPool(settings, **self.kwargs)
            if settings.metrics:
                observe_pool(shared, self.redis_client_name or name)
            return ClusterRedisContextFactory(shared, name, self.redis_client_name)
        pool = pool_from_settings(settings, **self.kwargs)
        if settings.metrics:
            observe_pool(pool, self.redis_client_name or name)
        return RedisContextFactory(pool, name, self.redis_client_name)


class SentinelRedisClient(RedisClient):
    """Configures a Redis client that finds its server through Sentinel.

    :class:`RedisClient` does the same for a ``redis+sentinel://`` URL. This class refuses any other
    URL.
    """

    def factory(self, settings: ClientSettings) -> RedisContextFactory | ClusterRedisContextFactory:
        """See :meth:`RedisClient.factory`.

        :raises ConfigurationError: also if the URL is not a ``redis+sentinel://`` one.
        """
        check_sentinel(settings)
        return super().factory(settings)


class ClusterRedisClient(RedisClient):
    """Configures a client of a Redis Cluster.

    :class:`RedisClient` does the same for a ``redis+cluster://`` URL. This class refuses any other
    URL.

    :param kwargs: see :class:`~.cluster.pool.ClusterConnectionPool`.

    The names are those of ``baseplate.clients.redis_cluster.ClusterRedisClient``.
    """

    def parse(self, key_path: str, raw_config: Mapping[str, Any]) -> ClusterRedisContextFactory:
        """See :meth:`RedisClient.parse`.

        :raises ConfigurationError: also if the URL is not a ``redis+cluster://`` one.
        """
        return self.factory(load_client_settings(raw_config, f"{key_path}."))

    def factory(self, settings: ClientSettings) -> ClusterRedisContextFactory:
        """See :meth:`RedisClient.factory`.

        :raises ConfigurationError: also if the URL is not a ``redis+cluster://`` one.
        """
        check_cluster(settings)
        factory = super().factory(settings)
        assert isinstance(factory, ClusterRedisContextFactory)
        return factory


@implementer(IRedisContextFactory)
class _ContextFactory(Generic[_Client, _Pool]):
    """Makes each request's client as a cheap copy of a prototype, one prototype per name."""

    def __init__(
        self, connection_pool: _Pool, name: str = "redis", redis_client_name: str = ""
    ) -> None:
        self.connection_pool: _Pool = connection_pool
        self.name = name
        self.redis_client_name = redis_client_name
        self._prototypes: dict[str, _Client] = {name: self._prototype(name)}

    def make_object_for_context(self, name: str, span: Span | None) -> _Client:
        """Return a client whose commands belong to ``span``. Nothing is sent.

        :param name: the client's name, with which its spans' names start.
        :param span: the request's server span; ``None`` for none.
        """
        prototype = self._prototypes.get(name)
        if prototype is None:
            prototype = self._prototypes.setdefault(name, self._prototype(name))
        return prototype.bound_to(INVALID_SPAN if span is None else span)

    def _prototype(self, name: str) -> _Client:
        raise NotImplementedError


class RedisContextFactory(_ContextFactory[MonitoredRedisConnection, redis.ConnectionPool]):
    """Makes the clients of requests, all on one pool. Making one costs very little.

    :param connection_pool: shared by all clients that this factory makes.
    :param name: the client's name.
    :param redis_client_name: see :class:`RedisClient`.

    The names are those of ``baseplate.clients.redis.RedisContextFactory``.
    """

    def _prototype(self, name: str) -> MonitoredRedisConnection:
        return MonitoredRedisConnection(name, None, self.connection_pool, self.redis_client_name)


class ClusterRedisContextFactory(
    _ContextFactory[MonitoredRedisClusterConnection, ClusterConnectionPool]
):
    """Makes the clients of requests to a Cluster, all on one pool. Making one costs very little.

    :param connection_pool: shared by all clients that this factory makes.
    :param name: the client's name.
    :param redis_client_name: see :class:`RedisClient`.

    The names are those of ``baseplate.clients.redis_cluster.ClusterRedisContextFactory``.
    """

    def _prototype(self, name: str) -> MonitoredRedisClusterConnection:
        return MonitoredRedisClusterConnection(
            name, None, self.connection_pool, self.redis_client_name
        )
