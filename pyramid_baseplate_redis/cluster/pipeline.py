"""The monitored pipeline of a Cluster: one span per execute(), however many nodes take part."""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import redis
from opentelemetry.trace import Span
from redis.backoff import NoBackoff
from redis.cluster import ClusterPipeline, RedisCluster
from redis.retry import Retry

from ..client.pipeline_base import KeepsErrorCodes, MonitoredPipelineBase, copied_callbacks
from ..command_table import only_reads
from ..deadlines import DeadlinePolicy
from ..exceptions import REDIRECTION_ERRORS, PoolReleaseError
from ..pool.error_messages import explain_cross_slot, hide_arguments
from ..retries import RetryPolicy, was_unsent
from ..telemetry.hot_keys.tracker import HotKeyTracker
from .callbacks import TransactionCallbacks
from .direct_pipeline import DirectPipelineStrategy
from .rerouting import UNREACHED, Reroutable, last_asked_node, raise_handled, reroute
from .transaction import MonitoredTransactionStrategy, RedirectionRetry

if TYPE_CHECKING:
    from .pool import ClusterConnectionPool
    from .redis_cluster import SharedCluster

# OpenTelemetry's instrumentation of redis-py wraps these, which would start further spans.
_execute = inspect.unwrap(ClusterPipeline.execute)
_execute_command = inspect.unwrap(RedisCluster.execute_command)
# The errors after which redis-py repeats a pipeline's commands, read from its own class.
_SENT_AGAIN = ClusterPipeline.ERRORS_ALLOW_RETRY


class MonitoredRedisClusterPipeline(MonitoredPipelineBase, Reroutable, ClusterPipeline):
    """A pipeline whose execution is one span; created by ``request.foo.pipeline(name)``.

    It differs from :class:`redis.cluster.ClusterPipeline` in two ways:

    - A command that a node may have executed is not sent again after a failed connection. redis-py
      sends it again, and an INCR may count twice.
    - A transaction returns the same results as on a single server. redis-py leaves most of them
      unparsed.

    :param trace_name: the span's name.
    :param server_span: the parent of the span when no span is current.
    :param client: the client that creates it.
    :param transaction: whether the commands are executed atomically, on one node.
    :param retry: the client's retries; none by default.
    :param deadlines: bounds the time of each call; no limit by default.
    :param hot_keys: counts the keys of the commands, if the client does.
    """

    # redis-py reads this when it sends one of the commands alone.
    ERRORS_ALLOW_RETRY: Any = ()

    def __init__(
        self,
        trace_name: str,
        server_span: Span,
        client: SharedCluster,
        *,
        transaction: bool = False,
        retry: RetryPolicy | None = None,
        deadlines: DeadlinePolicy | None = None,
        hot_keys: HotKeyTracker | None = None,
    ) -> None:
        self.trace_name = trace_name
        self.server_span = server_span
        self._client = client
        self._telemetry = client.client_telemetry
        self._retry = retry
        self._deadlines = deadlines
        self._hot_keys = hot_keys
        self.in_transaction = transaction
        callbacks: Any = client.cluster_response_callbacks
        if transaction:
            callbacks = TransactionCallbacks(callbacks)
        super().__init__(
            nodes_manager=client.nodes_manager,
            commands_parser=client.commands_parser,
            startup_nodes=client.startup_nodes,
            result_callbacks=client.result_callbacks,
            cluster_response_callbacks=callbacks,
            read_from_replicas=client.read_from_replicas,
            load_balancing_strategy=client.load_balancing_strategy,
            reinitialize_steps=client.reinitialize_steps,
            retry=RedirectionRetry() if transaction else Retry(NoBackoff(), 0),
            lock=client._lock,
            transaction=transaction,
            event_dispatcher=client._event_dispatcher,
        )
        self.encoder = client.encoder  # redis-py's ignores decode_responses
        self.parent_execute_command = self._send_again
        self._execution_strategy = (
            MonitoredTransactionStrategy(self) if transaction else _Pipeline(self)
        )
        self._failures: Iterator[Exception] | None = None

    @property
    def reinitialize_counter(self) -> int:
        """See :attr:`.MonitoredRedisClusterConnection.reinitialize_counter`."""
        return self._client.reinitialize_counter

    @reinitialize_counter.setter
    def reinitialize_counter(self, value: int) -> None:
        if value:  # redis-py's constructor sets it to 0
            self._client.reinitialize_counter = value

    @property
    def shared_pool(self) -> ClusterConnectionPool:
        """The pool that all clients of the process share."""
        shared: ClusterConnectionPool = self._client.connection_pool
        return shared

    @property
    def connection(self) -> Any:
        """The connection that a transaction holds while it watches keys."""
        return getattr(self._execution_strategy, "_transaction_connection", None)

    def _batch(self) -> tuple[Sequence[Any], bool] | None:
        queue = self._execution_strategy.command_queue
        if not queue and self.connection is None:
            return None
        return [(command.args, command.options) for command in queue], self.in_transaction

    def _executed(self, raise_on_error: bool) -> list[Any]:
        queue = self._execution_strategy.command_queue
        try:
            return self._tried(raise_on_error)
        except BaseException as error:
            explain_cross_slot(error)
            for command in queue:
                hide_arguments(error, command.args)
            raise

    def _tried(self, raise_on_error: bool) -> list[Any]:
        self.check_replies()
        queue = self._execution_strategy.command_queue
        # Only pipelines that just read are repeated: a node may have executed its part although
        # another failed. Nothing is repeated after WATCH, since a failure ends the watching.
        is_repeatable = self.connection is None and all(
            only_reads(command.args[0]) for command in queue
        )
        if self._retry is None or not is_repeatable:
            self._failures = None
            return cast("list[Any]", _execute(self, raise_on_error))
        strategy: Any = self._execution_strategy  # its base class has no setter
        slots = getattr(strategy, "_pipeline_slots", None)

        def execute() -> list[Any]:
            # redis-py clears these at the end of each attempt.
            strategy.command_queue = queue
            strategy._pipeline_slots = slots
            self._failures = None
            return cast("list[Any]", _execute(self, raise_on_error))

        return self._retry.call(execute, reads=True)

    def _send_again(self, *args: Any, **options: Any) -> Any:
        """Send a redirected command to its new node; raise the error of any other command again.

        redis-py calls this to repeat each command that a node redirected or whose connection
        failed. In the second case the node may have executed it.
        """
        if self._failures is None:  # the first of them, in redis-py's order
            queue = sorted(self._execution_strategy.command_queue, key=lambda each: each.position)
            results = [command.result for command in queue]
            failures: list[Any] = [each for each in results if isinstance(each, _SENT_AGAIN)]
            if not all(isinstance(each, Exception) and was_unsent(each) for each in results):
                # Another node has executed its part, or will do so after a redirection: a retry of
                # the whole pipeline would execute that part again.
                for each in failures:
                    each.unsent = False
            self._failures = iter(failures)
        failed = next(self._failures)
        if not isinstance(failed, REDIRECTION_ERRORS):
            raise failed
        return reroute(self, lambda: _execute_command(self, *args, **options))

    def set_response_callback(self, command: str, callback: Callable[..., Any]) -> None:
        """Set a response callback for this pipeline alone."""
        if not self.in_transaction:
            self.cluster_response_callbacks = copied_callbacks(self.cluster_response_callbacks)
        super().set_response_callback(command, callback)

    def check_replies(self) -> None:
        """Raise if the transaction can no longer continue on its connection.

        There are two cases:

        1. An interrupted command left a reply unread, which would be taken for ours.
        2. The connection that watches the keys is gone, so nothing guards the transaction.

        :raises redis.WatchError: in both cases; the keys are no longer watched.
        """
        connection = self.connection
        if connection is not None and getattr(connection, "owes_replies", False):
            self.reset()
            raise redis.WatchError("A command was interrupted while watching one or more keys")
        is_lost = connection is None or not connection.is_connected
        if is_lost and getattr(self._execution_strategy, "has_watched", False):
            self.reset()
            raise redis.WatchError("The connection was lost while watching one or more keys")

    def close(self) -> None:
        """Return the connection to the pool; see :meth:`reset`."""
        self.reset()


