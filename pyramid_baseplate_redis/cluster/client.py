"""The monitored client of a Cluster: a RedisCluster that starts a span for each command.

All clients of a process share the state of one RedisCluster: its nodes, pools and slots. A client
copies that state, with :meth:`MonitoredRedisClusterConnection._adopt`, before its first command and
again after a fork.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

import redis
from opentelemetry.trace import Span
from redis.cluster import RedisCluster

from ..client.base import MonitoredClient
from ..client.lua_scripts import fail_command
from ..client.monitor import MonitoredMonitor
from ..client.open_resources import OpenResources
from ..client.pipeline_base import copied_callbacks
from ..command_table import only_reads
from ..deadlines import DeadlinePolicy
from ..pool.direct.packing import DIRECT_COMMANDS
from ..pool.error_messages import explain_cross_slot, hide_arguments
from ..retries import RetryPolicy, was_unsent
from ..runtime.deadline import current_deadline
from ..telemetry.call_details import forget_redirection
from ..telemetry.command_spans import checked_span
from ..telemetry.operations import ClientTelemetry
from .pipeline import MonitoredRedisClusterPipeline
from .pool import ClusterConnectionPool
from .pubsub import MonitoredClusterPubSub
from .redis_cluster import SharedCluster, primary_of
from .rerouting import UNREACHED, Reroutable, reroute

# OpenTelemetry's instrumentation of redis-py wraps this, which would start a second span.
_execute_command = inspect.unwrap(RedisCluster.execute_command)
_parse_response = redis.Redis.parse_response

# The node executed nothing. redis-py's execute_command meets the same error and handles it.
_REFUSED = (
    redis.exceptions.AskError,  # MOVED too
    redis.exceptions.TryAgainError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.SlotNotCoveredError,
)


class MonitoredRedisClusterConnection(
    MonitoredClient[MonitoredRedisClusterPipeline], Reroutable, SharedCluster
):
    """A client of a Redis Cluster whose commands show up as spans of a request.

    It behaves like :class:`redis.cluster.RedisCluster`, except after a failed connection:

    - A command that a node may have executed is not sent again, unless ``foo.retries`` allows it.
    - A command that could not be sent goes once more to the node that took over.

    A command has one span, however often the nodes redirect it.

    :param context_name: the client's name; spans are named ``<context_name>.<COMMAND>``.
    :param server_span: the parent of a command's span when no span is current; ``None`` for no
        parent.
    :param connection_pool: the pool that all clients of the process share.
    :param redis_client_name: ``db.client.connection.pool.name`` on the spans; by default
        ``context_name``.
    :raises TypeError: ``server_span`` is not a span.

    The names are those of ``baseplate.clients.redis_cluster``. The constructor is fast and opens no
    connection: the process's first command asks the Cluster for its layout.
    """

    connection_pool: ClusterConnectionPool
    # redis-py would repeat commands, even writes, after these errors. ProcessCluster has this too.
    ERRORS_ALLOW_RETRY: Any = ()

    def __init__(
        self,
        context_name: str,
        server_span: Span | None,
        connection_pool: ClusterConnectionPool,
        redis_client_name: str = "",
    ) -> None:
        # super().__init__() would connect to the Cluster. __getattr__ adopts the state later.
        self.context_name = context_name
        self.server_span = checked_span(server_span)
        self.connection_pool = connection_pool
        self.redis_client_name = redis_client_name
        self._telemetry = ClientTelemetry.for_pool(connection_pool, context_name, redis_client_name)
        self._retry = RetryPolicy.of(connection_pool.client_settings)
        self.deadlines = DeadlinePolicy.of(connection_pool.client_settings, context_name)
        self._hot_keys = connection_pool.hot_keys
        self._held: OpenResources | None = None
        self._own_callbacks = self._has_set_callbacks = False
        self._adopted_by = 0  # the process whose state was copied

    def __getattr__(self, name: str) -> Any:
        # Called for missing attributes only: those of a RedisCluster, before the first command.
        if name.startswith("__") or self.__dict__.get("_adopted_by", -1) == os.getpid():
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self._adopt_in_time()
        return getattr(self, name)

    def _adopt_in_time(self) -> None:
        """Adopt the state outside of a command, which may have to look up the layout."""
        if self.deadlines is None:
            self._adopt()
        else:
            self.deadlines.run(self._adopt)

    def _adopt(self) -> None:
        """Copy the state of this process's RedisCluster, which is created if there is none."""
        own = self._own()
        if self._has_set_callbacks:
            own["cluster_response_callbacks"] = self.cluster_response_callbacks
        self.__dict__.update(vars(self.connection_pool.cluster()))
        self.__dict__.update(own, _adopted_by=os.getpid())

    @property
    def nodes_manager(self) -> Any:  # type: ignore[override]  # redis-py sets it
        """redis-py's table of nodes and slots. A forked process gets a new one.

        The parent's table may be locked forever: the fork does not copy the thread that holds the
        lock.
        """
        if self._adopted_by != os.getpid():
            self._adopt_in_time()
        return self.__dict__["nodes_manager"]

    def bound_to(self, server_span: Span) -> MonitoredRedisClusterConnection:
        """Return a copy of this client whose commands belong to ``server_span``."""
        if self._adopted_by != os.getpid() and self.connection_pool.is_made:
            self._adopt()
        return super().bound_to(server_span)

    def _own(self) -> dict[str, Any]:
        """Return the attributes that this client does not share with others of the process."""
        return {key: self.__dict__[key] for key in _OWN if key in self.__dict__}

    @property
    def reinitialize_counter(self) -> int:
        """The number of redirections since the last refresh of the layout, counted by redis-py."""
        return self.connection_pool.reinitialize_counter

    @reinitialize_counter.setter
    def reinitialize_counter(self, value: int) -> None:
        self.connection_pool.reinitialize_counter = value

    def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Execute a command in a span and return its parsed response.

        :raises redis.RedisError: see :meth:`redis.cluster.RedisCluster.execute_command`.
        :raises redis.exceptions.RedisClusterException: no node can be reached, or the keys are in
            different slots.
        """
        if self._hot_keys is not None:
            self._hot_keys.sample(args)
        operation = self._telemetry.start_command(self.server_span, args)
        try:
            if operation is not None and self._adopted_by != os.getpid() and not self.deadlines:
                self._adopt()
            result = self._executed(args, kwargs)
        except BaseException as error:
            explain_cross_slot(error)
            hide_arguments(error, args)
            if operation is not None:
                fail_command(operation, error)
            raise
        if operation is not None:
            operation.end(result)
        return result

    def _executed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.deadlines is not None:
            return self.deadlines.run(lambda: self._tried(args, kwargs))
        if self._retry is not None:
            return self._tried(args, kwargs)
        return self.execute_unmonitored(*args, **kwargs)

    def _tried(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._retry is None:
            return self.execute_unmonitored(*args, **kwargs)
        return self._retry.call(
            lambda: self.execute_unmonitored(*args, **kwargs),
            reads=only_reads(args[0]),
            in_cluster=True,
        )

    def execute_unmonitored(self, *args: Any, **kwargs: Any) -> Any:
        """Execute a command without a span and without ``foo.retries``."""
        if self._adopted_by != os.getpid():
            self._adopt()
        if self.connection_pool.is_direct(args, kwargs):
            try:
                return self._execute_directly(args)
            except _REFUSED:
                forget_redirection()  # redis-py meets it again below
            except UNREACHED as error:
                deadline = current_deadline()
                if not was_unsent(error) or (deadline is not None and deadline.has_run_out):
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
        """Send a command with one key to the node that has the key's slot.

        redis-py inspects each command anew to find its node, which takes as long as all the rest.
        """
        manager = self.__dict__["nodes_manager"]  # this process's: the caller has adopted it
        node = primary_of(manager, self.keyslot(args[1]))
        redis_node = node.redis_connection or self.get_redis_connection(node)
        pool = redis_node.connection_pool
        connection = None
        try:
            connection = pool.get_connection()
            if (
                args[0] in DIRECT_COMMANDS
                and getattr(connection, "is_direct", False)
                and type(redis_node).parse_response is _parse_response
            ):
                response = connection.ask(args)
                callback = dict.get(redis_node.response_callbacks, args[0])
                if callback is not None:
                    response = callback(response)
            else:
                connection.send_command(*args)
                response = redis_node.parse_response(connection, args[0])
        except (redis.exceptions.MaxConnectionsError, redis.AuthenticationError):
            raise
        except UNREACHED as error:
            if connection is not None:
                connection.disconnect()
            deadline = current_deadline()
            if deadline is not None and deadline.has_run_out:
                raise  # the node may be fine, and its other connections too
            # Like redis-py: refresh the layout, to find the node that has the slots now.
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
            self._own_callbacks = self._has_set_callbacks = True
        super().set_response_callback(command, callback)

    def pipeline(  # type: ignore[override]  # the name comes first, as in baseplate
        self,
        name: str | bool | None = None,
        transaction: Any = None,
        shard_hint: str | None = None,
    ) -> MonitoredRedisClusterPipeline:
        """Create a pipeline: commands are queued until ``execute()``, which is one span.

        :param name: completes the span's name, ``<context_name>.pipeline_<name>``. A bool is taken
            for ``transaction``, which comes first in redis-py.
        :param transaction: whether the commands are executed atomically (MULTI ... EXEC). All keys
            must then be in one slot. The default is redis-py's for a Cluster: not atomically.
        :param shard_hint: must be empty, as in redis-py.
        :raises redis.exceptions.RedisClusterException: ``shard_hint`` is given.
        """
        trace_name, transaction, shard_hint = self._pipeline_arguments(
            name, transaction, shard_hint, default=None
        )
        if shard_hint:
            raise redis.exceptions.RedisClusterException("shard_hint is deprecated in cluster mode")
        if self.deadlines is not None and self._adopted_by != os.getpid():
            self._adopt_in_time()
        made = MonitoredRedisClusterPipeline(
            trace_name,
            self.server_span,
            self,
            transaction=bool(transaction),
            retry=self._retry,
            deadlines=self.deadlines,
            hot_keys=self._hot_keys,
        )
        return self._hold(made)

    def pubsub(
        self, node: Any = None, host: str | None = None, port: int | None = None, **kwargs: Any
    ) -> MonitoredClusterPubSub:
        """Create a subscriber. Its commands have spans; waiting for messages has none.

        It holds a connection to one node until it is closed. The parameters are those of
        :meth:`redis.cluster.RedisCluster.pubsub`.
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
        """Watch all commands of one node; see :meth:`redis.cluster.RedisCluster.monitor`.

        :param target_node: one of the nodes that ``get_nodes()`` returns; by default a primary that
            redis-py chooses.
        """
        node = target_node or self.get_default_node()
        return self._hold(MonitoredMonitor(self, self.get_redis_connection(node).connection_pool))

    def close(self) -> None:
        """Do nothing: the pool closes the connections, which all clients share."""

    def __del__(self) -> None:
        """Do nothing. redis-py's method would close the connections, which all clients share."""


_OWN = ("context_name", "server_span", "connection_pool", "redis_client_name", "_telemetry",
        "_retry", "deadlines", "_is_borrowed", "_hot_keys", "_held", "_own_callbacks",
        "_has_set_callbacks", "transaction_manager")  # fmt: skip
