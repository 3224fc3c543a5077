"""Operations: each command, or execution of a pipeline, from its start to its end.

One operation makes one span and one measurement of ``db.client.operation.duration``, and is
reported to the observers: Prometheus, the debug toolbar.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

import redis
from opentelemetry.context import Context
from opentelemetry.trace import Span

from . import command_spans, metrics, otel, request_totals, span_outcomes
from .call_details import CallDetails, has_call_details, pop_call_details
from .otel import has_meter_provider
from .request_totals import RequestTotals

T = TypeVar("T")


class Observer(Protocol):
    """Receives a client's operations, in the thread or greenlet that runs them.

    Commands wait for it. An exception that it raises is logged once and not passed on.
    """

    def started(self, operation: Operation) -> None:
        """Receive an operation that begins."""

    def ended(self, operation: Operation, result: object) -> None:
        """Receive an operation that has ended.

        :param result: the value that redis-py returned; ``None`` if it raised.
        """


#: The key of a WSGI environ under which the request's observer is stored.
OBSERVER_KEY = "pyramid_baseplate_redis.observer"
#: The observer of the code that runs now, such as the subrequests of an observed request.
current_observer: ContextVar[Observer | None] = ContextVar(
    "pyramid_baseplate_redis_observer", default=None
)


def observer_of(environ: Mapping[str, Any]) -> Observer | None:
    """Return the observer of a request's operations; ``None`` if it is not observed.

    :param environ: the request's WSGI environ. It takes precedence over the context variable
        :data:`current_observer`, which threads and response bodies do not inherit.
    """
    found: Observer | None = environ.get(OBSERVER_KEY)
    return current_observer.get() if found is None else found


class Operation:
    """A command, or the execution of a pipeline, that is running or has ended.

    The caller that got it from a :class:`ClientTelemetry` must call :meth:`end`, :meth:`fail` or
    :meth:`end_noscript` once.
    """

    # The defaults are class attributes: most are never set on an instance, and each assignment
    # would delay the command.
    #: A command's arguments, as they were passed to redis-py.
    args: Sequence[Any] = ()
    #: A pipeline's commands: redis-py's pairs of arguments and options.
    commands: Sequence[Any] | None = None
    is_transaction = False
    #: When it started: seconds of :func:`time.perf_counter`.
    started = 0.0
    #: Seconds; set when it has ended.
    duration = 0.0
    #: The exception that it failed with. A :class:`redis.WatchError` does not count as a failure;
    #: an error inside ``execute(raise_on_error=False)`` does.
    error: BaseException | None = None
    #: The server's error code, such as ``WRONGTYPE``.
    code: str | None = None
    #: The waiting time for a connection, the server and the retries.
    notes: CallDetails | None = None
    metered = False
    span: Span | None = None
    # Set if the span starts when the operation ends. There are two reasons: on a Cluster, only then
    # is the node known; and with trace_min_duration, only then is the duration known.
    context: Context | None = None
    start_time: int | None = None  # nanoseconds since the epoch
    #: The totals of its request, if operations that are fast have no span.
    totals: RequestTotals | None = None
    batch_name = ""
    attributes: dict[str, Any] | None = None
    #: The span's name and attributes of its own; see :meth:`describe_as`.
    purpose: tuple[str, Mapping[str, Any]] | None = None

    def __init__(
        self, telemetry: ClientTelemetry, args: Sequence[Any] = (), span: Span | None = None
    ) -> None:
        self.telemetry = telemetry
        self.args = args
        self.span = span

    @property
    def name(self) -> str:
        """The ``db.operation.name``: ``GET``, ``CONFIG GET``, ``PIPELINE SET``, ``MULTI``."""
        return command_spans.operation_of(self.describe())

    @property
    def trace_name(self) -> str:
        """The span's name, even if there is no span: ``foo.GET``, ``foo.pipeline_load``."""
        return self.batch_name or f"{self.telemetry.context_name}.{self.name}"

    def begin(self, start_time: int | None) -> None:
        """Start the clock and notify the observers.

        :class:`ClientTelemetry` calls it after all attributes are set.

        :param start_time: nanoseconds since the epoch, if the operation started earlier.
        """
        if start_time is None:
            pop_call_details()  # discard the details left by an earlier call
        observers = self.telemetry.observers
        if not (self.metered or observers or self.totals is not None):
            return  # a span measures its own time
        self.started = time.perf_counter()
        if start_time is not None:
            self.started -= (time.time_ns() - start_time) / 1e9
        for observer in observers:
            try:
                observer.started(self)
            except Exception:
                otel.log_once("an observer of operations failed")

    def describe_as(self, name: str, attributes: Mapping[str, Any]) -> None:
        """Name its span, if there is one, after what the command is for.

        :param attributes: added to the command's own.
        """
        self.purpose = (name, attributes)
        if self.span is not None:
            span_outcomes.rename(self.span, *self.purpose)

    def end(self, result: object = None) -> None:
        """Record that it succeeded.

        :param result: passed to the observers.
        """
        if self.started or self.context is not None or has_call_details():
            self._over(has_succeeded=True)
        if self.span is not None:
            if self.notes is None:
                try:
                    self.span.end()
                except Exception:
                    otel.log_once("ending a span failed")
            else:
                span_outcomes.end(self.span, self.notes)
        if self.metered or self.telemetry.observers:
            self._report(result)

    def fail(self, error: BaseException, result: object = None) -> None:
        """Record that it failed; a :class:`redis.WatchError` only ends it.

        :param result: passed to the observers, if the caller gets a result and no exception.
        """
        self._over()
        if not isinstance(error, redis.WatchError):
            self.error = error
            # See note_code().
            self.code = getattr(error, "noted_code", None) or otel.status_code(error)
        if self.span is not None:
            span_outcomes.fail(self.span, error, self.notes, self.code)
        self._report(result)

    def end_noscript(self) -> None:
        """Record that the server does not know an EVALSHA's script.

        That is not a failure: redis-py loads the script and tries again.
        """
        self._over()
        self.code = "NOSCRIPT"
        if self.span is not None:
            span_outcomes.end_noscript(self.span, self.notes)
        self._report(None)

    def _over(self, *, has_succeeded: bool = False) -> None:
        if self.started:
            self.duration = time.perf_counter() - self.started
        self.notes = pop_call_details()
        if self.context is None or (self._is_counted() and has_succeeded and self._is_fast()):
            return
        self.span = self._started_span(self.context)
        if self.purpose is not None and self.span is not None:
            span_outcomes.rename(self.span, *self.purpose)

    def _is_counted(self) -> bool:
        """Add it to the totals of its request; return whether there are any."""
        if self.totals is None:
            return False
        commands = 1 if self.commands is None else len(self.commands)
        waited = 0.0 if self.notes is None else self.notes.waited
        try:
            return self.totals.add(self.telemetry.context_name, commands, self.duration, waited)
        except Exception:
            otel.log_once("counting the operations of a request failed")
            return False

    def _is_fast(self) -> bool:
        is_ordinary = self.notes is None or self.notes.is_ordinary
        return is_ordinary and self.duration < self.telemetry.min_duration

    def _started_span(self, context: Context) -> Span | None:
        tracer = self.telemetry.tracer
        if self.commands is None:
            return tracer.started_command(context, self.args, self.start_time, self.notes)
        return tracer.started_batch(
            context, self.batch_name, self.describe(), self.commands, self.start_time
        )

    def _report(self, result: object) -> None:
        if self.metered:
            try:
                metrics.record_operation(self.duration, self.describe(), self.error, self.code)
            except Exception:
                otel.log_once("measuring an operation failed")
        for observer in self.telemetry.observers:
            try:
                observer.ended(self, result)
            except Exception:
                otel.log_once("an observer of operations failed")

    def describe(self) -> dict[str, Any]:
        """Return the attributes of its span; do not modify them."""
        tracer = self.telemetry.tracer
        if self.commands is None:
            return tracer.command_attributes(self.args[0], self.notes)
        if self.attributes is None:
            self.attributes = tracer.batch_attributes(self.is_transaction, self.commands)
        return self.attributes


