"""RedisClient and RedisContextFactory, and server_context for code outside a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


class RedisClient:
    """Configures a Redis client.

    :param redis_client_name: ``db.client.connection.pool.name`` on the spans; by default the
        keyword argument ``client_name``, or else the client's name.
    :param kwargs: passed to the pool, where they win over the settings; see
        :func:`~.pool.factory.pool_from_config`.

    The names are those of ``baseplate.clients.redis.RedisClient``.
    """

    def __init__(self, redis_client_name: str = "", **kwargs: Any) -> None:
        self.redis_client_name = redis_client_name or kwargs.get("client_name") or ""
        self.kwargs = kwargs

    def parse(
        self, key_path: str, raw_config: Mapping[str, Any]
    ) -> RedisContextFactory | ClusterRedisContextFactory:
        """Read the settings ``<key_path>.*`` and make the client's factory and pool.

        The URL says whether it is a server's, a server's behind Sentinel, or a Cluster's.

        :raises ConfigurationError: if they are malformed.
        """
        return self.factory(load_client_settings(raw_config, f"{key_path}."))

    def factory(self, settings: ClientSettings) -> RedisContextFactory | ClusterRedisContextFactory:
        """Make the client's factory and pool, from settings already read."""
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
    """Configures a Redis client behind Sentinel.

    As :class:`RedisClient`, which does the same for a ``redis+sentinel://`` URL; this one insists
    on one.
    """

    def parse(
        self, key_path: str, raw_config: Mapping[str, Any]
    ) -> RedisContextFactory | ClusterRedisContextFactory:
        """See :meth:`RedisClient.parse`.

        :raises ConfigurationError: if the URL isn't a ``redis+sentinel://`` one, too.
        """
        check_sentinel(load_client_settings(raw_config, f"{key_path}."))
        return super().parse(key_path, raw_config)


class ClusterRedisClient(RedisClient):
    """Configures a client of a Redis Cluster.

    As :class:`RedisClient`, which does the same for a ``redis+cluster://`` URL; this one insists
    on one.

    :param kwargs: see :class:`~.cluster.pool.ClusterConnectionPool`.

    The names are those of ``baseplate.clients.redis_cluster.ClusterRedisClient``.
    """

    def parse(self, key_path: str, raw_config: Mapping[str, Any]) -> ClusterRedisContextFactory:
        """See :meth:`RedisClient.parse`.

        :raises ConfigurationError: if the URL isn't a ``redis+cluster://`` one, too.
        """
        check_cluster(load_client_settings(raw_config, f"{key_path}."))
        factory = super().parse(key_path, raw_config)
        assert isinstance(factory, ClusterRedisContextFactory)
        return factory


@implementer(IRedisContextFactory)
class RedisContextFactory:
    """Binds a pool to requests: makes a client that costs next to nothing.

    :param connection_pool: shared by all clients that this makes.
    :param name: the client's name.
    :param redis_client_name: see :class:`RedisClient`.

    The names are those of ``baseplate.clients.redis.RedisContextFactory``.
    """

    def __init__(
        self,
        connection_pool: redis.ConnectionPool,
        name: str = "redis",
        redis_client_name: str = "",
    ) -> None:
        self.connection_pool = connection_pool
        self.name = name
        self.redis_client_name = redis_client_name
        self._prototypes = {name: self._prototype(name)}

    def make_object_for_context(self, name: str, span: Span | None) -> MonitoredRedisConnection:
        """Return the client whose commands belong to ``span``.

        :param name: the client's name, which starts its spans' names.
        :param span: the request's server span; ``None`` for none.
        """
        prototype = self._prototypes.get(name)
        if prototype is None:
            prototype = self._prototypes.setdefault(name, self._prototype(name))
        return prototype.bound_to(INVALID_SPAN if span is None else span)

    def _prototype(self, name: str) -> MonitoredRedisConnection:
        return MonitoredRedisConnection(name, None, self.connection_pool, self.redis_client_name)


@implementer(IRedisContextFactory)
class ClusterRedisContextFactory:
    """Binds what a Cluster's clients share to requests: makes a client that costs next to nothing.

    :param connection_pool: shared by all clients that this makes.
    :param name: the client's name.
    :param redis_client_name: see :class:`RedisClient`.

    The names are those of ``baseplate.clients.redis_cluster.ClusterRedisContextFactory``.
    """

    def __init__(
        self,
        connection_pool: ClusterConnectionPool,
        name: str = "redis",
        redis_client_name: str = "",
    ) -> None:
        self.connection_pool = connection_pool
        self.name = name
        self.redis_client_name = redis_client_name
        self._prototypes = {name: self._prototype(name)}

    def make_object_for_context(
        self, name: str, span: Span | None
    ) -> MonitoredRedisClusterConnection:
        """Return the client whose commands belong to ``span``; the Cluster isn't asked for it.

        :param name: the client's name, which starts its spans' names.
        :param span: the request's server span; ``None`` for none.
        """
        prototype = self._prototypes.get(name)
        if prototype is None:
            prototype = self._prototypes.setdefault(name, self._prototype(name))
        return prototype.bound_to(INVALID_SPAN if span is None else span)

    def _prototype(self, name: str) -> MonitoredRedisClusterConnection:
        return MonitoredRedisClusterConnection(
            name, None, self.connection_pool, self.redis_client_name
        )
