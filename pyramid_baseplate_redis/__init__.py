"""Monitored Redis clients for Pyramid: configured once, pooled once, a span for each command.

config.include("pyramid_baseplate_redis")   # reads foo.url and the other settings from the .ini

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
    DeadlineExceededError,
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
from .telemetry.hot_keys.tracker import HotKey, hot_keys
from .telemetry.stats import PoolStats, QueueStats

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    __version__: str

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
    "DeadlineExceededError",
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
    "request_totals_tween_factory",
    "sentinel_pool_from_config",
    "server_context",
    "server_span_tween_factory",
]


def __getattr__(name: str) -> Any:
    # The version stands in the installed package's metadata only. It is read at first use, since
    # most applications never ask for it.
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    found = globals()["__version__"] = version(__name__)
    return found


def includeme(config: Configurator) -> None:
    """Set up Redis clients, message queues and server spans for a Pyramid application.

    ``config.include("pyramid_baseplate_redis")`` does the following:

    - Adds the directives ``config.add_redis_client``, ``config.add_message_queue``,
      ``config.add_redis_health_view`` and ``config.add_redis_queues_view``. The two views exist
      only if the application adds them.
    - Declares the clients that the settings name (``<name>.url``, ``url_env`` or ``url_file``) and
      the queues (``<name>.queue``), unless the application declares them itself. If
      ``baseplate_redis.clients`` or ``baseplate_redis.queues`` is set, only the names listed there
      count. This happens when the configuration is committed, so the application can still add
      settings after the include.
    - Adds each client and each queue to the request as ``request.<name>``, made at first use. The
      clients of all requests share one connection pool per process.
    - Adds ``request.span``, the request's server span. A client's commands belong to it if no other
      span is current.
    - Adds the tween :func:`server_span_tween_factory`, which starts that span above Pyramid's
      exception views and ends it when the response was sent. ``baseplate_redis.server_span``
      decides whether it starts one beside OpenTelemetry's own instrumentation.
    - Adds the tween :func:`request_totals_tween_factory`. It does nothing unless a client has set
      ``trace_min_duration``.
    - Closes the pipelines, subscribers and monitors that a request left open, logs a warning, and
      returns their connections to the pool: after the finished callbacks or, if the body is
      streamed, after the body was sent.

    :raises ConfigurationError: a setting is malformed. It is raised when the application is built.
    """
    # Imported here because a script that only needs a pool need not load Pyramid's Configurator.
    from .web.includeme import configure

    configure(config)


def server_span_tween_factory(handler: Callable[[Any], Any], registry: Registry) -> Any:
    """Make the tween that gives each request its server span.

    To order tweens explicitly, list ``pyramid_baseplate_redis.server_span_tween_factory`` in
    ``pyramid.tweens``.

    :param handler: the next tween, or Pyramid's own handler.
    :param registry: the application's registry.
    :raises ConfigurationError: a ``baseplate_redis.*`` setting is malformed.
    """
    from .web.tween import server_span_tween_factory as make

    return make(handler, registry)


def request_totals_tween_factory(handler: Callable[[Any], Any], registry: Registry) -> Any:
    """Make the tween that writes a request's totals on a server span of OpenTelemetry's.

    It is needed for ``foo.trace_min_duration`` beside OpenTelemetry's instrumentation of Pyramid or
    WSGI. To order tweens explicitly, list
    ``pyramid_baseplate_redis.request_totals_tween_factory`` in ``pyramid.tweens``, after
    OpenTelemetry's tween and before ``pyramid.tweens.excview_tween_factory``.

    :param handler: the next tween, or Pyramid's own handler.
    :param registry: the application's registry.
    """
    from .web.totals_tween import request_totals_tween_factory as make

    return make(handler, registry)
