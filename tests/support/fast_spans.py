"""Spans of commands that are made in both ways: at their end, and by the SDK."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk import version
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    TraceState,
)

from pyramid_baseplate_redis.telemetry import span_outcomes
from pyramid_baseplate_redis.telemetry.call_details import CallDetails
from pyramid_baseplate_redis.telemetry.command_spans import CommandTracer

RELEASE = tuple(int(part) for part in version.__version__.split(".")[:2])
IS_FAST = RELEASE >= (1, 42)
only_fast = pytest.mark.skipif(not IS_FAST, reason="this SDK always makes its own spans")

TRACER = CommandTracer(
    "foo", pool_name="foo", connection_kwargs={"host": "redis.example", "port": 6379}
)
GET = ("GET", "key")
LONG_AGO = 1_700_000_000_000_000_000
STATE = TraceState([("vendor", "value")])


class Foreign(SpanProcessor):
    """A processor of an application, for which the SDK makes all spans itself."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ending: list[str] = []
        self.ended: list[str] = []

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        self.started.append(span.name)

    def _on_ending(self, span: Any) -> None:
        self.ending.append(span.name)

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span.name)


class Numbered(IdGenerator):
    """Makes the same identifiers in both ways."""

    def __init__(self, random: bool = False) -> None:
        self.last = 0
        self.random = random

    def generate_span_id(self) -> int:
        self.last += 1
        return self.last

    def generate_trace_id(self) -> int:
        self.last += 1
        return self.last << 64

    def is_trace_id_random(self) -> bool:
        return self.random


class Adding(Sampler):
    """A sampler of an application, which adds an attribute and a trace state."""

    def __init__(self, decision: Decision, added: Any = None) -> None:
        self.decision = decision
        self.added = {"list": ["a", "b"]} if added is None else added

    def should_sample(self, parent_context: Any, trace_id: int, name: str, kind: Any = None,
                      attributes: Any = None, links: Any = None, trace_state: Any = None,
                      ) -> SamplingResult:  # fmt: skip
        assert kind is SpanKind.CLIENT
        assert attributes["db.system.name"] == "redis"
        return SamplingResult(
            self.decision, {**attributes, "sampled.by": name, **self.added}, STATE
        )

    def get_description(self) -> str:
        return "Adding"


class Recorder:
    """A provider whose spans are made in one of the two ways, with the last of its parts."""

    def __init__(self, fast: bool, **options: Any) -> None:
        self.exporters = [InMemorySpanExporter() for _ in range(options.pop("processors", 1))]
        options.setdefault("id_generator", Numbered())
        self.provider = TracerProvider(
            resource=Resource({"service.name": "tests"}), shutdown_on_exit=False, **options
        )
        for exporter in self.exporters:
            self.provider.add_span_processor(SimpleSpanProcessor(exporter))
        self.fast = fast
        if not fast:
            self.provider.add_span_processor(Foreign())
        self.tracer = self.provider.get_tracer("package", "1.0", "https://schema.example")

    @property
    def spans(self) -> list[ReadableSpan]:
        return [span for each in self.exporters for span in each.get_finished_spans()]


Body = Callable[[Context], object]


def context_of(parent: Span | None) -> Context:
    return Context() if parent is None else trace.set_span_in_context(parent, Context())


def remote(*, sampled: bool = True, flags: int = 0, state: TraceState | None = None) -> Span:
    bits = TraceFlags(flags | (TraceFlags.SAMPLED if sampled else 0))
    return NonRecordingSpan(SpanContext(0xABC, 0xDEF, True, bits, state))


def local(*, flags: int = TraceFlags.SAMPLED, state: TraceState | None = None) -> Span:
    return NonRecordingSpan(SpanContext(0xABC, 0xDEF, False, TraceFlags(flags), state))


def started(context: Context, args: Sequence[Any] = GET, **options: Any) -> Any:
    span = TRACER.started_command(context, args, options.pop("start_time", None), **options)
    return span


def details(**values: Any) -> CallDetails:
    notes = CallDetails()
    for name, value in values.items():
        setattr(notes, name, value)
    return notes


def success(context: Context) -> None:
    if (span := started(context)) is not None:
        span_outcomes.end(span)


def described(span: ReadableSpan) -> dict[str, Any]:
    """Return all fields of a span; of its times those that a test has set."""
    assert span.start_time is not None
    assert span.end_time is not None
    return {
        "times": [time for time in (span.start_time, span.end_time) if time <= LONG_AGO],
        "name": span.name,
        "context": tuple(span.context),
        "flags": int(span.context.trace_flags),
        "parent": span.parent and tuple(span.parent),
        "kind": span.kind,
        "attributes": list((span.attributes or {}).items()),
        "events": [
            (each.name, each.timestamp, dict(each.attributes or {})) for each in span.events
        ],
        "links": [(tuple(each.context), dict(each.attributes or {})) for each in span.links],
        "status": (span.status.status_code, span.status.description),
        "resource": span.resource.to_json(),
        "scope": span.instrumentation_scope,
        "info": span._instrumentation_info,
        "dropped": (span.dropped_attributes, span.dropped_events, span.dropped_links),
    }


def encoded(span: ReadableSpan) -> bytes:
    """The span as OTLP, with equal times."""
    span._start_time, span._end_time = 1, 2
    text: bytes = encode_spans([span]).SerializeToString(deterministic=True)
    return text


def check(fast: list[ReadableSpan], slow: list[ReadableSpan], count: int = 1) -> None:
    assert len(fast) == len(slow) == count
    stack = "exception.stacktrace"
    for one, other in zip(fast, slow, strict=True):
        assert described(one) == described(other)
        if not any(stack in (event.attributes or {}) for event in one.events):
            assert encoded(one) == encoded(other)
