"""One operation: a command, or the execution of a pipeline, from its start to its end.

It makes one span and one measurement of ``db.client.operation.duration``, and is reported to the
observers: Prometheus, the debug toolbar.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Protocol

import redis
from opentelemetry.context import Context
from opentelemetry.trace import Span

from . import command_spans, metrics, otel, span_outcomes
from .call_details import CallDetails, has_call_details, pop_call_details
from .request_totals import RequestTotals


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


class Client(Protocol):
    """The telemetry of one client, as its operations use it."""

    tracer: command_spans.CommandTracer
    observers: Sequence[Observer]
    min_duration: float

    @property
    def context_name(self) -> str: ...


class Operation:
    """A command, or the execution of a pipeline, that is running or has ended.

    The caller that got it from a :class:`~.operations.ClientTelemetry` must call :meth:`end`,
    :meth:`fail` or :meth:`end_noscript` once.
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
        self, telemetry: Client, args: Sequence[Any] = (), span: Span | None = None
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

        :class:`~.operations.ClientTelemetry` calls it after all attributes are set.

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


def note_code(error: Exception) -> None:
    """Note the server's error code on ``error``: redis-py is about to put other text before it."""
    vars(error).setdefault("noted_code", otel.status_code(error))
