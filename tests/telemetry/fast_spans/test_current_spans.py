"""A current span that is made without the tracer's start_span() is the span that this one makes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk import trace as sdk_trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_OFF,
    DEFAULT_ON,
    Decision,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
)

from pyramid_baseplate_redis.telemetry import server_spans
from pyramid_baseplate_redis.telemetry.fast_spans.current_span import start_current
from pyramid_baseplate_redis.telemetry.fast_spans.qualification import SdkTracer
from pyramid_baseplate_redis.telemetry.messaging import spans
from pyramid_baseplate_redis.telemetry.operations import ClientTelemetry

from ...support.fast_spans import (
    RELEASE,
    STATE,
    TRACER,
    Numbered,
    Recorder,
    check,
    context_of,
    local,
    only_fast,
    remote,
)

PLAIN = {"http.request.method": "GET", "server.port": 80, "flag": True, "half": 0.5}
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03"
PARENTS = {
    "root": None,
    "invalid": NonRecordingSpan(SpanContext(0, 0, False)),
    "local": local(state=STATE),
    "local-random": local(flags=3),
    "local-unsampled": local(flags=0),
    "local-unsampled-random": local(flags=2),
    "remote": remote(state=STATE),
    "remote-random": remote(flags=2),
    "remote-unsampled": remote(sampled=False),
}
each_parent = pytest.mark.parametrize("parent", PARENTS.values(), ids=PARENTS)


@pytest.fixture
def passed_by(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the spans that are started without the tracer's method."""
    names: list[str] = []
    original = SdkTracer.start_span

    def start_span(self: SdkTracer, name: str, *args: Any) -> Span:
        names.append(name)
        return original(self, name, *args)

    monkeypatch.setattr(SdkTracer, "start_span", start_span)
    return names


def begin(
    recorder: Recorder,
    parent: Span | None = None,
    attributes: Mapping[str, Any] = PLAIN,
    links: Sequence[Link] = (),
) -> Any:
    context = context_of(parent)
    return start_current(recorder.tracer, "GET", context, SpanKind.SERVER, attributes, links)


def both_ways(**options: Any) -> list[Recorder]:
    """Return one recorder for each way. Values that can be called are made for each."""
    made = []
    for fast in (True, False):
        own = {name: value() if callable(value) else value for name, value in options.items()}
        made.append(Recorder(fast, **own))
    return made


def plain(span: Any) -> None:
    """Leave the span as it is."""


def set_later(span: Any) -> None:
    span.set_attribute("http.response.status_code", 200)
    span.set_attribute("server.port", 81)  # the SDK moves it to the end
    span.set_attributes({"http.route": "/", "list": ["a"], "none": None})
    span.set_attribute("", 1)
    span.update_name("GET /")


def unusual(span: Any) -> None:
    span.add_event("event", {"key": "value"}, timestamp=5)
    span.add_link(SpanContext(1, 2, True), {"key": "value"})
    span.record_exception(ValueError("text"), timestamp=6)
    span.set_status(StatusCode.ERROR, "description")


def statuses(span: Any) -> None:
    span.set_status(Status(StatusCode.ERROR, "first"))
    span.set_status(Status(StatusCode.OK))
    span.set_status(Status(StatusCode.ERROR))


def many(span: Any) -> None:
    for number in range(200):
        span.set_attribute(f"number{number}", number)


def read(span: Any) -> None:
    assert dict(span.attributes) == PLAIN
    assert (span.name, span.kind, span.end_time) == ("GET", SpanKind.SERVER, None)
    assert span.is_recording()
    assert (span.events, span.links) == ((), ())


@pytest.mark.parametrize(
    "body", [plain, set_later, unusual, statuses, many, read], ids=lambda body: body.__name__
)
@pytest.mark.parametrize("parent", [None, local(), remote()], ids=["root", "local", "remote"])
@only_fast
def test_it_is_the_same_span(
    passed_by: list[str], body: Callable[[Any], None], parent: Span | None
) -> None:
    fast, slow = both_ways()
    for recorder in (fast, slow):
        span = begin(recorder, parent)
        assert type(span) is sdk_trace._Span
        body(span)
        span.end()
    check(fast.spans, slow.spans)
    # SDK 1.42 decides about children itself.
    assert passed_by == (["GET"] if parent is None or RELEASE >= (1, 43) else [])


