"""A span that is made at its end is exactly the span that the SDK makes."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import Any

import pytest
import redis
from opentelemetry.context import Context
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode

from pyramid_baseplate_redis.telemetry import command_spans, span_outcomes
from pyramid_baseplate_redis.telemetry.fast_spans.span import MOST_ATTRIBUTES

from ...support.fast_spans import (
    GET,
    LONG_AGO,
    STATE,
    TRACER,
    Adding,
    Body,
    Numbered,
    Recorder,
    check,
    context_of,
    details,
    local,
    only_fast,
    remote,
    started,
    success,
)  # fmt: skip


def with_details(context: Context) -> None:
    notes = details(waited=0.25, retries=2, redirections=1, server=("node", 7000), servers=1,
                    peer=("10.0.0.1", 7000))  # fmt: skip
    span_outcomes.end(started(context), notes)


def failed(context: Context) -> None:
    span_outcomes.fail(started(context), redis.ResponseError("WRONGTYPE Operation"))


def failed_without_code(context: Context) -> None:
    span_outcomes.fail(started(context), redis.ConnectionError("lost"), details(retries=1))


def conflict(context: Context) -> None:
    span_outcomes.fail(started(context), redis.WatchError("changed"))


def noscript(context: Context) -> None:
    span_outcomes.end_noscript(started(context, ("EVALSHA", "abc", 0)))


def renamed(context: Context) -> None:
    span = started(context)
    span_outcomes.rename(span, "ack jobs", {"messaging.system": "redis", "db.namespace": "1"})
    span_outcomes.end(span)


def late(context: Context) -> None:
    span = started(context, start_time=LONG_AGO,
                   notes=details(server=("node", 7000), servers=1))  # fmt: skip
    span_outcomes.end(span)


def batch(context: Context) -> None:
    commands = [(GET, {}), (("SET", "key", "value"), {})]
    attributes = TRACER.batch_attributes(True, commands)
    span_outcomes.end(TRACER.started_batch(context, "foo.pipeline_load", attributes, commands))


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


def status_then_event(context: Context) -> None:
    span = started(context)
    span.set_status(Status(StatusCode.ERROR, "kept"))
    span.set_status(Status(StatusCode.UNSET))
    span.add_event("event", timestamp=5)
    span_outcomes.end(span)


def status_with_two_descriptions(context: Context) -> None:
    span = started(context)
    span.set_status(Status(StatusCode.ERROR, "kept"), "ignored with a warning")
    span_outcomes.end(span)


def changed_list(context: Context) -> None:
    span, value = started(context), ["a"]
    span.set_attribute("list", value)
    value.append("b")
    span_outcomes.end(span)


def twice(context: Context) -> None:
    one, two = started(context), started(context)
    span_outcomes.rename(one, "one", {"mine": 1})
    span_outcomes.end(one)
    span_outcomes.end(two)


def many(context: Context) -> None:
    span = started(context)
    for number in range(200):
        span.set_attribute(f"number{number}", number)
    span_outcomes.end(span)


def as_many_as_possible(context: Context) -> None:
    span = started(context)
    for number in range(MOST_ATTRIBUTES - len(TRACER.command_attributes("GET"))):
        span.set_attribute(f"number{number}", number)
    span_outcomes.end(span)


def one_too_many(context: Context) -> None:
    span = started(context)
    for number in range(MOST_ATTRIBUTES - len(TRACER.command_attributes("GET")) + 1):
        span.set_attribute(f"number{number}", number)
    span_outcomes.end(span)


def one_too_many_at_once(context: Context) -> None:
    span = started(context)
    added = MOST_ATTRIBUTES - len(TRACER.command_attributes("GET")) + 1
    span.set_attributes({f"number{number}": number for number in range(added)})
    span_outcomes.end(span)


def many_at_once(context: Context) -> None:
    span = started(context)
    span.set_attributes({f"number{number}": number for number in range(200)})
    span_outcomes.end(span)


def empty_name(context: Context) -> None:
    span = started(context)
    span.set_attributes({"": 1, "good": 3})
    span.set_attribute("", 1)
    span_outcomes.end(span)


def number_as_name(context: Context) -> None:
    span = started(context)
    number: Any = 5
    span.set_attributes({number: 1, "good": 3})
    span.set_attribute(number, 1)
    span_outcomes.end(span)


def read(context: Context) -> None:
    span = started(context)
    assert (span.name, span.kind, span.attributes["db.operation.name"]) == (
        "foo.GET", SpanKind.CLIENT, "GET",
    )  # fmt: skip
    span.set_attribute("read", True)
    span_outcomes.end(span)
    assert span.attributes["read"] is True
    assert span.end_time >= span.start_time
    assert not hasattr(span, "unknown")


def in_another_thread(context: Context) -> None:
    span = started(context)
    thread = threading.Thread(target=span_outcomes.end, args=(span,))
    thread.start()
    thread.join()


BODIES = [
    success, with_details, failed, failed_without_code, conflict, noscript, renamed, late, batch,
    unusual, statuses, status_then_event, status_with_two_descriptions, changed_list, twice, many,
    as_many_as_possible, one_too_many, one_too_many_at_once, many_at_once, empty_name,
    number_as_name, read, in_another_thread,
]  # fmt: skip


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
        (ParentBasedTraceIdRatio(0.5), None),
        (StaticSampler(Decision.RECORD_ONLY), 0),
        (Adding(Decision.RECORD_AND_SAMPLE), 1),
        (Adding(Decision.RECORD_AND_SAMPLE, {"": 1}), 1),
        (Adding(Decision.RECORD_AND_SAMPLE, {5: 1}), 1),
        (Adding(Decision.RECORD_AND_SAMPLE, {f"key{number}": number for number in range(200)}), 1),
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


@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF, StaticSampler(Decision.RECORD_ONLY)])
@pytest.mark.parametrize("parent", [None, local()], ids=["root", "child"])
def test_as_many_identifiers_are_generated(
    ways: Any, sampler: Sampler, parent: Span | None
) -> None:
    generators = [Numbered(), Numbered()]
    fresh = iter(generators)
    ways(success, parent, sampler=sampler, id_generator=lambda: next(fresh))
    assert generators[0].last == generators[1].last > 0


def test_an_invalid_identifier_stays_invalid(ways: Any) -> None:
    class Zero(Numbered):
        def generate_span_id(self) -> int:
            return 0

    fast, slow = ways(success, local(), id_generator=Zero)
    check(fast, slow)
    assert not fast[0].context.is_valid


def test_a_span_lasts_as_long_as_its_command(ways: Any) -> None:
    before = time.time_ns()
    for (span,) in ways(success):
        assert before <= span.start_time <= span.end_time <= time.time_ns()


def test_several_processors_get_the_same_span(ways: Any) -> None:
    fast, slow = ways(success, processors=3)
    check(fast, slow, 3)


def test_only_a_sampled_span_reaches_the_exporters(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(True, sampler=StaticSampler(Decision.RECORD_ONLY))
    monkeypatch.setattr(command_spans, "tracer", recorder.tracer)
    span = started(Context())
    assert span.is_recording()
    span_outcomes.end(span)
    assert not span.is_recording()
    assert recorder.spans == []


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


def test_a_provider_that_was_shut_down_exports_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = []
    for fast in (True, False):
        recorder = Recorder(fast)
        monkeypatch.setattr(command_spans, "tracer", recorder.tracer)
        recorder.provider.shutdown()
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            success(Context())
        assert recorder.spans == []
        found.append([record.getMessage() for record in caplog.records])
    assert found[0] == found[1]  # newer releases log a warning


def test_a_second_description_is_ignored_with_the_same_warning(
    ways: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ways(status_with_two_descriptions)
    one, other = (record.getMessage() for record in caplog.records)
    assert one == other


def test_a_with_statement_records_its_exception(ways: Any) -> None:
    def body(context: Context) -> None:
        span = started(context)
        with contextlib.suppress(ValueError), span as entered:
            assert entered is span
            raise ValueError("wrong")
        assert not span.is_recording()
        with started(context) as other:
            other.set_attribute("key", "value")
        assert not other.is_recording()

    found = []
    for one, other in ways(body):
        (event,) = one.events
        assert event.attributes["exception.message"] == "wrong"
        found.append((event.name, one.status.status_code, one.status.description, other.events,
                      other.status.status_code, dict(other.attributes)))  # fmt: skip
    assert found[0] == found[1]


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


def test_spans_share_no_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(True, id_generator=RandomIdGenerator())
    monkeypatch.setattr(command_spans, "tracer", recorder.tracer)
    twice(Context())
    one, two = recorder.spans
    assert "mine" in (one.attributes or {})
    assert "mine" not in (two.attributes or {})


@only_fast
@pytest.mark.parametrize("is_read", [False, True])
def test_its_repr_has_its_name(monkeypatch: pytest.MonkeyPatch, is_read: bool) -> None:
    monkeypatch.setattr(command_spans, "tracer", Recorder(True).tracer)
    span = started(Context())
    assert not is_read or span.attributes
    span.update_name("new")
    assert repr(span) == f'FastSpan(name="new", context={span.get_span_context()!r})'


def test_a_parent_of_a_fast_span_is_known_by_its_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(True)
    monkeypatch.setattr(command_spans, "tracer", recorder.tracer)
    span = started(Context())
    child = recorder.tracer.start_span("child", context_of(span))
    assert getattr(child, "parent", None) == span.get_span_context()
    child.end()
    span.end()
