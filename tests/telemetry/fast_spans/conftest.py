"""The fixture that runs a test in both ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Span

from pyramid_baseplate_redis.telemetry import command_spans

from ...support.fast_spans import Body, Recorder, context_of


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
