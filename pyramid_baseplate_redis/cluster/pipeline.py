"""The monitored pipeline of a Cluster: one span for what execute() sends, to whichever nodes."""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from operator import itemgetter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import redis
from opentelemetry.trace import Span
from redis.backoff import NoBackoff
from redis.cluster import ClusterPipeline, PipelineStrategy, RedisCluster
from redis.retry import Retry

from ..client.pipeline import copied_callbacks
from ..command_table import only_reads
from ..exceptions import REDIRECTION_ERRORS
from ..pool.error_messages import explain_cross_slot, hide_arguments
from ..retries import RetryPolicy
from ..telemetry import otel
from ..telemetry.hot_keys import HotKeyTracker
from .callbacks import TransactionCallbacks
from .rerouting import UNREACHED, Reroutable, last_asked_node, reroute
from .transaction import MonitoredTransactionStrategy, RedirectionRetry

if TYPE_CHECKING:
    from .pool import ClusterConnectionPool
    from .redis_cluster import SharedCluster

# Unwrapped for the reason given in connection.py.
_execute = inspect.unwrap(ClusterPipeline.execute)
_execute_command = inspect.unwrap(RedisCluster.execute_command)
# What redis-py sends again; it looks at its own class only.
_SENT_AGAIN = ClusterPipeline.ERRORS_ALLOW_RETRY


class MonitoredRedisClusterPipeline(Reroutable, ClusterPipeline):
    """A pipeline whose execution is one span; made by ``request.foo.pipeline(name)``.

    As :class:`redis.cluster.ClusterPipeline`, but what a node may have executed isn't sent again
    after a failure of its connection: redis-py does that, so that an INCR counts twice. A
    transaction's results are those of a single server's: redis-py leaves most of them unparsed.

    :param trace_name: the span's name.
    :param server_span: the span that it belongs to when no span is current.
    :param client: the client that it is made for.
    :param transaction: whether the commands are executed atomically, on one node.
    """

    # Looked at by redis-py when a command of it is sent alone.
    ERRORS_ALLOW_RETRY: Any = ()

    def __init__(
        self,
        trace_name: str,
        server_span: Span,
        client: SharedCluster,
        *,
        transaction: bool = False,
        retry: RetryPolicy | None = None,
        hot_keys: HotKeyTracker | None = None,
    ) -> None:
        self.trace_name = trace_name
        self.server_span = server_span
        self._client = client
        self._telemetry = client.client_telemetry
        self._retry = retry
        self._hot_keys = hot_keys
        self._first_error: tuple[Exception, str | None] | None = None
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
        self.encoder = client.encoder  # redis-py makes one, without decode_responses
        self.parent_execute_command = self._send_again
        self._execution_strategy = (
            MonitoredTransactionStrategy(self) if transaction else _Pipeline(self)
        )
        self._failures: Iterator[Exception] | None = None

    def __enter__(self) -> MonitoredRedisClusterPipeline:
        return self

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
        """What the clients of the process share."""
        shared: ClusterConnectionPool = self._client.connection_pool
        return shared

    @property
    def connection(self) -> Any:
        """The connection that a transaction keeps while it watches keys."""
        return getattr(self._execution_strategy, "_transaction_connection", None)

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send all queued commands and return their results, in one span.

        :param raise_on_error: raise the first command's error; otherwise errors stand among the
            results. The span tells of them in both cases.
        :raises redis.WatchError: if a watched key has changed; not a failure to the span.
        """
        queue = self._execution_strategy.command_queue
        if not queue and self.connection is None:
            self.check_replies()
            return cast("list[Any]", _execute(self, raise_on_error))
        if self._hot_keys is not None:
            for command in queue:
                self._hot_keys.sample(command.args)
        operation = self._telemetry.start_batch(
            self.server_span,
            self.trace_name,
            self.in_transaction,
            [(command.args, command.options) for command in queue],
        )
        try:
            results = self._executed(raise_on_error)
        except BaseException as error:
            explain_cross_slot(error)
            for command in queue:
                hide_arguments(error, command.args)
            if operation is not None:
                operation.fail(error, self._take_code(error))
            raise
        if operation is None:
            return results
        if not raise_on_error:
            for result in results:
                if isinstance(result, Exception):
                    operation.fail(result, self._take_code(result), results)
                    return results
        operation.end(results)
        return results

    def _executed(self, raise_on_error: bool) -> list[Any]:
        self.check_replies()
        queue = self._execution_strategy.command_queue
        # Some may have been executed where others failed: only what reads is sent again. Not where
        # keys were watched: they are no longer.
        is_repeatable = self.connection is None and all(
            only_reads(command.args[0]) for command in queue
        )
        if self._retry is None or not is_repeatable:
            self._failures = None
            return cast("list[Any]", _execute(self, raise_on_error))
        strategy: Any = self._execution_strategy  # its base class has no setter
        slots = getattr(strategy, "_pipeline_slots", None)

        def execute() -> list[Any]:
            # redis-py forgets them at the end of each attempt.
            strategy.command_queue = queue
            strategy._pipeline_slots = slots
            self._failures = None
            return cast("list[Any]", _execute(self, raise_on_error))

        return self._retry.call(execute, reads=True)

    def _send_again(self, *args: Any, **options: Any) -> Any:
        """Called by redis-py for each command that failed, or that a node sent elsewhere.

        The former fails as before: the node may have executed it.
        """
        if self._failures is None:  # the first of them, in redis-py's order
            queue = sorted(self._execution_strategy.command_queue, key=lambda each: each.position)
            results = [command.result for command in queue]
            failures = [each for each in results if isinstance(each, _SENT_AGAIN)]
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
        """Refuse to go on where an interruption left a reply unread: it would be taken for ours.

        Nor without the connection on which keys were watched: nothing guards what is executed on
        another.

        :raises redis.WatchError: since keys are watched no longer.
        """
        connection = self.connection
        if connection is not None and getattr(connection, "owes_replies", False):
            self.reset()
            raise redis.WatchError("A command was interrupted while watching one or more keys")
        is_lost = connection is None or not connection.is_connected
        if is_lost and getattr(self._execution_strategy, "has_watched", False):
            self.reset()
            raise redis.WatchError("The connection was lost while watching one or more keys")

    def traced(self, args: tuple[Any, ...], call: Callable[[], Any]) -> Any:
        """Run ``call`` in the span of a command that is sent at once."""
        if self._hot_keys is not None:
            self._hot_keys.sample(args)
        return self._telemetry.run(self.server_span, args, call)

    def close(self) -> None:
        """Give the connection back; see :meth:`reset`."""
        self.reset()

    def note_error(self, error: Exception) -> None:
        """Called before redis-py puts the command in front of the server's error code."""
        if self._first_error is None:
            self._first_error = (error, otel.status_code(error))

    def _take_code(self, error: BaseException) -> str | None:
        first, self._first_error = self._first_error, None
        return first[1] if first is not None and first[0] is error else None


