"""The monitored connection to a Cluster: redis-py's RedisCluster, with a span for each command."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

import redis
from opentelemetry.trace import Span
from redis.cluster import RedisCluster

from ..client.base import MonitoredClient
from ..client.lua_scripts import loads_script
from ..client.monitor import MonitoredMonitor
from ..client.open_resources import OpenResources
from ..client.pipeline import copied_callbacks
from ..command_table import only_reads
from ..pool.error_messages import explain_cross_slot, hide_arguments
from ..retries import RetryPolicy, was_unsent
from ..telemetry.call_details import forget_redirection
from ..telemetry.command_spans import checked_span
from ..telemetry.operations import ClientTelemetry
from .pipeline import MonitoredRedisClusterPipeline
from .pool import ClusterConnectionPool
from .pubsub import MonitoredClusterPubSub
from .redis_cluster import SharedCluster
from .rerouting import UNREACHED, Reroutable, reroute

# Unwrapped for the reason given in connection.py.
_execute_command = inspect.unwrap(RedisCluster.execute_command)

# Nothing was executed, and redis-py knows what to do.
_REFUSED = (
    redis.exceptions.AskError,  # MOVED is one
    redis.exceptions.TryAgainError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.SlotNotCoveredError,
)


class MonitoredRedisClusterConnection(MonitoredClient, Reroutable, SharedCluster):
    """A client of a Redis Cluster whose commands show up as spans of a request.

    It acts as :class:`redis.cluster.RedisCluster`, but for one thing: what a node may have executed
    isn't sent again after a failure of the connection, unless ``foo.retries`` allows it. What could
    not be sent goes to the node that has taken over, once. A command has one span, however often
    the nodes redirect it.

    :param context_name: the client's name; spans are named ``<context_name>.<COMMAND>``.
    :param server_span: the span that a command belongs to when no span is current; ``None`` for
        none.
    :param connection_pool: what the clients of a process share.
    :param redis_client_name: ``db.client.connection.pool.name`` on the spans; by default the
        context's name.
    :raises TypeError: ``server_span`` isn't a span.

    The names are those of ``baseplate.clients.redis_cluster``. To make one costs little and opens
    nothing: the Cluster is asked for its layout with the process's first command.
    """

    connection_pool: ClusterConnectionPool
    # What redis-py would repeat, writes too. The pool's RedisCluster has the same.
    ERRORS_ALLOW_RETRY: Any = ()

    def __init__(
        self,
        context_name: str,
        server_span: Span | None,
        connection_pool: ClusterConnectionPool,
        redis_client_name: str = "",
    ) -> None:
        # Not super().__init__(), which asks the Cluster; see __getattr__.
        self.context_name = context_name
        self.server_span = checked_span(server_span)
        self.connection_pool = connection_pool
        self.redis_client_name = redis_client_name
        self._telemetry = ClientTelemetry.for_pool(connection_pool, context_name, redis_client_name)
        self._retry = RetryPolicy.of(connection_pool.client_settings)
        self._hot_keys = connection_pool.hot_keys
        self._held: OpenResources | None = None
        self._own_callbacks = False
        self._adopted_by = 0  # the process whose RedisCluster it is bound to

    def __getattr__(self, name: str) -> Any:
        # Only for what isn't there yet: a RedisCluster's attributes, before the first command.
        if name.startswith("__") or self.__dict__.get("_adopted_by", -1) == os.getpid():
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self._adopt()
        return getattr(self, name)

    def _adopt(self) -> None:
        """Be bound to the RedisCluster of this process, which is made if there is none."""
        own = self._own()
        if self._own_callbacks:
            own["cluster_response_callbacks"] = self.cluster_response_callbacks
        self.__dict__.update(vars(self.connection_pool.cluster()))
        self.__dict__.update(own, _adopted_by=os.getpid())

    @property
    def nodes_manager(self) -> Any:  # type: ignore[override]  # redis-py sets it
        """What redis-py knows of the nodes; in a forked process its own.

        A parent's may be locked for ever by a thread that isn't here.
        """
        if self._adopted_by != os.getpid():
            self._adopt()
        return self.__dict__["nodes_manager"]

    def bound_to(self, server_span: Span) -> MonitoredRedisClusterConnection:
        """A client that shares everything with this one, but belongs to ``server_span``."""
        if self._adopted_by != os.getpid() and self.connection_pool.is_made:
            self._adopt()
        twin = object.__new__(type(self))
        attributes = twin.__dict__
        attributes.update(self.__dict__)
        attributes["server_span"] = server_span
        attributes["_held"] = None
        return twin

    def _own(self) -> dict[str, Any]:
        """What isn't shared with the other clients of the process."""
        return {key: self.__dict__[key] for key in _OWN if key in self.__dict__}

    @property
    def reinitialize_counter(self) -> int:
        """How many redirections were followed since the whole layout was asked for; redis-py's."""
        return self.connection_pool.reinitialize_counter

    @reinitialize_counter.setter
    def reinitialize_counter(self, value: int) -> None:
        self.connection_pool.reinitialize_counter = value

    def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Execute a command and return its parsed response, in a span.

        :raises redis.RedisError: as :meth:`redis.cluster.RedisCluster.execute_command`.
        """
        if self._hot_keys is not None:
            self._hot_keys.sample(args)
        operation = self._telemetry.start_command(self.server_span, args)
        try:
            if operation is not None and self._adopted_by != os.getpid():
                self._adopt()
            result = self._executed(args, kwargs)
        except BaseException as error:
            explain_cross_slot(error)
            hide_arguments(error, args)
            if operation is not None:
                if isinstance(error, redis.exceptions.NoScriptError) and loads_script():
                    operation.end_noscript()
                else:
                    operation.fail(error)
            raise
        if operation is not None:
            operation.end(result)
        return result

    def _executed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._retry is None:
            return self.execute_unmonitored(*args, **kwargs)
        return self._retry.call(
            lambda: self.execute_unmonitored(*args, **kwargs),
            reads=only_reads(args[0]),
            in_cluster=True,
        )

    def execute_unmonitored(self, *args: Any, **kwargs: Any) -> Any:
        """Execute a command without a span, and once."""
        if self._adopted_by != os.getpid():
            self._adopt()
        if self.connection_pool.is_direct(args, kwargs):
            try:
                return self._execute_directly(args)
            except _REFUSED:
                forget_redirection()  # the same happens again, to redis-py
            except UNREACHED as error:
                if not was_unsent(error):
                    raise
                return self._execute_by_redis_py(args, {}, error)
        return self._execute_by_redis_py(args, kwargs)

    def _execute_by_redis_py(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        unreached: Exception | None = None,
    ) -> Any:
        targets = kwargs.get("target_nodes")
        return reroute(
            self,
            lambda: _execute_command(self, *args, **kwargs),
            anywhere=targets is None or self._is_nodes_flag(targets),
            unreached=unreached,
        )

    def _execute_directly(self, args: tuple[Any, ...]) -> Any:
        """Send a command with one key to the node that has it.

        redis-py works out for each command anew what it is like, which takes as long as the rest.
        """
        manager = self.__dict__["nodes_manager"]  # this process's, as it was adopted
        node = manager.get_node_from_slot(self.keyslot(args[1]))
        redis_node = node.redis_connection or self.get_redis_connection(node)
        pool = redis_node.connection_pool
        connection = None
        try:
            connection = pool.get_connection()
            connection.send_command(*args)
            response = redis_node.parse_response(connection, args[0])
        except (redis.exceptions.MaxConnectionsError, redis.AuthenticationError):
            raise
        except UNREACHED as error:
            # As redis-py does: ask which node has the slots of this one now.
            if connection is not None:
                connection.disconnect()
            pool.update_active_connections_for_reconnect()
            pool.disconnect_free_connections()
            manager.move_node_to_end_of_cached_nodes(node.name)
            manager.initialize(last_failed_node_name=node.name)
            error.connection = connection or node  # type: ignore[union-attr]
            raise
        finally:
            if connection is not None:
                pool.release(connection)
        callback = self.cluster_response_callbacks.get(args[0])
        return response if callback is None else callback(response)

    def set_response_callback(self, command: str, callback: Callable[..., Any]) -> None:
        """Set a response callback for this client alone."""
        if not self._own_callbacks:
            self.cluster_response_callbacks = copied_callbacks(self.cluster_response_callbacks)
            self._own_callbacks = True
        super().set_response_callback(command, callback)

    def pipeline(  # type: ignore[override]  # the name comes first, as in baseplate
        self,
        name: str | bool | None = None,
        transaction: Any = None,
        shard_hint: str | None = None,
    ) -> MonitoredRedisClusterPipeline:
        """Create a pipeline: commands are queued until ``execute()``, which is one span.

        :param name: names the span, ``<context_name>.pipeline_<name>``.
        :param transaction: whether the commands are executed atomically (MULTI ... EXEC), which
            needs all keys in one slot. Unlike a server's pipeline it isn't by default: redis-py's
            default for a Cluster.
        :param shard_hint: refused by redis-py.

        A bool in first place is redis-py's own positional ``transaction``.
        """
        if isinstance(name, bool):
            name, transaction, shard_hint = None, name, transaction or shard_hint
        if shard_hint:
            raise redis.exceptions.RedisClusterException("shard_hint is deprecated in cluster mode")
        return self._hold(
            MonitoredRedisClusterPipeline(
                self._pipeline_name(name),
                self.server_span,
                self,
                transaction=bool(transaction),
                retry=self._retry,
                hot_keys=self._hot_keys,
            )
        )

    def transaction(
        self,
        func: Callable[[MonitoredRedisClusterPipeline], Any],
        *watches: Any,
        name: str | None = None,
        shard_hint: str | None = None,
        value_from_callable: bool = False,
        watch_delay: float | None = None,
    ) -> Any:
        """Run ``func`` with a pipeline until none of the watched keys changed meanwhile.

        All keys have to be in one slot. The parameters are those of
        :meth:`.MonitoredRedisConnection.transaction`.
        """

        def named(pipeline: Any) -> Any:
            pipeline.trace_name = self._pipeline_name(name)
            return func(pipeline)

        return super().transaction(
            named,
            *watches,
            shard_hint=shard_hint,
            value_from_callable=value_from_callable,
            watch_delay=watch_delay,
        )

    def pubsub(
        self, node: Any = None, host: str | None = None, port: int | None = None, **kwargs: Any
    ) -> MonitoredClusterPubSub:
        """A subscriber: SUBSCRIBE and the like have spans, waiting for messages has none.

        See :meth:`redis.cluster.RedisCluster.pubsub`. It keeps a connection to one node until it
        is closed.
        """
        made = MonitoredClusterPubSub(
            self,
            node=node,
            host=host,
            port=port,
            telemetry=self._telemetry,
            server_span=self.server_span,
            **kwargs,
        )
        return self._hold(made)

    def monitor(self, target_node: Any = None) -> MonitoredMonitor:
        """Watch all commands that one node gets; see :meth:`redis.cluster.RedisCluster.monitor`.

        :param target_node: one of :meth:`get_nodes`; a primary of redis-py's choice by default.
        """
        node = target_node or self.get_default_node()
        return self._hold(MonitoredMonitor(self, self.get_redis_connection(node).connection_pool))

    def close(self) -> None:
        """Nothing: what it uses is shared, and closed by the pool."""

    def __del__(self) -> None:
        """Nothing, unlike redis-py's, which would close all connections."""


_OWN = ("context_name", "server_span", "connection_pool", "redis_client_name", "_telemetry",
        "_retry", "_hot_keys", "_held", "_own_callbacks", "transaction_manager")  # fmt: skip
