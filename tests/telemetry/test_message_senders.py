"""The sender of a message is the one that OpenTelemetry's propagator reads from its entry."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from pyramid_baseplate_redis.telemetry.command_spans import CommandTracer
from pyramid_baseplate_redis.telemetry.messaging import spans
from pyramid_baseplate_redis.telemetry.operations import ClientTelemetry

from ..support.fast_spans import Recorder

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder(True)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", recorder.provider)
    monkeypatch.setattr(spans, "tracer", recorder.tracer)
    return recorder


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"traceparent": f"00-{TRACE}-{SPAN}-01"},
        {"traceparent": f"00-{TRACE}-{SPAN}-00"},
        {"traceparent": f"00-{TRACE}-{SPAN}-03"},
        {"traceparent": f"00-{TRACE}-{SPAN}-ff"},
        {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "vendor=value"},
        {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "nonsense"},
        {"traceparent": f"00-{TRACE}-{SPAN}-01\n"},
        {"traceparent": f" 00-{TRACE}-{SPAN}-01 "},
        {"traceparent": f"00-{TRACE}-{SPAN}-01-more"},
        {"traceparent": f"01-{TRACE}-{SPAN}-01-more"},
        {"traceparent": f"ff-{TRACE}-{SPAN}-01"},
        {"traceparent": f"00-{TRACE.upper()}-{SPAN}-01"},
        {"traceparent": f"00-{'0' * 32}-{SPAN}-01"},
        {"traceparent": f"00-{TRACE}-{'0' * 16}-01"},
        {"traceparent": ""},
        {"tracestate": "vendor=value"},
    ],
    ids=str,
)
def test_a_link_names_the_sender(recorder: Recorder, fields: dict[str, str]) -> None:
    commands = CommandTracer("foo", pool_name="foo", connection_kwargs={})
    tracer = spans.MessageTracer(
        ClientTelemetry(commands, metered=False), "jobs", "group", trace_parent=False
    )
    raw = {name.encode(): value.encode() for name, value in fields.items()}
    message: Any = SimpleNamespace(id="1-0", body=b"job", attempts=1, fields=raw)
    span = tracer.start_process(INVALID_SPAN, [message])
    assert span is not None
    span.end()
    extracted = TraceContextTextMapPropagator().extract(fields, Context())
    sender = trace.get_current_span(extracted).get_span_context()
    (made,) = recorder.spans
    assert [tuple(link.context) for link in made.links] == [tuple(sender)] * sender.is_valid
