"""The identity of a span is the one that the SDK would give it, whatever the generator returns."""

from __future__ import annotations

import itertools

import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from pyramid_baseplate_redis.telemetry import command_spans
from pyramid_baseplate_redis.telemetry.fast_spans import qualification
from pyramid_baseplate_redis.telemetry.fast_spans import span as fast_span
from pyramid_baseplate_redis.telemetry.fast_spans.qualification import qualified
from pyramid_baseplate_redis.telemetry.fast_spans.span import FastSpan, are_plain

from ...support.fast_spans import (
    RELEASE,
    Numbered,
    Recorder,
    context_of,
    local,
    only_fast,
    started,
)

STATE = TraceState([("vendor", "value")])


@pytest.mark.skipif(RELEASE < (1, 43), reason="this SDK asks its generator for the random flag")
@pytest.mark.parametrize("span_id", [0, 1, 2, 2**63, 2**64 - 1, 2**64])
@pytest.mark.parametrize("flags", [TraceFlags.SAMPLED, TraceFlags.SAMPLED | fast_span.RANDOM])
def test_the_identity_of_a_child_is_valid_as_the_apis_is(
    monkeypatch: pytest.MonkeyPatch, span_id: int, flags: int
) -> None:
    ids = Numbered()
    monkeypatch.setattr(command_spans, "tracer", Recorder(True, id_generator=ids).tracer)
    ids.last = span_id - 1
    span = started(context_of(local(flags=flags, state=STATE)))
    expected = SpanContext(0xABC, span_id, False, TraceFlags(flags), STATE)
    assert type(span) is FastSpan
    assert tuple(span.get_span_context()) == tuple(expected)


@only_fast
def test_only_known_flags_are_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_spans, "tracer", Recorder(True).tracer)
    span = started(context_of(local(flags=0x80 | TraceFlags.SAMPLED)))
    assert int(span.get_span_context().trace_flags) == TraceFlags.SAMPLED


@only_fast
def test_a_parent_of_another_class_is_asked_for_its_context(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Own(NonRecordingSpan):
        def get_span_context(self) -> SpanContext:
            return SpanContext(0xAB, 0xCD, False, TraceFlags(TraceFlags.SAMPLED))

    monkeypatch.setattr(command_spans, "tracer", Recorder(True).tracer)
    monkeypatch.setattr(fast_span, "_span_classes", set())
    for _ in range(2):  # the class is known afterward
        span = started(context_of(Own(SpanContext(1, 2, False))))
        assert span.get_span_context().trace_id == 0xAB
    assert fast_span._span_classes == {Own}


@only_fast
def test_a_span_of_a_known_tracer_is_decided_on_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = Recorder(True).tracer
    known = qualified(tracer)
    monkeypatch.setattr(qualification, "SdkTracer", None)  # it is not made again
    assert qualified(tracer) is known


@pytest.mark.parametrize(
    ("count", "most", "expected"), [(0, 0, True), (3, 3, True), (4, 3, False), (2, 3, True)]
)
def test_attributes_are_plain_up_to_a_number(count: int, most: int, expected: bool) -> None:
    attributes = dict(zip(map(str, range(count)), itertools.repeat(1)))
    assert are_plain(attributes, most) is expected


def test_attributes_with_other_names_or_values_are_not_plain() -> None:
    assert are_plain({"text": "a", "number": 1, "flag": True, "half": 0.5}, 9)
    assert not are_plain({"": "a"}, 9)
    assert not are_plain({"list": ["a"]}, 9)  # type: ignore[dict-item]
    assert not are_plain({1: "a"}, 9)  # type: ignore[dict-item]


@only_fast
def test_values_that_the_sdk_converts_are_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(True)
    monkeypatch.setattr(command_spans, "tracer", recorder.tracer)
    span = command_spans.started("foo.X", context_of(local()), {"list": ["a"], "number": 1})
    assert span is not None
    span.end()
    assert dict(recorder.spans[0].attributes or {}) == {"list": ("a",), "number": 1}


@only_fast
def test_an_attribute_turns_a_span_into_the_sdks_only_if_its_name_is_no_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder = Recorder(True)
    monkeypatch.setattr(command_spans, "tracer", recorder.tracer)
    usual, unusual = started(context_of(None)), started(context_of(None))
    usual.set_attribute("name", 1)
    unusual.set_attribute(7, 1)
    assert (usual._span is None, unusual._span is None) == (True, False)
    unusual.end()
    assert 7 not in (recorder.spans[0].attributes or {})


@only_fast
def test_the_options_of_an_exception_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_spans, "tracer", Recorder(True).tracer)
    first, second = started(context_of(None)), started(context_of(None))
    first.record_exception(KeyError("a"))
    second.record_exception(KeyError("a"), {"more": 1}, 17, escaped=True)
    (plain,), (full,) = first.events, second.events
    assert plain.attributes["exception.escaped"] == "False"
    assert (full.attributes["exception.escaped"], full.attributes["more"]) == ("True", 1)
    assert full.timestamp == 17