class _Pipeline(KeepsErrorCodes, DirectPipelineStrategy):
    """redis-py's strategy for plain pipelines, which also keeps error codes and avoids a deadlock.

    redis-py checks out a connection to each node in the order of the commands. Two pipelines that
    use the same nodes in opposite order could wait for each other until ``pool_timeout``. Here all
    pipelines check out their connections in the same order of nodes.
    """

    _pipe: MonitoredRedisClusterPipeline
    _handled: BaseException | None = None  # the exception that callers are handling

    def __init__(self, pipe: MonitoredRedisClusterPipeline) -> None:
        super().__init__(pipe)
        self._nodes_manager: Any = SimpleNamespace(initialize=self._refresh_layout)

    def _send_cluster_commands(
        self, stack: Any, raise_on_error: bool = True, allow_redirections: bool = True
    ) -> Any:
        started = time.monotonic()
        send = partial(self._send_by_node, stack, allow_redirections)
        reroute(self._pipe, send, refresh=True)
        if raise_on_error:
            self._raise_first_error(stack, started)
        return [command.result for command in stack]

    def _send_by_node(self, stack: Any, allow_redirections: bool) -> None:
        nodes = self._pipe.shared_pool.primaries_of(stack)
        order = list(range(len(stack)))
        if nodes is not None:
            order.sort(key=[node.name for node in nodes].__getitem__)
        for position, index in enumerate(order):
            stack[index].position = position
        targets = [command.options.get("target_nodes") for command in stack]
        self._handled = sys.exc_info()[1]
        try:
            if nodes is not None and self._is_direct(stack):
                self._send_directly(
                    [stack[index] for index in order],
                    [nodes[index] for index in order],
                    allow_redirections,
                )
            else:
                super()._send_cluster_commands(stack, False, allow_redirections)
        except UNREACHED:
            self._restore_targets(stack, targets)
            raise
        except PoolReleaseError as error:
            # An interruption came while redis-py released the connections to the nodes that it
            # could reach, and it releases them again at the end.
            raise_handled(error)
        finally:
            for position, command in enumerate(stack):
                command.position = position

    def _restore_targets(self, stack: Any, targets: list[Any]) -> None:
        """Restore the commands' target nodes, which redis-py removes while it sends them.

        The node that could not be reached is left out. A command without a target goes to the node
        of its key, as in redis-py, whose ``delete()`` and ``mset_nonatomic()`` set a target for
        each command.
        """
        unreached = last_asked_node()
        for command, nodes in zip(stack, targets, strict=True):
            command.options.pop("target_nodes", None)
            if nodes and not self._is_nodes_flag(nodes):
                nodes = [node for node in self._parse_target_nodes(nodes) if node.name != unreached]
            if nodes:
                command.options["target_nodes"] = nodes

    def _refresh_layout(self) -> None:
        """Refresh the layout after redirections; called by redis-py.

        redis-py also calls this when it cannot reach a node, while it still refers to connections
        that it has released: an error raised here would make it release them a second time. In that
        case :func:`reroute` refreshes the layout later.
        """
        if sys.exc_info()[1] is self._handled:
            self._pipe.nodes_manager.initialize()
