"""A span that is made at its end is exactly the span that the SDK makes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import redis
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk import version
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import (
    ReadableSpan,
    SpanLimits,
    SpanProcessor,
    TracerProvider,
)
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from pyramid_baseplate_redis.telemetry import command_spans
from pyramid_baseplate_redis.telemetry.call_details import CallDetails
from pyramid_baseplate_redis.telemetry.command_spans import CommandTracer
from pyramid_baseplate_redis.telemetry.fast_spans.span import FastSpan

RELEASE = tuple(int(part) for part in version.__version__.split(".")[:2])
IS_FAST = RELEASE >= (1, 42)
only_fast = pytest.mark.skipif(not IS_FAST, reason="this SDK always makes its own spans")

TRACER = CommandTracer(
    "foo", pool_name="foo", connection_kwargs={"host": "redis.example", "port": 6379}
)
GET = ("GET", "key")
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

    def __init__(self, decision: Decision) -> None:
        self.decision = decision

    def should_sample(self, parent_context: Any, trace_id: int, name: str, kind: Any = None,
                      attributes: Any = None, links: Any = None, trace_state: Any = None,
                      ) -> SamplingResult:  # fmt: skip
        assert kind is SpanKind.CLIENT
        assert attributes["db.system.name"] == "redis"
        return SamplingResult(
            self.decision, {**attributes, "sampled.by": name, "list": ["a", "b"]}, STATE
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
        command_spans.end(span)


def with_details(context: Context) -> None:
    notes = details(waited=0.25, retries=2, redirections=1, server=("node", 7000), servers=1,
                    peer=("10.0.0.1", 7000))  # fmt: skip
    command_spans.end(started(context), notes)


def failed(context: Context) -> None:
    command_spans.fail(started(context), redis.ResponseError("WRONGTYPE Operation"))


def failed_without_code(context: Context) -> None:
    command_spans.fail(started(context), redis.ConnectionError("lost"), details(retries=1))


def conflict(context: Context) -> None:
    command_spans.fail(started(context), redis.WatchError("changed"))


def noscript(context: Context) -> None:
    command_spans.end_noscript(started(context, ("EVALSHA", "abc", 0)))


def renamed(context: Context) -> None:
    span = started(context)
    command_spans.rename(span, "ack jobs", {"messaging.system": "redis", "db.namespace": "1"})
    command_spans.end(span)


def late(context: Context) -> None:
    span = started(context, start_time=1_700_000_000_000_000_000,
                   notes=details(server=("node", 7000), servers=1))  # fmt: skip
    command_spans.end(span)


def batch(context: Context) -> None:
    commands = [(GET, {}), (("SET", "key", "value"), {})]
    attributes = TRACER.batch_attributes(True, commands)
    command_spans.end(TRACER.started_batch(context, "foo.pipeline_load", attributes, commands))


def unusual(context: Context) -> None:
    span = started(context)
    span.set_attribute("list", ["a", "b"])
    span.set_attributes({"none": None, "number": 1.5, "flag": True, "bytes": b"x"})
    span.add_event("event", {"key": "value"}, timestamp=5)
    span.add_link(SpanContext(1, 2, True), {"key": "value"})
    span.record_exception(ValueError("text"), timestamp=6)
    span.set_status(StatusCode.ERROR, "description")
    span.update_name("other")
    span.end(end_time=7)


def statuses(context: Context) -> None:
    span = started(context)
    span.set_status(Status(StatusCode.UNSET))
    span.set_status(Status(StatusCode.ERROR, "first"))
    span.set_status(Status(StatusCode.OK))
    span.set_status(Status(StatusCode.ERROR))
    span.set_attribute("db.namespace", "moved to the end")
    span.end(end_time=8)


def twice(context: Context) -> None:
    one, two = started(context), started(context)
    command_spans.rename(one, "one", {"mine": 1})
    command_spans.end(one)
    command_spans.end(two)


BODIES = [success, with_details, failed, failed_without_code, conflict, noscript, renamed, late,
          batch, unusual, statuses, twice]  # fmt: skip


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[list[ReadableSpan]]]]:
    """Run a body in both ways and return the spans of each."""

    def run(body: Body, parent: Span | None = None, **options: Any) -> list[list[ReadableSpan]]:
        found = []
        for fast in (True, False):
            made = {name: value() if callable(value) else value for name, value in options.items()}
            recorder = Recorder(fast, **made)
            monkeypatch.setattr(command_spans, "tracer", recorder.tracer)
            body(context_of(parent))
            found.append(recorder.spans)
        return found

    token = otel_context.attach(Context())
    yield run
    otel_context.detach(token)


def described(span: ReadableSpan) -> dict[str, Any]:
    """All fields of a span but its times; those are checked."""
    assert span.start_time is not None
    assert span.end_time is not None
    return {
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


@only_fast
def test_the_ways_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = []
    for fast in (True, False):
        monkeypatch.setattr(command_spans, "tracer", Recorder(fast).tracer)
        kinds.append(type(started(Context())) is FastSpan)
    assert kinds == [True, False]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
@pytest.mark.parametrize("parent", [None, local(), remote(state=STATE)], ids=["root", "", "remote"])
def test_each_kind_of_span(ways: Any, body: Body, parent: Span | None) -> None:
    check(*ways(body, parent), 2 if body is twice else 1)


@pytest.mark.parametrize(
    "parent",
    [local(state=STATE), local(flags=3), remote(flags=2), remote(sampled=False), local(flags=0),
     local(flags=2), NonRecordingSpan(SpanContext(0, 0, False))],
    ids=["state", "random", "remote-random", "remote-unsampled", "unsampled", "unsampled-random",
         "invalid"],
)  # fmt: skip
@pytest.mark.parametrize(
    ("sampler", "count"),
    [
        (ALWAYS_ON, 1),
        (ALWAYS_OFF, 0),
        (ParentBased(ALWAYS_ON), None),
        (ParentBased(ALWAYS_OFF), None),
        (TraceIdRatioBased(1.0), 1),
        (ParentBased(TraceIdRatioBased(0.5), local_parent_sampled=ALWAYS_OFF), None),
        (ParentBased(ALWAYS_ON, remote_parent_sampled=ALWAYS_OFF), None),
        (StaticSampler(Decision.RECORD_ONLY), 0),
        (Adding(Decision.RECORD_AND_SAMPLE), 1),
        (Adding(Decision.RECORD_ONLY), 0),
        (Adding(Decision.DROP), 0),
        (ParentBased(ALWAYS_ON, local_parent_sampled=Adding(Decision.RECORD_AND_SAMPLE)), None),
    ],
)
def test_each_sampler(ways: Any, sampler: Sampler, count: int | None, parent: Span) -> None:
    fast, slow = ways(success, parent, sampler=sampler)
    check(fast, slow, len(slow) if count is None else count)


@pytest.mark.parametrize("random", [False, True])
def test_random_trace_identifiers_are_marked(ways: Any, random: bool) -> None:
    fast, slow = ways(success, id_generator=lambda: Numbered(random))
    check(fast, slow)


def test_several_processors_get_the_same_span(ways: Any) -> None:
    fast, slow = ways(success, processors=3)
    check(fast, slow, 3)


def test_only_a_sampled_span_reaches_the_exporters(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(True, sampler=StaticSampler(Decision.RECORD_ONLY))
    monkeypatch.setattr(command_spans, "tracer", recorder.tracer)
    span = started(Context())
    assert span.is_recording()
    command_spans.end(span)
    assert not span.is_recording()
    assert recorder.spans == []


def test_only_a_processor_of_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's processors are in a module that such an application doesn't import."""
    monkeypatch.delitem(sys.modules, "opentelemetry.sdk.trace.export")
    provider, foreign = TracerProvider(shutdown_on_exit=False), Foreign()
    provider.add_span_processor(foreign)
    monkeypatch.setattr(command_spans, "tracer", provider.get_tracer("package"))
    success(Context())
    assert (foreign.started, foreign.ended) == (["foo.GET"], ["foo.GET"])


