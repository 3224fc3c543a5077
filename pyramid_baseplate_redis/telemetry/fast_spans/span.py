"""A span that is made once, when it ends, from what it was given before."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    INVALID_SPAN_CONTEXT,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)
from opentelemetry.util.types import Attributes, AttributeValue

from .qualification import MOST_ATTRIBUTES, SdkTracer

# The SDK converts values of other types.
_PLAIN = frozenset({bool, float, int, str})
_NAMES = frozenset({str})
_UNSET = Status(StatusCode.UNSET)
_MOST_SPAN_ID = 2**64 - 1
RANDOM = 0x02  # the flag of a trace identifier whose bits are random, from W3C Trace Context
FLAGS = [TraceFlags(number) for number in range(4)]
(_SPAN_KEY,) = set_span_in_context(INVALID_SPAN, Context())
# The classes of spans found in contexts; isinstance() takes longer.
_span_classes: set[type] = set()


class FastSpan(Span):
    """A span that hands the SDK's processors the same :class:`ReadableSpan` as the SDK's span.

    Whatever is not usual for a command's span turns it into a span of the SDK: events, links,
    values that the SDK converts, many attributes, calls after the end, and reading what only the
    SDK's span shows, such as its attributes.
    """

    # Class attributes, since each assignment would delay the command.
    _status = _UNSET
    _end_time: int | None = None
    _span: Any = None  # the SDK's

    def __init__(
        self,
        tracer: SdkTracer,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        attributes: dict[str, Any],
        kind: SpanKind,
        start_time: int | None,
    ) -> None:
        self._tracer = tracer
        self._name = name
        self._context = context
        self._parent = parent
        self._attributes = attributes
        self._kind = kind
        self._resource = tracer.tracer.resource
        self._start_time = time.time_ns() if start_time is None else start_time

    def get_span_context(self) -> SpanContext:
        """Return its identity."""
        return self._context

    def is_recording(self) -> bool:
        """Return whether it has not ended."""
        return self._end_time is None

    def update_name(self, name: str) -> None:
        """Change its name."""
        if self._is_usual:
            self._name = name
        else:
            self._sdk_span().update_name(name)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Set an attribute."""
        if (
            self._is_usual
            and key
            and type(key) is str
            and type(value) in _PLAIN
            and len(self._attributes) < MOST_ATTRIBUTES
        ):
            self._attributes.pop(key, None)  # the SDK moves it to the end
            self._attributes[key] = value
        else:
            self._sdk_span().set_attribute(key, value)

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Set several attributes."""
        if self._is_usual and are_plain(attributes, MOST_ATTRIBUTES - len(self._attributes)):
            for key in attributes:
                self._attributes.pop(key, None)  # the SDK moves it to the end
            self._attributes.update(attributes)
        else:  # the SDK treats the names of several attributes unlike that of one
            self._sdk_span().set_attributes(attributes)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Set its status, unless it is OK already."""
        if self._is_usual and type(status) is Status and description is None:
            if (
                self._status.status_code is not StatusCode.OK
                and status.status_code is not StatusCode.UNSET
            ):
                self._status = status
        else:
            self._sdk_span().set_status(status, description)

    def add_event(
        self, name: str, attributes: Attributes = None, timestamp: int | None = None
    ) -> None:
        """Add an event."""
        self._sdk_span().add_event(name, attributes, timestamp)

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """Add a link."""
        self._sdk_span().add_link(context, attributes)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Add an event for an exception."""
        self._sdk_span().record_exception(exception, attributes, timestamp, escaped)

    def end(self, end_time: int | None = None) -> None:
        """End it, and hand it to the processors."""
        tracer = self._tracer
        if (
            self._span is not None
            or self._end_time is not None
            or tracer.processor._span_processors is not tracer.processors  # one was added
        ):
            span = self._sdk_span()
            self._end_time = time.time_ns() if end_time is None else end_time
            span.end(self._end_time)
            return
        self._end_time = time.time_ns() if end_time is None else end_time
        made = tracer.readable_span(  # by position, which is faster
            self._name, self._context, self._parent, self._resource, self._attributes, (), (),
            self._kind, tracer.info, self._status, self._start_time, self._end_time, tracer.scope,
        )  # fmt: skip
        # A span that is not sampled is dropped by each of these processors.
        if self._context[3] & TraceFlags.SAMPLED:
            for receive in tracer.receivers:
                receive(made)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """End it. An exception becomes an event and its status, as on the SDK's span."""
        if exc_val is None:
            self.end()
            return
        span = self._sdk_span()
        span.__exit__(exc_type, exc_val, exc_tb)
        self._end_time = span.end_time

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_tracer" not in self.__dict__:  # of a copy being made
            raise AttributeError(name)
        return getattr(self._sdk_span(), name)

    @property
    def _is_usual(self) -> bool:
        return self._span is None and self._end_time is None

    def _sdk_span(self) -> Any:
        """Return the span of the SDK that this one has become."""
        if self._span is None:
            self._span = self._tracer.make_span(
                name=self._name,
                context=self._context,
                parent=self._parent,
                resource=self._resource,
                attributes=self._attributes,
                kind=self._kind,
                status=self._status,
                start_time=self._start_time,
                end_time=self._end_time,
            )
        return self._span

    def __repr__(self) -> str:
        name = self._name if self._span is None else self._span.name
        return f'{type(self).__name__}(name="{name}", context={self._context})'