class ClientTelemetry:
    """Starts the operations of one client, if a span, a metric or an observer needs them.

    :param tracer: starts and ends their spans.
    :param observers: notified of each operation; read again for each one, so a list may change.
    :param metered: whether to record durations when a meter provider is set.
    :param in_cluster: whether to start a command's span at its end, when the node is known.
    :param min_duration: seconds; an operation that succeeds faster has no span, if its request
        can count it.
    """

    def __init__(
        self,
        tracer: command_spans.CommandTracer,
        observers: Sequence[Observer] = (),
        *,
        metered: bool = True,
        in_cluster: bool = False,
        min_duration: float = 0.0,
    ) -> None:
        self.tracer = tracer
        self.observers = observers
        self._metered = metered
        self._in_cluster = in_cluster
        self.min_duration = min_duration
        if min_duration:
            request_totals.enable()

    @classmethod
    def for_pool(cls, pool: Any, context_name: str, redis_client_name: str = "") -> ClientTelemetry:
        """Return the telemetry of a client, configured by the settings of its pool."""
        settings = getattr(pool, "client_settings", None)
        return cls(
            command_spans.CommandTracer.for_pool(pool, context_name, redis_client_name),
            getattr(pool, "observers", ()),
            metered=settings.metrics if settings else True,
            in_cluster=settings.parsed_url.is_cluster if settings else False,
            min_duration=settings.trace_min_duration.total_seconds() if settings else 0.0,
        )

    @property
    def context_name(self) -> str:
        """The client's name."""
        return self.tracer.context_name

    def is_metered(self) -> bool:
        """Return whether measurements are recorded now."""
        return self._metered and has_meter_provider() and not otel.is_suppressed()

    def observed_by(self, observer: Observer) -> ClientTelemetry:
        """Return a copy that also notifies ``observer``."""
        return self._twin(self.tracer, (*self.observers, observer))

    def children_only(self) -> ClientTelemetry:
        """Return a copy that never starts a root span."""
        return self._twin(self.tracer.children_only(), self.observers)

    def _twin(
        self, tracer: command_spans.CommandTracer, observers: Sequence[Observer]
    ) -> ClientTelemetry:
        return ClientTelemetry(
            tracer,
            observers,
            metered=self._metered,
            in_cluster=self._in_cluster,
            min_duration=self.min_duration,
        )

    def start_command(
        self, server_span: Span, args: Sequence[Any], start_time: int | None = None
    ) -> Operation | None:
        """Start a command's operation; return ``None`` if nothing records it.

        :param server_span: the parent of its span if no span is current.
        :param args: the command and its arguments.
        :param start_time: nanoseconds since the epoch, if it started earlier.
        """
        if not args:
            return None
        current = otel.current_context()
        context = None
        if current is not None:
            context = self.tracer.command_context(server_span, args, current)
        span = totals = None
        if context is not None and self.min_duration:
            totals = request_totals.found(context, server_span)
        if context is not None and totals is None and not self._in_cluster:
            span, context = self.tracer.started_command(context, args, start_time), None
        is_traced = span is not None or context is not None
        metered = self._metered and has_meter_provider() and (is_traced or not otel.is_suppressed())
        if not (is_traced or metered or self.observers):
            return None
        operation = Operation(self, args, span)
        if span is None and context is not None:
            operation.context = context
            operation.start_time = start_time or time.time_ns()
            operation.totals = totals
        if metered:
            operation.metered = True
        if span is None or metered or self.observers or start_time is not None:
            operation.begin(start_time)
        elif has_call_details():  # the usual case: a span that measures itself
            pop_call_details()
        return operation

    def run(self, server_span: Span, args: Sequence[Any], call: Callable[[], T]) -> T:
        """Call ``call`` as the operation of the command ``args``, and return its result.

        An exception of ``call`` is recorded and passed on.
        """
        return run_operation(self.start_command(server_span, args), call)

    def start_batch(
        self, server_span: Span, trace_name: str, is_transaction: bool, commands: Sequence[Any]
    ) -> Operation | None:
        """Start the operation of a pipeline; return ``None`` if nothing records it.

        :param server_span: the parent of its span if no span is current.
        :param trace_name: the span's name.
        :param is_transaction: whether the commands are sent as one transaction.
        :param commands: redis-py's pairs of arguments and options.
        """
        current = otel.current_context()
        context = None if current is None else self.tracer.batch_context(server_span, current)
        is_traced = context is not None
        metered = self._metered and has_meter_provider() and (is_traced or not otel.is_suppressed())
        if not (is_traced or metered or self.observers):
            return None
        operation = Operation(self)
        operation.commands = commands
        operation.is_transaction = is_transaction
        operation.batch_name = trace_name
        operation.metered = metered
        totals = None
        if context is not None and self.min_duration:
            totals = request_totals.found(context, server_span)
        if totals is not None:
            operation.totals = totals
            operation.context = context
            operation.start_time = time.time_ns()
        elif context is not None:
            attributes = operation.attributes = operation.describe()
            operation.span = self.tracer.started_batch(context, trace_name, attributes, commands)
        operation.begin(None)
        return operation


def run_operation(
    operation: Operation | None, call: Callable[[], T], *, may_contain_errors: bool = False
) -> T:
    """Call ``call``, record its end in ``operation``, and return its result.

    An exception of ``call`` is recorded and passed on.

    :param operation: a started operation; ``None`` if nothing records it.
    :param may_contain_errors: whether the result is a list, in which the first exception counts as
        the failure of the operation.
    """
    if operation is None:
        return call()
    try:
        result = call()
    except BaseException as error:
        operation.fail(error)
        raise
    results: Any = result if may_contain_errors else ()
    for each in results:
        if isinstance(each, Exception):
            operation.fail(each, result)
            return result
    operation.end(result)
    return result


def note_code(error: Exception) -> None:
    """Note the server's error code on ``error``: redis-py is about to put other text before it."""
    vars(error).setdefault("noted_code", otel.status_code(error))