@only_fast
def test_a_processor_that_is_added_later_counts_from_the_next_span(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder, foreign = Recorder(True), Foreign()
    monkeypatch.setattr(command_spans, "tracer", recorder.tracer)
    success(Context())
    running = started(Context())
    recorder.provider.add_span_processor(foreign)
    command_spans.end(running)
    # As with the SDK's span.
    assert (foreign.started, foreign.ending, foreign.ended) == ([], ["foo.GET"], ["foo.GET"])
    span = started(Context())
    assert type(span) is not FastSpan
    command_spans.end(span)
    assert (foreign.started, foreign.ended) == (["foo.GET"], ["foo.GET", "foo.GET"])
    assert len(recorder.spans) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"span_limits": SpanLimits(max_span_attributes=2)},
        {"span_limits": SpanLimits(max_span_attribute_length=3)},
    ],
    ids=["count", "length"],
)
def test_limits_are_kept(ways: Any, options: dict[str, Any]) -> None:
    fast, slow = ways(success, local(), **options)
    check(fast, slow)


class Subclass(SimpleSpanProcessor):
    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        span.set_attribute("baggage", "value")


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_processor_that_changes_spans_gets_the_sdks(
    monkeypatch: pytest.MonkeyPatch, wrapped: bool
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    if wrapped:
        processor: Any = SimpleSpanProcessor(exporter)
        processor.on_start = Subclass(exporter).on_start  # as an instrumentation does
    else:
        processor = Subclass(exporter)
    provider.add_span_processor(processor)
    monkeypatch.setattr(command_spans, "tracer", provider.get_tracer("package"))
    success(Context())
    (span,) = exporter.get_finished_spans()
    assert (span.attributes or {})["baggage"] == "value"


def test_the_batch_processor_exports_the_span(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    monkeypatch.setattr(command_spans, "tracer", provider.get_tracer("package"))
    success(Context())
    provider.force_flush()
    assert [span.name for span in exporter.get_finished_spans()] == ["foo.GET"]
    provider.shutdown()
    success(Context())
    assert len(exporter.get_finished_spans()) <= 1


def test_a_provider_that_was_shut_down_exports_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for fast in (True, False):
        recorder = Recorder(fast)
        monkeypatch.setattr(command_spans, "tracer", recorder.tracer)
        recorder.provider.shutdown()
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            success(Context())
        assert recorder.spans == []
        assert [record.getMessage() for record in caplog.records] == [
            "Processor is already shutdown, ignoring call"
        ]


def messages_after_the_end(span: Any, caplog: pytest.LogCaptureFixture) -> list[str]:
    span.end()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        span.end()
        span.set_attribute("late", 1)
        span.set_attributes({"late": 1})
        span.update_name("late")
        span.set_status(Status(StatusCode.ERROR))
        span.add_event("late")
    return [record.getMessage() for record in caplog.records]


@only_fast
def test_what_comes_after_the_end_is_ignored_with_the_same_warnings(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = []
    for fast in (True, False):
        recorder = Recorder(fast)
        monkeypatch.setattr(command_spans, "tracer", recorder.tracer)
        found.append(messages_after_the_end(started(Context()), caplog))
        (span,) = recorder.spans
        assert (span.name, span.status.status_code) == ("foo.GET", StatusCode.UNSET)
        assert "late" not in (span.attributes or {})
    assert len(found[0]) == 6
    assert found[0] == found[1]


@only_fast
def test_a_disabled_tracer_records_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(True)
    monkeypatch.setattr(command_spans, "tracer", recorder.tracer)
    success(Context())
    recorder.provider._set_tracer_configurator(
        tracer_configurator=sys.modules["opentelemetry.sdk.trace"]._disable_tracer_configurator
    )
    assert started(Context()) is None
    assert len(recorder.spans) == 1


def test_spans_share_no_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(True, id_generator=RandomIdGenerator())
    monkeypatch.setattr(command_spans, "tracer", recorder.tracer)
    twice(Context())
    one, two = recorder.spans
    assert "mine" in (one.attributes or {})
    assert "mine" not in (two.attributes or {})


def test_a_parent_of_a_fast_span_is_known_by_its_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(True)
    monkeypatch.setattr(command_spans, "tracer", recorder.tracer)
    span = started(Context())
    child = recorder.tracer.start_span("child", context_of(span))
    assert getattr(child, "parent", None) == span.get_span_context()
    child.end()
    span.end()
