"""Operations: each command, or execution of a pipeline, from its start to its end.

An operation is what one span tells of, one measurement of ``db.client.operation.duration``, and
what observers are told of: Prometheus, the debug toolbar.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

import redis
from opentelemetry.context import Context
from opentelemetry.trace import Span

from . import command_spans, metrics, otel
from .call_details import CallDetails, pop_call_details
from .otel import has_meter_provider

T = TypeVar("T")


class Observer(Protocol):
    """Told of a client's operations, in the thread or greenlet that runs them.

    Commands wait for it. What it raises is logged once and goes no further.
    """

    def started(self, operation: Operation) -> None:
        """An operation begins."""

    def ended(self, operation: Operation, result: object) -> None:
        """An operation is over; ``result`` is what redis-py returned, ``None`` if it raised."""


#: The key of a WSGI environ under which the observer of its request stands.
OBSERVER_KEY = "pyramid_baseplate_redis.observer"
#: The observer of what runs now, such as the subrequests of an observed request.
current_observer: ContextVar[Observer | None] = ContextVar(
    "pyramid_baseplate_redis_observer", default=None
)


def observer_of(environ: Mapping[str, Any]) -> Observer | None:
    """Return the observer of a request's operations; ``None`` if it is not observed.

    :param environ: the request's. It decides, since threads and response bodies run without the
        context variable :data:`current_observer`.
    """
    found: Observer | None = environ.get(OBSERVER_KEY)
    return current_observer.get() if found is None else found


class Operation:
    """A command, or the execution of a pipeline, that is under way or over.

    Whoever got it from an :class:`ClientTelemetry` calls one of :meth:`end`, :meth:`fail` and
    :meth:`end_noscript`, once.
    """

    # On the class: most are never set, and a command waits for each that is.
    #: Of a command, as redis-py was given them.
    args: Sequence[Any] = ()
    #: Of a pipeline: redis-py's pairs of arguments and options.
    commands: Sequence[Any] | None = None
    is_transaction = False
    #: Of :func:`time.perf_counter`, in seconds.
    started = 0.0
    #: Seconds; once it is over.
    duration = 0.0
    #: What it failed with. A watched key that has changed is no failure, and a failure inside
    #: ``execute(raise_on_error=False)`` is one.
    error: BaseException | None = None
    #: The server's error code, such as ``WRONGTYPE``.
    code: str | None = None
    #: What was noted of it: how long it waited for a connection, the server, retries.
    notes: CallDetails | None = None
    metered = False
    span: Span | None = None
    # Of a span that is started when all is over.
    context: Context | None = None
    start_time: int | None = None  # nanoseconds since the epoch
    batch_name = ""
    attributes: dict[str, Any] | None = None

    def __init__(self, telemetry: ClientTelemetry) -> None:
        self.telemetry = telemetry

    @property
    def name(self) -> str:
        """``db.operation.name``: ``GET``, ``CONFIG GET``, ``PIPELINE``, ``MULTI SET``."""
        return command_spans.operation_of(self.describe())

    @property
    def trace_name(self) -> str:
        """The name of its span, whether it has one or not: ``foo.GET``, ``foo.pipeline_load``."""
        return self.batch_name or f"{self.telemetry.context_name}.{self.name}"

    def begin(self, start_time: int | None) -> None:
        """Called by its :class:`ClientTelemetry`, when all else is known."""
        if start_time is None:
            pop_call_details()  # which are of something else
        observers = self.telemetry.observers
        if not (self.metered or observers):
            return  # a span has times of its own
        self.started = time.perf_counter()
        if start_time is not None:
            self.started -= (time.time_ns() - start_time) / 1e9
        for observer in observers:
            try:
                observer.started(self)
            except Exception:
                otel.log_once("an observer of operations failed")

    def end(self, result: object = None) -> None:
        """It succeeded.

        :param result: for observers.
        """
        self._over()
        if self.span is not None:
            command_spans.end(self.span, self.notes)
        if self.metered or self.telemetry.observers:
            self._tell(result)

    def fail(self, error: BaseException, code: str | None = None, result: object = None) -> None:
        """It failed, unless ``error`` is a :class:`redis.WatchError`.

        :param code: the server's error code when it can't be told from ``error`` any more.
        :param result: for observers, if it was no exception to the caller.
        """
        self._over()
        if not isinstance(error, redis.WatchError):
            self.error = error
            self.code = code or otel.status_code(error)
        if self.span is not None:
            command_spans.fail(self.span, error, self.notes, self.code)
        self._tell(result)

    def end_noscript(self) -> None:
        """It was an EVALSHA whose script redis-py now loads: not a failure."""
        self._over()
        self.code = "NOSCRIPT"
        if self.span is not None:
            command_spans.end_noscript(self.span, self.notes)
        self._tell(None)

    def _over(self) -> None:
        if self.started:
            self.duration = time.perf_counter() - self.started
        self.notes = pop_call_details()
        if self.context is not None:
            self.span = self.telemetry.tracer.started_command(
                self.context, self.args, self.start_time, self.notes
            )

    def _tell(self, result: object) -> None:
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
        """What its span and the metrics tell of it; not to be changed."""
        tracer = self.telemetry.tracer
        if self.commands is None:
            return tracer.command_attributes(self.args[0], self.notes)
        if self.attributes is None:
            self.attributes = tracer.batch_attributes(self.is_transaction, self.commands)
        return self.attributes


class ClientTelemetry:
    """Starts the operations of one client; nothing is made where nobody is to be told.

    :param tracer: starts and ends their spans.
    :param observers: told of them too; looked at anew for each operation.
    :param metered: whether durations are recorded, once there is a meter provider.
    :param in_cluster: whether a command's span is started at its end, when the node is known.
    """

    def __init__(
        self,
        tracer: command_spans.CommandTracer,
        observers: Sequence[Observer] = (),
        *,
        metered: bool = True,
        in_cluster: bool = False,
    ) -> None:
        self.tracer = tracer
        self.observers = observers
        self._metered = metered
        self._in_cluster = in_cluster

    @classmethod
    def for_pool(cls, pool: Any, context_name: str, redis_client_name: str = "") -> ClientTelemetry:
        """Make the telemetry of a client, as the settings say from which its pool was built."""
        settings = getattr(pool, "client_settings", None)
        return cls(
            command_spans.CommandTracer.for_pool(pool, context_name, redis_client_name),
            getattr(pool, "observers", ()),
            metered=settings.metrics if settings else True,
            in_cluster=settings.parsed_url.is_cluster if settings else False,
        )

    @property
    def context_name(self) -> str:
        """The client's name."""
        return self.tracer.context_name

    def observed_by(self, observer: Observer) -> ClientTelemetry:
        """The same, with one more who is told."""
        return self._twin(self.tracer, (*self.observers, observer))

    def children_only(self) -> ClientTelemetry:
        """The same, but it never starts a root span."""
        return self._twin(self.tracer.children_only(), self.observers)

    def _twin(
        self, tracer: command_spans.CommandTracer, observers: Sequence[Observer]
    ) -> ClientTelemetry:
        return ClientTelemetry(
            tracer, observers, metered=self._metered, in_cluster=self._in_cluster
        )

    def start_command(
        self, server_span: Span, args: Sequence[Any], start_time: int | None = None
    ) -> Operation | None:
        """Start a command's operation; ``None`` when nobody wants to know of it.

        :param server_span: what its span belongs to when no span is current.
        :param start_time: nanoseconds since the epoch, if it started earlier.
        """
        if not args:
            return None
        context = self.tracer.command_context(server_span, args)
        span = None
        if context is not None and not self._in_cluster:
            span, context = self.tracer.started_command(context, args, start_time), None
        is_traced = span is not None or context is not None
        metered = self._metered and has_meter_provider() and (is_traced or not otel.is_suppressed())
        if not (is_traced or metered or self.observers):
            return None
        operation = Operation(self)
        operation.args = args
        if span is not None:
            operation.span = span
        elif context is not None:
            operation.context = context
            operation.start_time = start_time or time.time_ns()
        if metered:
            operation.metered = True
        operation.begin(start_time)
        return operation

    def run(self, server_span: Span, args: Sequence[Any], call: Callable[[], T]) -> T:
        """Return what ``call`` returns, as the operation of the command ``args``."""
        operation = self.start_command(server_span, args)
        if operation is None:
            return call()
        try:
            result = call()
        except BaseException as error:
            operation.fail(error)
            raise
        operation.end(result)
        return result

    def start_batch(
        self, server_span: Span, trace_name: str, is_transaction: bool, commands: Sequence[Any]
    ) -> Operation | None:
        """Start the operation of a pipeline; ``None`` when nobody wants to know of it.

        :param trace_name: the span's name.
        :param commands: redis-py's pairs of arguments and options.
        """
        context = self.tracer.batch_context(server_span)
        is_traced = context is not None
        metered = self._metered and has_meter_provider() and (is_traced or not otel.is_suppressed())
        if not (is_traced or metered or self.observers):
            return None
        operation = Operation(self)
        operation.commands = commands
        operation.is_transaction = is_transaction
        operation.batch_name = trace_name
        operation.metered = metered
        if context is not None:
            attributes = operation.attributes = operation.describe()
            operation.span = self.tracer.started_batch(context, trace_name, attributes, commands)
        operation.begin(None)
        return operation