def start(
    tracer: SdkTracer,
    name: str,
    context: Context,
    attributes: Mapping[str, Any],
    start_time: int | None,
    kind: SpanKind,
    *,
    is_prepared: bool = False,
) -> FastSpan | NonRecordingSpan:
    """Start a span as the SDK's ``Tracer.start_span()`` does.

    :param is_prepared: whether the attributes are few, and just numbers and texts.
    """
    span: Any = context.get(_SPAN_KEY)
    parent: SpanContext | None
    if type(span) is tracer.span_class:
        parent = span._context  # its get_span_context() takes longer
    elif type(span) in _span_classes:
        parent = span.get_span_context()
    else:
        parent = _checked(span).get_span_context()
    if not tracer.is_enabled():
        return NonRecordingSpan(parent or INVALID_SPAN_CONTEXT)
    if tracer.samples_children and type(parent) is SpanContext and _HAS_KNOWN_PARTS:
        trace_id, _, is_remote, flags, trace_state, is_valid = parent
        if is_valid and flags & TraceFlags.SAMPLED and not is_remote:
            span_id = tracer.id_generator.generate_span_id()
            made = _make_tuple(SpanContext, (  # its own __new__() takes longer
                trace_id, span_id, False, FLAGS[flags & 3], trace_state,
                0 < span_id <= _MOST_SPAN_ID,
            ))  # fmt: skip
            # The names of the attributes are this package's.
            if is_prepared or _PLAIN.issuperset(map(type, attributes.values())):
                return FastSpan(tracer, name, made, parent, dict(attributes), kind, start_time)
            return _started(tracer, name, made, parent, attributes, kind, start_time)
    return _sampled(tracer, name, context, parent, attributes, start_time, kind)


def _sampled(
    tracer: SdkTracer,
    name: str,
    context: Context,
    parent: SpanContext | None,
    attributes: Mapping[str, Any],
    start_time: int | None,
    kind: SpanKind,
) -> FastSpan | NonRecordingSpan:
    """Ask the sampler, and start a span."""
    ids = tracer.id_generator
    if parent is None or not parent.is_valid:
        parent = None
        trace_id = ids.generate_trace_id()
        flags = RANDOM if ids.is_trace_id_random() else 0
    else:
        trace_id = parent.trace_id
        if tracer.inherits_random:
            flags = parent.trace_flags & RANDOM
        else:
            flags = RANDOM if ids.is_trace_id_random() else 0
    result = tracer.tracer.sampler.should_sample(context, trace_id, name, kind, attributes, ())
    span_id = ids.generate_span_id()  # as the SDK does for a span that is not recorded, too
    if result.decision.is_sampled():
        flags |= TraceFlags.SAMPLED
    made = SpanContext(
        trace_id,
        span_id,
        is_remote=False,
        trace_flags=FLAGS[flags],
        trace_state=result.trace_state,
    )
    if not result.decision.is_recording():
        return NonRecordingSpan(made)
    return _started(tracer, name, made, parent, result.attributes, kind, start_time)


def _started(
    tracer: SdkTracer,
    name: str,
    made: SpanContext,
    parent: SpanContext | None,
    attributes: Mapping[str, Any],
    kind: SpanKind,
    start_time: int | None,
) -> FastSpan:
    if are_plain(attributes, MOST_ATTRIBUTES):
        return FastSpan(tracer, name, made, parent, dict(attributes), kind, start_time)
    span = FastSpan(tracer, name, made, parent, {}, kind, start_time)
    span.set_attributes(attributes)
    return span


def are_plain(attributes: Mapping[str, Any], most: int) -> bool:
    """Return whether the SDK would take these attributes as they are, and has place for them."""
    return (
        len(attributes) <= most
        and _PLAIN.issuperset(map(type, attributes.values()))
        and _NAMES.issuperset(map(type, attributes))
        and "" not in attributes
    )


def _checked(span: Any) -> Span:
    """Return the span of a context, as ``trace.get_current_span()`` does."""
    if not isinstance(span, Span):
        return INVALID_SPAN
    _span_classes.add(type(span))
    return span


_make_tuple: Any = tuple.__new__
_NO_STATE = TraceState()
_HAS_KNOWN_PARTS = tuple(SpanContext(1, 2, False, FLAGS[1], _NO_STATE)) == (
    1, 2, False, FLAGS[1], _NO_STATE, True,
)  # fmt: skip
