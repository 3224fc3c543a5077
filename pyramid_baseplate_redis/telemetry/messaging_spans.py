"""The spans of a durable queue's messages, and the trace context in a stream's entries.

The spans follow OpenTelemetry's conventions for messaging. The context is always W3C's, even if the
application propagates another kind elsewhere: another program may process the message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import Token
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from . import command_spans, otel
from .otel import tracer
from .semantic_conventions import (
    MESSAGING_BATCH_MESSAGE_COUNT,
    MESSAGING_CONSUMER_GROUP_NAME,
    MESSAGING_DESTINATION_NAME,
    MESSAGING_MESSAGE_BODY_SIZE,
    MESSAGING_MESSAGE_ID,
    MESSAGING_OPERATION_NAME,
    MESSAGING_OPERATION_TYPE,
    MESSAGING_SYSTEM,
)

# The conventions have no attribute for the number of deliveries.
DELIVERY_COUNT = "messaging.redis.message.delivery_count"
_FIELDS = (b"traceparent", b"tracestate")
_propagator = TraceContextTextMapPropagator()


class MessageSpan:
    """A span of sending or processing, made current: it is the parent of commands' spans."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._token: Token[Context] = otel_context.attach(trace.set_span_in_context(span))

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
        if error is None:
            command_spans.end(self._span)
        else:
            command_spans.fail(self._span, error)


class MessageTracer:
    """Starts the spans of one queue's messages.

    :param tracer: the client's, whose settings decide whether there are spans.
    :param destination: the queue's name.
    :param group: the consumer group's name.
    :param trace_parent: whether a span of processing is a child of the sender's, not linked to it.
    """

    def __init__(
        self,
        tracer: command_spans.CommandTracer,
        destination: str,
        group: str,
        *,
        trace_parent: bool,
    ) -> None:
        self._commands = tracer
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
            return MessageSpan(
                tracer.start_span(
                    self._send_name, context, kind=SpanKind.PRODUCER, attributes=attributes
                )
            )
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
            span = tracer.start_span(
                self._process_name,
                context,
                kind=SpanKind.CONSUMER,
                attributes=attributes,
                links=links,
            )
            return MessageSpan(span)
        except Exception:
            otel.log_once("starting a span failed")
            return None


def _sender(fields: Mapping[bytes, bytes]) -> SpanContext | None:
    """Return the sender's span context; ``None`` if the entry has none or a malformed one."""
    carrier = {
        name.decode(): fields[name].decode("ascii", "replace") for name in _FIELDS if name in fields
    }
    if not carrier:
        return None
    found = trace.get_current_span(_propagator.extract(carrier, Context())).get_span_context()
    return found if found.is_valid else None
