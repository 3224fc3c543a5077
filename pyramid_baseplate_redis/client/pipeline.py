"""Monitored pipelines: a span per execute(), and one per command that is sent immediately."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import redis
from opentelemetry.trace import Span
from redis.client import Pipeline

from ..command_table import only_reads
from ..deadlines import DeadlinePolicy
from ..exceptions import connection_error
from ..pool.blocking_pool import BlockingConnectionPool
from ..retries import RetryPolicy
from ..telemetry import command_spans
from ..telemetry.hot_keys.tracker import HotKeyTracker
from ..telemetry.operations import ClientTelemetry
from .direct_pipeline import execute_pipeline, execute_transaction, is_direct
from .pipeline_base import (
    KeepsErrorCodes,
    MonitoredPipelineBase,
    copied_callbacks,
)

T = TypeVar("T")

# OpenTelemetry's instrumentation of redis-py wraps these, which would start further spans.
_execute = inspect.unwrap(Pipeline.execute)
_immediate_execute_command = inspect.unwrap(Pipeline.immediate_execute_command)


class MonitoredPipelineMixin(MonitoredPipelineBase, KeepsErrorCodes, Pipeline):
    """Mixin that monitors a pipeline, for redis-py's pipeline and those of its modules."""

    def _batch(self) -> tuple[Sequence[Any], bool] | None:
        if not self.command_stack and not self.watching:
            return None
        in_transaction: Any = self.transaction  # redis-py's flag hides the method of that name
        return self.command_stack, bool(in_transaction or self.explicit_transaction)

    def _executed(self, raise_on_error: bool) -> list[Any]:
        return self._unrepeated(lambda: self._tried(raise_on_error))

    def _unrepeated(self, call: Callable[[], T]) -> T:
        """Call ``call``; in a transaction function, raise a lost connection's own error.

        redis-py turns that error into a WatchError, after which ``transaction()`` begins again. It
        would execute again what EXEC may have executed, and it would never end while a server
        answers WATCH but nothing else.
        """
        try:
            return call()
        except redis.WatchError as error:
            lost = connection_error(error)
            if lost is None or not self.is_repeated:
                raise
        raise lost

    def _tried(self, raise_on_error: bool) -> list[Any]:
        self._check_replies()
        if self._retry is None or self.watching:
            return self._execute_once(raise_on_error)
        stack, scripts = self.command_stack, self.scripts
        explicit = self.explicit_transaction

        def execute() -> list[Any]:
            # redis-py clears these at the end of each attempt.
            self.command_stack, self.scripts = stack, scripts
            self.explicit_transaction = explicit
            return self._execute_once(raise_on_error)

        reads = all(only_reads(args[0]) for args, _ in stack)
        return self._retry.call(execute, reads=reads)

    def _execute_once(self, raise_on_error: bool) -> list[Any]:
        pool = self.connection_pool
        if not isinstance(pool, BlockingConnectionPool) or not pool.is_plain:
            return cast("list[Any]", _execute(self, raise_on_error))
        # The same as redis-py's execute() with its metrics and retries off, but faster.
        stack: Any = self.command_stack
        if not stack and not self.watching:
            return []
        if self.scripts:
            self.load_scripts()
        in_transaction: Any = self.transaction
        connection = self.connection
        if connection is None:
            connection = self.connection = pool.get_connection()
        try:
            if in_transaction or self.explicit_transaction:
                return self._execute_transaction(connection, stack, raise_on_error)
            return self._execute_pipeline(connection, stack, raise_on_error)
        except (redis.ConnectionError, redis.TimeoutError, TimeoutError) as error:
            self._disconnect_raise_on_watching(connection, error, failure_count=1)
            raise
        finally:
            self.reset()

    def _execute_pipeline(self, connection: Any, commands: Any, raise_on_error: bool) -> list[Any]:
        if is_direct(self, connection, commands):
            return execute_pipeline(self, connection, commands, raise_on_error)
        results: list[Any] = super()._execute_pipeline(connection, commands, raise_on_error)
        return results

    def _execute_transaction(
        self, connection: Any, commands: Any, raise_on_error: bool
    ) -> list[Any]:
        if is_direct(self, connection, commands):
            return execute_transaction(self, connection, commands, raise_on_error)
        return super()._execute_transaction(connection, commands, raise_on_error)

    def _check_replies(self) -> None:
        """Disconnect if an interrupted command left a reply unread: it would be taken for ours.

        :raises redis.WatchError: keys were watched, and no longer are.
        """
        connection = self.connection
        if connection is not None and getattr(connection, "owes_replies", False):
            connection.disconnect()
            if self.watching:
                self.reset()
                raise redis.WatchError("A command was interrupted while watching one or more keys")

    def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command immediately, in its own span: WATCH, and what is read before MULTI."""
        self._check_replies()
        return self.run_as_operation(args, lambda: self._immediately_executed(args, options))

    def _immediately_executed(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if self._retry is None or self.watching:
            return self._unrepeated(lambda: _immediate_execute_command(self, *args, **options))
        return self._retry.call(
            lambda: _immediate_execute_command(self, *args, **options),
            reads=args[0] == "WATCH" or only_reads(args[0]),
        )

    def __del__(self) -> None:
        # The garbage collector finalizes everything in a cycle, the connection's socket too, and
        # maybe after this. Close the connection first, or its next user would find it closed in
        # the middle of a command.
        if self.connection is not None:
            with contextlib.suppress(Exception):
                self.connection.disconnect()
                self.reset()

    def reset(self) -> None:  # type: ignore[override]  # redis-py's has no return value either
        """Discard queued commands and watched keys, and return the connection to the pool.

        Differs from redis-py in two ways: an interruption neither returns the connection twice nor
        keeps it, and nothing is sent on a connection that has just failed.
        """
        connection, self.connection = self.connection, None
        watching, self.watching = self.watching, False
        self.command_stack = []
        self.scripts = set()
        self.explicit_transaction = False
        if connection is not None:
            self.return_connection(connection, watching, self.connection_pool.release)

    def set_response_callback(self, command: str, callback: Callable[..., Any]) -> None:
        """Set a response callback for this pipeline alone."""
        self.response_callbacks = copied_callbacks(self.response_callbacks)
        super().set_response_callback(command, callback)


class MonitoredRedisPipeline(MonitoredPipelineMixin):
    """A pipeline whose execution is one span; created by ``request.foo.pipeline(name)``.

    :param trace_name: the span's name.
    :param server_span: the parent of the span when no span is current; ``None`` for no parent.
    :param connection_pool: where its connection comes from.
    :param response_callbacks: the client's response callbacks.
    :param redis_client_name: ``db.client.connection.pool.name`` on the span; by default the part of
        ``trace_name`` before the first dot.
    :param telemetry: the client's telemetry; a new one by default.
    :param retry: the client's retries; none by default.
    :param deadlines: bounds the time of each call; no limit by default.
    :param hot_keys: counts the keys of the commands, if the client does.
    :param transaction: whether the commands are executed atomically (MULTI ... EXEC).
    :param shard_hint: see :meth:`redis.Redis.pipeline`.
    :param kwargs: passed to redis-py's pipeline.

    The names are those of ``baseplate.clients.redis``.
    """

    def __init__(
        self,
        trace_name: str,
        server_span: Span | None,
        connection_pool: redis.ConnectionPool,
        response_callbacks: dict[str, Any],
        redis_client_name: str = "",
        *,
        telemetry: ClientTelemetry | None = None,
        retry: RetryPolicy | None = None,
        deadlines: DeadlinePolicy | None = None,
        hot_keys: HotKeyTracker | None = None,
        transaction: Any = True,
        shard_hint: Any = None,
        **kwargs: Any,
    ) -> None:
        self._retry = retry
        self._deadlines = deadlines
        self._hot_keys = hot_keys
        self.trace_name = trace_name
        if telemetry is None or server_span is None:  # a client has checked its own span
            server_span = command_spans.checked_span(server_span)
        self.server_span = server_span
        self.redis_client_name = redis_client_name
        if telemetry is None:
            context_name = trace_name.partition(".")[0]
            telemetry = ClientTelemetry.for_pool(connection_pool, context_name, redis_client_name)
        self._telemetry = telemetry
        super().__init__(connection_pool, response_callbacks, transaction, shard_hint, **kwargs)


_monitored_classes: dict[type, type] = {}


def _monitored_class(pipeline_class: type) -> type:
    made = _monitored_classes.get(pipeline_class)
    if made is None:
        bases = (MonitoredPipelineMixin, pipeline_class)
        made = type(f"Monitored{pipeline_class.__name__}", bases, {})
        _monitored_classes[pipeline_class] = made
    return made


def monitored_module_pipeline(pipeline: Any, model: MonitoredRedisPipeline) -> Any:
    """Turn the pipeline of a module (JSON, search, time series) into a monitored one.

    :param model: a pipeline of the client, whose telemetry and retries it gets.
    :returns: ``pipeline`` itself.
    """
    pipeline.__class__ = _monitored_class(type(pipeline))
    pipeline.__dict__ = {**vars(model), **vars(pipeline)}
    return pipeline
