"""RedisClient and RedisContextFactory, and server_context for code outside a request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import redis
from opentelemetry.trace import INVALID_SPAN, Span
from zope.interface import implementer

from .cluster import MonitoredRedisClusterConnection
from .cluster_pool import ClusterConnectionPool, check_cluster
from .connection import MonitoredRedisConnection
from .interfaces import IClientSwap, IMessageQueueFactory, IRedisClient, IRedisContextFactory
from .metrics import observe_pool
from .monitored_client import MonitoredClient
from .pools import check_sentinel, pool_from_settings
from .prometheus import observe_if_wanted
from .server_spans import root_span
from .settings import ClientSettings
from .sources import client_settings

if TYPE_CHECKING:
    from zope.interface.interfaces import IComponents


class RedisClient:
    """Configures a Redis client.

    :param redis_client_name: ``db.client.connection.pool.name`` on the spans; by default the
        keyword argument ``client_name``, or else the client's name.
    :param kwargs: passed to the pool, where they win over the settings; see
        :func:`~.pools.pool_from_config`.

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
        return self.factory(client_settings(raw_config, f"{key_path}."))

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
        check_sentinel(client_settings(raw_config, f"{key_path}."))
        return super().parse(key_path, raw_config)


class ClusterRedisClient(RedisClient):
    """Configures a client of a Redis Cluster.

    As :class:`RedisClient`, which does the same for a ``redis+cluster://`` URL; this one insists
    on one.

    :param kwargs: see :class:`~.cluster_pool.ClusterConnectionPool`.

    The names are those of ``baseplate.clients.redis_cluster.ClusterRedisClient``.
    """

    def parse(self, key_path: str, raw_config: Mapping[str, Any]) -> ClusterRedisContextFactory:
        """See :meth:`RedisClient.parse`.

        :raises ConfigurationError: if the URL isn't a ``redis+cluster://`` one, too.
        """
        check_cluster(client_settings(raw_config, f"{key_path}."))
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


def register_client(registry: Any, name: str, client: RedisClient) -> Any:
    """Make a client's factory, and keep both in a registry.

    Where the application is being tested, the factory is that of the client's stand-in.

    :raises ConfigurationError: if the client's settings are malformed.
    """
    swap = registry.queryUtility(IClientSwap)
    parse = client.parse if swap is None else partial(swap.parse, client)
    factory = parse(name, registry.settings)
    observe_if_wanted(factory, registry.settings)
    registry.registerUtility(client, IRedisClient, name)
    registry.registerUtility(factory, IRedisContextFactory, name)
    return factory


class ServerContext:
    """What a request has, for code outside a request: its clients, its queues and ``span``."""

    def __init__(self, registry: IComponents, span: Span) -> None:
        self.registry = registry
        self.span = span

    def __getattr__(self, name: str) -> Any:
        # Only for what isn't there yet: what is made is kept.
        if name.startswith("__"):
            raise AttributeError(name)
        factory = self.registry.queryUtility(IRedisContextFactory, name)
        if factory is not None:
            made: Any = factory.make_object_for_context(name, self.span)
        else:
            queue = self.registry.queryUtility(IMessageQueueFactory, name)
            if queue is None:
                raise AttributeError(f"no Redis client and no message queue is named {name!r}")
            made = queue(getattr(self, queue.client))
        setattr(self, name, made)
        return made

    def give_back(self) -> None:
        """Give back the connections that the clients' pipelines and the like still have."""
        for made in tuple(vars(self).values()):
            if isinstance(made, MonitoredClient):
                made.give_back()


@contextmanager
def server_context(registry: IComponents, name: str) -> Iterator[ServerContext]:
    """Start a root span and yield an object with the clients and queues that a request has.

    :param registry: the application's, such as ``env["registry"]`` of
        :func:`pyramid.paster.bootstrap`.
    :param name: the span's name, such as ``nightly-cleanup``.

    For scripts, workers and ``pshell``. The span is current inside the block and its status is an
    error when an exception leaves it; the exception goes on.
    """
    with root_span(name) as span:
        context = ServerContext(registry, span)
        try:
            yield context
        finally:
            context.give_back()
