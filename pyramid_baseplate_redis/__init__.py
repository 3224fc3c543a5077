"""Monitored Redis clients for Pyramid: configured once, pooled once, a span for each command.

config.include("pyramid_baseplate_redis")   # reads foo.url and friends from the .ini

def view(request):
    request.foo.set("greeting", "hello")    # a span under the request's span
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .client.client import MonitoredRedisConnection
from .client.pipeline import MonitoredRedisPipeline
from .cluster.client import MonitoredRedisClusterConnection
from .cluster.pipeline import MonitoredRedisClusterPipeline
from .cluster.pool import ClusterConnectionPool, cluster_pool_from_config
from .exceptions import (
    CircuitOpenError,
    ConfigurationError,
    ForkedConnectionError,
    LeaseLostError,
    MessageFormatError,
    MessageQueueError,
    PoolReleaseError,
    PoolTimeoutError,
    QueueFullError,
    TimedOutError,
    is_retryable,
)
from .factories import (
    ClusterRedisClient,
    ClusterRedisContextFactory,
    RedisClient,
    RedisContextFactory,
    SentinelRedisClient,
)
from .health.probes import ClientHealth, ping_all
from .pool.blocking_pool import BlockingConnectionPool
from .pool.factory import pool_from_config, sentinel_pool_from_config
from .pool.sentinel.pool import SentinelBlockingConnectionPool
from .queues.durable_queue import DurableMessageQueue
from .queues.list_queue import MessageQueue
from .queues.messages import DeadLetter, DurableMessage, QueuedMessage
from .server_context import ServerContext, server_context
from .settings.parsers import Timespan
from .telemetry.hot_keys import HotKey, hot_keys
from .telemetry.stats import PoolStats, QueueStats

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyramid.config import Configurator
    from pyramid.registry import Registry

__all__ = [
    "BlockingConnectionPool",
    "CircuitOpenError",
    "ClientHealth",
    "ClusterConnectionPool",
    "ClusterRedisClient",
    "ClusterRedisContextFactory",
    "ConfigurationError",
    "DeadLetter",
    "DurableMessage",
    "DurableMessageQueue",
    "ForkedConnectionError",
    "HotKey",
    "LeaseLostError",
    "MessageFormatError",
    "MessageQueue",
    "MessageQueueError",
    "MonitoredRedisClusterConnection",
    "MonitoredRedisClusterPipeline",
    "MonitoredRedisConnection",
    "MonitoredRedisPipeline",
    "PoolReleaseError",
    "PoolStats",
    "PoolTimeoutError",
    "QueueFullError",
    "QueueStats",
    "QueuedMessage",
    "RedisClient",
    "RedisContextFactory",
    "SentinelBlockingConnectionPool",
    "SentinelRedisClient",
    "ServerContext",
    "TimedOutError",
    "Timespan",
    "cluster_pool_from_config",
    "hot_keys",
    "includeme",
    "is_retryable",
    "ping_all",
    "pool_from_config",
    "sentinel_pool_from_config",
    "server_context",
    "server_span_tween_factory",
]


def includeme(config: Configurator) -> None:
    """Add the Redis clients of the settings to every request, and a server span.

    :raises ConfigurationError: when the application is built, if a setting is malformed.
    """
    # Here, not above: a script that only wants a pool needn't load Pyramid's Configurator.
    from .web.includeme import configure

    configure(config)


def server_span_tween_factory(handler: Callable[[Any], Any], registry: Registry) -> Any:
    """Make the tween that gives each request its server span.

    Its dotted name, ``pyramid_baseplate_redis.server_span_tween_factory``, is what an explicit
    ``pyramid.tweens`` lists.

    :param handler: the next tween, or Pyramid's own handler.
    :param registry: the application's.
    :raises ConfigurationError: if a ``baseplate_redis.*`` setting is malformed.
    """
    from .web.tween import server_span_tween_factory as make

    return make(handler, registry)
