"""A tracer that is not the SDK's has no abilities that the fast spans could use."""

from __future__ import annotations

from opentelemetry import trace

from pyramid_baseplate_redis.telemetry.fast_spans.qualification import SdkTracer, qualified


def test_a_tracer_of_another_class_has_no_abilities() -> None:
    known = SdkTracer(object())
    assert (known.qualifies, known.makes_current_spans, known.is_read) == (False,) * 3
    assert (known.samples_children, known.samples_remote_children) == (False, False)
    assert known.samples_roots is False
    assert (known.processors, known.receivers) == ((), ())


def test_a_tracer_that_records_nothing_does_not_qualify() -> None:
    assert qualified(trace.NoOpTracer()) is None
