"""The monitored pipeline: one span for what execute() sends, one for each command sent at once."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any, TypeVar, cast

import redis
from opentelemetry.trace import Span
from redis.client import CaseInsensitiveDict, Pipeline

from ..command_table import only_reads
from ..exceptions import lost_reply
from ..retries import RetryPolicy
from ..telemetry import command_spans, otel
from ..telemetry.hot_keys import HotKeyTracker
from ..telemetry.operations import ClientTelemetry

P = TypeVar("P", bound="MonitoredPipelineMixin")

# Unwrapped for the reason given in connection.py.
_execute = inspect.unwrap(Pipeline.execute)
_immediate_execute_command = inspect.unwrap(Pipeline.immediate_execute_command)


def copied_callbacks(callbacks: dict[str, Any]) -> CaseInsensitiveDict:
    """A copy of the response callbacks that many clients share; ``dict.copy`` loses the class."""
    own = CaseInsensitiveDict({})
    dict.update(own, callbacks)
    return own


class MonitoredPipelineMixin(Pipeline):
    """What is monitored about a pipeline, for any of redis-py's pipeline classes."""

    trace_name: str
    server_span: Span
    _telemetry: ClientTelemetry
    _retry: RetryPolicy | None = None
    _hot_keys: HotKeyTracker | None = None
    is_repeated = False  # whoever executes it does so again at a WatchError
    _first_error: tuple[Exception, str | None] | None = None

    def __enter__(self: P) -> P:
        return self

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send all queued commands and return their results, in one span.

        :param raise_on_error: raise the first command's error; otherwise errors stand among the
            results. The span tells of them in both cases.
        :raises redis.WatchError: if a watched key has changed; not a failure to the span.
        """
        if not self.command_stack and not self.watching:
            return cast("list[Any]", _execute(self, raise_on_error))
        if self._hot_keys is not None:
            for args, _ in self.command_stack:
                self._hot_keys.sample(args)
        in_transaction: Any = self.transaction  # redis-py's flag hides the method of that name
        transaction = bool(in_transaction or self.explicit_transaction)
        operation = self._telemetry.start_batch(
            self.server_span, self.trace_name, transaction, self.command_stack
        )
        if operation is None:
            return self._executed(raise_on_error)
        try:
            results = self._executed(raise_on_error)
        except BaseException as error:
            operation.fail(error, self._take_code(error))
            raise
        if not raise_on_error:
            for result in results:
                if isinstance(result, Exception):
                    operation.fail(result, self._take_code(result), results)
                    return results
        operation.end(results)
        return results

    def _executed(self, raise_on_error: bool) -> list[Any]:
        try:
            return self._tried(raise_on_error)
        except redis.WatchError as error:
            lost = lost_reply(error)
            if lost is None or not self.is_repeated:
                raise
        # redis-py takes a lost reply to EXEC for a key that has changed, and would do it all again.
        raise lost

    def _tried(self, raise_on_error: bool) -> list[Any]:
        self._check_replies()
        if self._retry is None or self.watching:
            return cast("list[Any]", _execute(self, raise_on_error))
        stack, scripts = self.command_stack, self.scripts
        explicit = self.explicit_transaction

        def execute() -> list[Any]:
            # redis-py forgets them at the end of each attempt.
            self.command_stack, self.scripts = stack, scripts
            self.explicit_transaction = explicit
            return cast("list[Any]", _execute(self, raise_on_error))

        reads = all(only_reads(args[0]) for args, _ in stack)
        return self._retry.call(execute, reads=reads)

    def _check_replies(self) -> None:
        """Refuse to go on where an interruption left a reply unread: it would be taken for ours.

        :raises redis.WatchError: if keys are watched, which they are no longer.
        """
        connection = self.connection
        if connection is not None and getattr(connection, "owes_replies", False):
            connection.disconnect()
            if self.watching:
                self.reset()
                raise redis.WatchError("A command was interrupted while watching one or more keys")

    def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command at once, in a span of its own: WATCH, and what is read before MULTI."""
        self._check_replies()
        if self._hot_keys is not None:
            self._hot_keys.sample(args)
        return self._telemetry.run(
            self.server_span, args, lambda: self._immediately_executed(args, options)
        )

    def _immediately_executed(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if self._retry is None or self.watching:
            return _immediate_execute_command(self, *args, **options)
        return self._retry.call(
            lambda: _immediate_execute_command(self, *args, **options),
            reads=args[0] == "WATCH" or only_reads(args[0]),
        )

    def reset(self) -> None:  # type: ignore[override]  # redis-py's has no return value either
        """Forget what is queued and watched, and give the connection back.

        As redis-py's, but an interruption on the way neither gives it back twice nor keeps it, and
        a server that has just failed isn't asked again.
        """
        connection, self.connection = self.connection, None
        watching, self.watching = self.watching, False
        self.command_stack = []
        self.scripts = set()
        self.explicit_transaction = False
        if connection is None:
            return
        if connection.pid != os.getpid():
            connection.disconnect()  # this process's copy; it is the parent's to give back
            return
        if watching and connection.is_connected and not getattr(connection, "owes_replies", False):
            try:
                connection.send_command("UNWATCH")
                connection.read_response()
            except (redis.ConnectionError, redis.TimeoutError):
                connection.disconnect()
        self.connection_pool.release(connection)

    def set_response_callback(self, command: str, callback: Callable[..., Any]) -> None:
        """Set a response callback for this pipeline alone."""
        self.response_callbacks = copied_callbacks(self.response_callbacks)
        super().set_response_callback(command, callback)

    def annotate_exception(self, exception: Any, number: int, command: Any) -> None:
        # redis-py now puts the command, with its values, in front of the server's error code.
        if self._first_error is None:
            self._first_error = (exception, otel.status_code(exception))
        super().annotate_exception(exception, number, command)

    def _take_code(self, error: BaseException) -> str | None:
        first, self._first_error = self._first_error, None
        return first[1] if first is not None and first[0] is error else None


class MonitoredRedisPipeline(MonitoredPipelineMixin):
    """A pipeline whose execution is one span; made by ``request.foo.pipeline(name)``.

    :param trace_name: the span's name.
    :param server_span: the span that it belongs to when no span is current.
    :param connection_pool: where its connection comes from.
    :param response_callbacks: those of the client.
    :param kwargs: ``transaction`` and ``shard_hint``, as in redis-py.

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
        hot_keys: HotKeyTracker | None = None,
        **kwargs: Any,
    ) -> None:
        self._retry = retry
        self._hot_keys = hot_keys
        self.trace_name = trace_name
        self.server_span = command_spans.checked_span(server_span)
        self.redis_client_name = redis_client_name
        if telemetry is None:
            context_name = trace_name.partition(".")[0]
            telemetry = ClientTelemetry.for_pool(connection_pool, context_name, redis_client_name)
        self._telemetry = telemetry
        super().__init__(
            connection_pool,
            response_callbacks,
            kwargs.pop("transaction", True),
            kwargs.pop("shard_hint", None),
            **kwargs,
        )


_monitored_classes: dict[type, type] = {}


def _monitored_class(pipeline_class: type) -> type:
    made = _monitored_classes.get(pipeline_class)
    if made is None:
        bases = (MonitoredPipelineMixin, pipeline_class)
        made = type(f"Monitored{pipeline_class.__name__}", bases, {})
        _monitored_classes[pipeline_class] = made
    return made


def monitored_module_pipeline(
    pipeline: Any,
    trace_name: str,
    server_span: Span,
    telemetry: ClientTelemetry,
    retry: RetryPolicy | None = None,
    hot_keys: HotKeyTracker | None = None,
) -> Any:
    """Make the pipeline of a module (JSON, search, time series) a monitored one."""
    pipeline.__class__ = _monitored_class(type(pipeline))
    pipeline.trace_name = trace_name
    pipeline.server_span = server_span
    pipeline._telemetry = telemetry
    pipeline._retry = retry
    pipeline._hot_keys = hot_keys
    return pipeline
