"""The entrance to telemetry: it starts an operation for each command and each pipeline."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from opentelemetry.trace import Span

from . import command_spans, otel, request_totals
from .call_details import has_call_details, pop_call_details
from .operation import OBSERVER_KEY as OBSERVER_KEY
from .operation import Observer as Observer
from .operation import Operation as Operation
from .operation import current_observer as current_observer
from .operation import note_code as note_code
from .operation import observer_of as observer_of
from .otel import has_meter_provider

T = TypeVar("T")


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
