"""The spans of a durable queue's messages, and the trace context that travels in an entry.

The conventions are OpenTelemetry's for messaging. The context is W3C's, whatever the application
propagates elsewhere: a message may be processed by another program.
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

# The conventions have none for how often a message was delivered.
DELIVERY_COUNT = "messaging.redis.message.delivery_count"
_FIELDS = (b"traceparent", b"tracestate")
_propagator = TraceContextTextMapPropagator()


class MessageSpan:
    """The span of sending or of processing, which is current: commands are below it."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._token: Token[Context] = otel_context.attach(trace.set_span_in_context(span))

    def sent(self, ids: Sequence[str]) -> None:
        """What was sent has these identifiers."""
        if len(ids) == 1:
            try:
                self._span.set_attribute(MESSAGING_MESSAGE_ID, ids[0])
            except Exception:
                otel.log_once("describing a message failed")

    def end(self, error: BaseException | None = None) -> None:
        """End it.

        :param error: what was raised meanwhile, if anything was.
        """
        otel_context.detach(self._token)
        if error is None:
            command_spans.end(self._span)
        else:
            command_spans.fail(self._span, error)


class MessageTracer:
    """Starts the spans of one queue's messages.

    :param tracer: the client's, which says whether there are spans at all.
    :param destination: the queue's name.
    :param group: the consumer group's name.
    :param trace_parent: whether processing is a child of sending, rather than linked to it.
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
        """Start the PRODUCER span of ``put``; ``None`` when there is to be none."""
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
        """The trace context of the caller, or of :meth:`start_send`, as fields of an entry.

        None where there is no trace.
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
        """Start the CONSUMER span of processing messages, and make it current."""
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
    """Whoever put a message, if the entry says it; nonsense is nobody."""
    carrier = {
        name.decode(): fields[name].decode("ascii", "replace") for name in _FIELDS if name in fields
    }
    if not carrier:
        return None
    found = trace.get_current_span(_propagator.extract(carrier, Context())).get_span_context()
    return found if found.is_valid else None