class _Pipeline(PipelineStrategy):
    """redis-py's, which tells the pipeline of errors, and takes connections in one order.

    redis-py takes one to each node as it comes up among the commands, and waits for the next: two
    pipelines that begin with each other's node would wait until ``pool_timeout``.
    """

    _pipe: MonitoredRedisClusterPipeline
    _handled: BaseException | None = None  # the exception that its callers are handling

    def __init__(self, pipe: MonitoredRedisClusterPipeline) -> None:
        super().__init__(pipe)
        self._nodes_manager: Any = SimpleNamespace(initialize=self._refresh_layout)

    def annotate_exception(self, exception: Any, number: int, command: Any) -> None:
        self._pipe.note_error(exception)
        super().annotate_exception(exception, number, command)

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
        for position, command in enumerate(self._by_node(stack) or stack):
            command.position = position
        targets = [command.options.get("target_nodes") for command in stack]
        self._handled = sys.exc_info()[1]
        try:
            super()._send_cluster_commands(stack, False, allow_redirections)
        except UNREACHED:
            self._restore_targets(stack, targets)
            raise
        finally:
            for position, command in enumerate(stack):
                command.position = position

    def _restore_targets(self, stack: Any, targets: list[Any]) -> None:
        """Give the commands their target nodes back, which redis-py removes while it sends them.

        A command for the node that could not be reached gets none: it goes to its key's node, as in
        redis-py, whose ``delete()`` and ``mset_nonatomic()`` name a node for each command.
        """
        unreached = last_asked_node()
        for command, nodes in zip(stack, targets, strict=True):
            command.options.pop("target_nodes", None)
            if nodes and not self._is_nodes_flag(nodes):
                nodes = [node for node in self._parse_target_nodes(nodes) if node.name != unreached]
            if nodes:
                command.options["target_nodes"] = nodes

    def _refresh_layout(self) -> None:
        """Ask for the layout after redirections; called by redis-py.

        redis-py also calls this when it can't reach a node, while it still holds connections that
        it has released: an error raised here would make it release them a second time. In that case
        :func:`reroute` asks for the layout afterwards.
        """
        if sys.exc_info()[1] is self._handled:
            self._pipe.nodes_manager.initialize()

    def _by_node(self, stack: Any) -> Any:
        """Return the commands of each node together; ``None`` where they may stay as they are."""
        nodes = self._pipe.shared_pool.primaries_of(stack)
        if nodes is None or len(set(nodes)) < 2:
            return None
        return [command for _, command in sorted(zip(nodes, stack, strict=True), key=itemgetter(0))]