@each_parent
@pytest.mark.parametrize(
    "sampler",
    [
        ALWAYS_ON,
        ALWAYS_OFF,
        DEFAULT_ON,
        DEFAULT_OFF,
        TraceIdRatioBased(1.0),
        ParentBasedTraceIdRatio(0.0),
        ParentBased(ALWAYS_ON, local_parent_sampled=ALWAYS_OFF),
        ParentBased(ALWAYS_ON, remote_parent_sampled=ALWAYS_OFF),
        ParentBased(ALWAYS_ON, remote_parent_not_sampled=ALWAYS_ON),
        StaticSampler(Decision.RECORD_ONLY),
    ],
)
@pytest.mark.parametrize("random", [False, True], ids=["", "random"])
def test_each_sampler_decides_as_before(
    sampler: Sampler, parent: Span | None, random: bool
) -> None:
    fast, slow = both_ways(sampler=sampler, id_generator=lambda: Numbered(random))
    found = []
    for recorder in (fast, slow):
        span = begin(recorder, parent)
        found.append((type(span), tuple(span.get_span_context()), span.is_recording()))
        span.end()
    assert found[0] == found[1]
    check(fast.spans, slow.spans, len(slow.spans))


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"list": ["a", "b"], "none": None},
        {"": 1, "good": 2},
        {5: 1, "good": 2},
        {f"key{number}": number for number in range(200)},
    ],
    ids=["none", "converted", "empty-name", "number-as-name", "many"],
)
def test_attributes_that_the_sdk_converts(attributes: dict[str, Any]) -> None:
    fast, slow = both_ways()
    for recorder in (fast, slow):
        begin(recorder, None, attributes).end()
    check(fast.spans, slow.spans)


@pytest.mark.parametrize(
    "limits",
    [SpanLimits(max_span_attributes=2), SpanLimits(max_span_attribute_length=1),
     SpanLimits(max_span_attributes=33), SpanLimits(max_events=0, max_links=1)],
    ids=["count", "length", "high", "events-and-links"],
)  # fmt: skip
def test_limits_are_kept(limits: SpanLimits) -> None:
    fast, slow = both_ways(span_limits=limits)
    for recorder in (fast, slow):
        links = [Link(SpanContext(1, number, True)) for number in (2, 3)]
        span = begin(recorder, links=links)
        unusual(span)
        many(span)
        span.end()
    check(fast.spans, slow.spans)


def test_links_are_those_of_the_sdk() -> None:
    fast, slow = both_ways()
    for recorder in (fast, slow):
        links = [Link(SpanContext(1, 2, True), {"key": ["value"]}), Link(SpanContext(0, 0, True))]
        begin(recorder, None, PLAIN, links).end()
    check(fast.spans, slow.spans)
    assert len(fast.spans[0].links) == 1


@pytest.mark.parametrize("trusted", [False, True], ids=["", "trusted"])
@only_fast
def test_the_server_span_is_the_same(
    monkeypatch: pytest.MonkeyPatch, passed_by: list[str], trusted: bool
) -> None:
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/page", "HTTP_HOST": "example.com:8080",
               "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_TRACEPARENT": TRACEPARENT}  # fmt: skip
    fast, slow = both_ways()
    for recorder in (fast, slow):
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", recorder.provider)
        monkeypatch.setattr(server_spans, "tracer", recorder.tracer)
        span, context = server_spans.start_server_span(environ, trusted)
        assert trace.get_current_span(context) is span
        server_spans.describe_response(span, "GET", "/{name}", 500, ValueError("wrong"))
        server_spans.describe_status(span, 503)
        server_spans.end_server_span(span)
        server_spans.end_server_span(span)
    check(fast.spans, slow.spans)
    assert passed_by == (["GET"] if not trusted or RELEASE >= (1, 43) else [])


@pytest.mark.parametrize("trace_parent", [False, True], ids=["linked", "child"])
@only_fast
def test_the_process_span_is_the_same(
    monkeypatch: pytest.MonkeyPatch, passed_by: list[str], trace_parent: bool
) -> None:
    messages: Any = [
        SimpleNamespace(id="1-0", body=b"job", attempts=2,
                        fields={b"traceparent": TRACEPARENT.encode()})
    ]  # fmt: skip
    fast, slow = both_ways()
    for recorder in (fast, slow):
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", recorder.provider)
        monkeypatch.setattr(spans, "tracer", recorder.tracer)
        telemetry = ClientTelemetry(TRACER, metered=False)
        tracer = spans.MessageTracer(telemetry, "jobs", "group", trace_parent=trace_parent)
        for error in (None, ValueError("wrong")):
            span = tracer.start_process(INVALID_SPAN, messages)
            assert span is not None
            span.end(error)
    check(fast.spans, slow.spans, 2)
    known = not trace_parent or RELEASE >= (1, 43)
    assert passed_by == (["process jobs"] * 2 if known else [])


