"""The spans of messages, and the trace context in a stream's entries.

The spans follow OpenTelemetry's conventions for messaging. The context is always W3C's, even if the
application propagates another kind elsewhere: another program may process the message.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import Token
from typing import Any, TypeVar

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .. import command_spans, otel, request_totals, span_outcomes
from ..fast_spans.current_span import start_current
from ..fast_spans.qualification import qualified
from ..fast_spans.span import start
from ..operations import ClientTelemetry, Operation, run_operation
from ..otel import tracer
from ..query_text import shown_text
from ..semantic_conventions import (
    MESSAGING_BATCH_MESSAGE_COUNT,
    MESSAGING_CONSUMER_GROUP_NAME,
    MESSAGING_DESTINATION_NAME,
    MESSAGING_MESSAGE_BODY_SIZE,
    MESSAGING_MESSAGE_ID,
    MESSAGING_OPERATION_NAME,
    MESSAGING_OPERATION_TYPE,
    MESSAGING_SYSTEM,
)
from .metrics import MessageMetrics

T = TypeVar("T")

# The conventions have no attribute for the number of deliveries.
DELIVERY_COUNT = "messaging.redis.message.delivery_count"
_FIELDS = (b"traceparent", b"tracestate")
_propagator = TraceContextTextMapPropagator()
# The traceparent that a sender with this package writes; the propagator reads all others.
_usual_parent = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})").fullmatch


class MessageSpan:
    """A span of sending or processing, made current: it is the parent of commands' spans.

    :param takes_totals: whether commands are counted on this span; otherwise it is on the span of
        the request.
    """

    def __init__(self, span: Span, *, takes_totals: bool = False) -> None:
        self._span = span
        context = trace.set_span_in_context(span)
        if takes_totals:
            context = request_totals.opened(span, context)
        self._token: Token[Context] = otel_context.attach(context)

    def sent(self, ids: Sequence[str]) -> None:
        """Add the identifier of the message that was sent, if there is just one."""
        if len(ids) == 1:
            try:
                self._span.set_attribute(MESSAGING_MESSAGE_ID, ids[0])
            except Exception:
                otel.log_once("describing a message failed")

    def end(self, error: BaseException | None = None) -> None:
        """End the span, and make the previous one current again.

        :param error: the exception that was raised, if any.
        """
        otel_context.detach(self._token)
        request_totals.close(self._span)
        if error is None:
            span_outcomes.end(self._span)
        else:
            span_outcomes.fail(self._span, error)


class Settlement:
    """Settling messages: an acknowledgement, giving messages back, moving one to the dead letters.

    The span of its command is the settle span: it has the name and the attributes of both.

    :param name: the operation's name, such as ``ack``.
    :param attributes: the span's.
    """

    def __init__(self, name: str, attributes: Mapping[str, Any], metrics: MessageMetrics) -> None:
        self._name = name
        self._attributes = attributes
        self._metrics = metrics

    def run(self, operation: Operation | None, call: Callable[[], T]) -> T:
        """Call ``call`` as the command ``operation``, and record it as a settlement."""
        if operation is not None:
            name = f"{self._name} {self._attributes[MESSAGING_DESTINATION_NAME]}"
            operation.describe_as(name, self._attributes)
        started = time.perf_counter()
        try:
            result = run_operation(operation, call)
        except BaseException as error:
            self._metrics.settled(started, self._name, error)
            raise
        self._metrics.settled(started, self._name)
        return result


class MessageTracer:
    """Starts the spans of one queue's messages.

    :param telemetry: the client's, whose settings decide whether there are spans and metrics.
    :param destination: the queue's name.
    :param group: the consumer group's name.
    :param trace_parent: whether a span of processing is a child of the sender's, not linked to it.
    """

    def __init__(
        self,
        telemetry: ClientTelemetry,
        destination: str,
        group: str,
        *,
        trace_parent: bool,
    ) -> None:
        self._commands = telemetry.tracer
        self.metrics = MessageMetrics(telemetry, destination, group)
        self._trace_parent = trace_parent
        self._common: dict[str, str | int] = {
            MESSAGING_SYSTEM: "redis",
            MESSAGING_DESTINATION_NAME: destination,
        }
        self._send_name = f"send {destination}"
        self._process_name = f"process {destination}"
        self._send = {
            **self._common,
            MESSAGING_OPERATION_NAME: "send",
            MESSAGING_OPERATION_TYPE: "send",
        }
        self._process = {
            **self._common,
            MESSAGING_OPERATION_NAME: "process",
            MESSAGING_OPERATION_TYPE: "process",
            MESSAGING_CONSUMER_GROUP_NAME: group,
        }
        self._settle = {
            **self._common,
            MESSAGING_OPERATION_TYPE: "settle",
            MESSAGING_CONSUMER_GROUP_NAME: group,
        }

    def settlement(self, name: str, ids: Sequence[str]) -> Settlement:
        """Return a settlement of messages.

        :param name: the operation's name, such as ``ack``.
        :param ids: the messages' identifiers.
        """
        attributes: dict[str, Any] = {**self._settle, MESSAGING_OPERATION_NAME: name}
        if len(ids) == 1:
            attributes[MESSAGING_MESSAGE_ID] = ids[0]
        else:
            attributes[MESSAGING_BATCH_MESSAGE_COUNT] = len(ids)
        return Settlement(name, attributes, self.metrics)

    def start_send(self, server_span: Span, bodies: Sequence[bytes]) -> MessageSpan | None:
        """Start the PRODUCER span of ``put``, and make it current; ``None`` if there is none."""
        try:
            context = self._commands.command_context(server_span, ("XADD",))
            if context is None:
                return None
            attributes = dict(self._send)
            if len(bodies) == 1:
                attributes[MESSAGING_MESSAGE_BODY_SIZE] = len(bodies[0])
            else:
                attributes[MESSAGING_BATCH_MESSAGE_COUNT] = len(bodies)
            return MessageSpan(_started_sending(self._send_name, context, attributes))
        except Exception:
            otel.log_once("starting a span failed")
            return None

    def fields(self, server_span: Span) -> list[Any]:
        """Return the current trace context, or that of ``server_span``, as fields of an entry.

        The list is empty if there is no trace.
        """
        try:
            span = trace.get_current_span()
            if not span.get_span_context().is_valid:
                span = server_span
            if not span.get_span_context().is_valid:
                return []
            carrier: dict[str, str] = {}
            _propagator.inject(carrier, trace.set_span_in_context(span, Context()))
            return [part for pair in carrier.items() for part in pair]
        except Exception:
            otel.log_once("propagating a trace failed")
            return []

    def start_process(self, server_span: Span, messages: Sequence[Any]) -> MessageSpan | None:
        """Start the CONSUMER span of processing messages, and make it current.

        Return ``None`` if there is none.
        """
        try:
            found = [(_sender(message.fields), message) for message in messages]
            links = [Link(sender) for sender, _ in found if sender is not None]
            parent = (
                links[0].context if self._trace_parent and len(messages) == 1 and links else None
            )
            above = server_span if parent is None else NonRecordingSpan(parent)
            context = self._commands.command_context(above, ("XREADGROUP",))
            if context is None:
                return None
            if parent is not None:
                context = trace.set_span_in_context(NonRecordingSpan(parent), context)
                links = []
            attributes = dict(self._process)
            if len(messages) == 1:
                (message,) = messages
                attributes[MESSAGING_MESSAGE_ID] = message.id
                attributes[MESSAGING_MESSAGE_BODY_SIZE] = len(message.body)
                attributes[DELIVERY_COUNT] = message.attempts
            else:
                attributes[MESSAGING_BATCH_MESSAGE_COUNT] = len(messages)
            span = start_current(
                tracer, self._process_name, context, SpanKind.CONSUMER, attributes, links
            )
            return MessageSpan(span, takes_totals=True)
        except Exception:
            otel.log_once("starting a span failed")
            return None


def _started_sending(name: str, context: Context, attributes: Mapping[str, Any]) -> Span:
    """Start a PRODUCER span.

    It becomes the current one, but only the commands that send run below it. See
    :mod:`..fast_spans.qualification`.
    """
    sdk = qualified(tracer)
    if sdk is not None:
        return start(sdk, name, context, attributes, None, SpanKind.PRODUCER)
    return tracer.start_span(name, context, kind=SpanKind.PRODUCER, attributes=attributes)


def start_handler(
    commands: command_spans.CommandTracer, server_span: Span, channel: object
) -> MessageSpan | None:
    """Start the CONSUMER span of a pub/sub message's handler, and make it current.

    Return ``None`` if there is none.

    :param commands: the client's tracer.
    """
    try:
        context = commands.command_context(server_span, ("MESSAGE",))  # the reply's name
        if context is None:
            return None
        attributes = {
            MESSAGING_SYSTEM: "redis",
            MESSAGING_OPERATION_TYPE: "process",
            MESSAGING_OPERATION_NAME: "process",
            MESSAGING_DESTINATION_NAME: shown_text(channel),
        }
        name = f"{commands.context_name}.process"
        span = start_current(tracer, name, context, SpanKind.CONSUMER, attributes)
        return MessageSpan(span, takes_totals=True) if span.is_recording() else None
    except Exception:
        otel.log_once("starting a span failed")
        return None


def _sender(fields: Mapping[bytes, bytes]) -> SpanContext | None:
    """Return the sender's span context; ``None`` if the entry has none or a malformed one."""
    parent = fields.get(b"traceparent")
    if parent is None:
        return None
    usual = _usual_parent(parent)
    if usual is not None and b"tracestate" not in fields:
        trace_id, span_id, flags = usual.groups()
        found = SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags, 16)))
        return found if found.is_valid else None
    carrier = {
        name.decode(): fields[name].decode("ascii", "replace") for name in _FIELDS if name in fields
    }
    found = trace.get_current_span(_propagator.extract(carrier, Context())).get_span_context()
    return found if found.is_valid else None