@only_fast
def test_spans_share_no_attributes(passed_by: list[str]) -> None:
    recorder, attributes = Recorder(True), dict(PLAIN)
    one, other = begin(recorder, None, attributes), begin(recorder, None, attributes)
    one.set_attribute("mine", 1)
    attributes["later"] = 2
    one.end()
    other.end()
    assert len(passed_by) == 2
    assert [dict(span.attributes or {}) for span in recorder.spans] == [{**PLAIN, "mine": 1}, PLAIN]


def test_after_its_end_it_logs_the_same_warnings(caplog: pytest.LogCaptureFixture) -> None:
    found = []
    for recorder in both_ways():
        span = begin(recorder)
        span.end()
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            span.end()
            span.set_attribute("late", 1)
            span.set_attributes({"late": 1})
            span.update_name("late")
            span.set_status(Status(StatusCode.ERROR))
            span.add_event("late")
        found.append([record.getMessage() for record in caplog.records])
        assert len(recorder.spans) == 1
    assert len(found[0]) == 6
    assert found[0] == found[1]


def test_a_provider_that_was_shut_down_exports_nothing(caplog: pytest.LogCaptureFixture) -> None:
    found = []
    for recorder in both_ways():
        recorder.provider.shutdown()
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            begin(recorder).end()
        assert recorder.spans == []
        found.append([record.getMessage() for record in caplog.records])
    assert found[0] == found[1]  # newer releases log a warning


def test_a_with_statement_records_its_exception() -> None:
    found = []
    for recorder in both_ways():
        with contextlib.suppress(ValueError), begin(recorder):
            raise ValueError("wrong")
        (span,) = recorder.spans
        (event,) = span.events
        found.append((event.name, (event.attributes or {})["exception.message"],
                      span.status.status_code, span.status.description))  # fmt: skip
    assert found[0] == found[1]
    assert found[0][1] == "wrong"


@only_fast
def test_a_child_of_it_has_its_trace(passed_by: list[str]) -> None:
    recorder = Recorder(True)
    with trace.use_span(begin(recorder), end_on_exit=True) as span:
        assert trace.get_current_span() is span
        recorder.tracer.start_span("child").end()
    child, parent = recorder.spans
    assert passed_by == ["GET"]
    assert child.parent == parent.context


@only_fast
def test_a_new_resource_is_on_the_next_span(passed_by: list[str]) -> None:
    recorder = Recorder(True)
    begin(recorder).end()
    changed: Any = recorder.tracer
    changed.resource = Resource({"service.name": "forked"})
    begin(recorder).end()
    assert len(passed_by) == 2
    assert [span.resource.attributes["service.name"] for span in recorder.spans] == [
        "tests", "forked",
    ]  # fmt: skip


@only_fast
def test_a_tracer_that_is_switched_off_records_nothing(passed_by: list[str]) -> None:
    recorder = Recorder(True)
    begin(recorder).end()
    changed: Any = recorder.tracer
    changed._tracer_config = type(changed._tracer_config)(is_enabled=False)
    assert not begin(recorder).is_recording()
    assert passed_by == ["GET"]


@only_fast
def test_another_processor_gets_the_span_at_its_start() -> None:
    seen: list[tuple[str, dict[str, Any], Context | None]] = []

    class Baggage(sdk_trace.SpanProcessor):
        def on_start(self, span: Any, parent_context: Context | None = None) -> None:
            seen.append((span.name, dict(span.attributes), parent_context))
            span.set_attribute("baggage", "value")

    recorder = Recorder(True)
    begin(recorder).end()
    recorder.provider.add_span_processor(Baggage())
    begin(recorder).end()
    assert seen == [("GET", PLAIN, Context())]
    assert "baggage" in (recorder.spans[1].attributes or {})


@only_fast
@pytest.mark.parametrize("change", ["parameters", "attributes"])
def test_a_release_with_other_spans_makes_its_own(
    monkeypatch: pytest.MonkeyPatch, passed_by: list[str], change: str
) -> None:
    if change == "parameters":

        class Other(sdk_trace._Span):
            def __init__(self, entities: object = None, **fields: Any) -> None:
                super().__init__(**fields)

        monkeypatch.setattr(sdk_trace, "_Span", Other)
    else:

        class Hashed(sdk_trace.BoundedAttributes):
            def __init__(self, *args: Any, **options: Any) -> None:
                super().__init__(*args, **options)
                self.hash = hash(tuple(self._dict))

        monkeypatch.setattr(sdk_trace, "BoundedAttributes", Hashed)
    recorder = Recorder(True)
    begin(recorder).end()
    assert passed_by == []
    assert len(recorder.spans) == 1
