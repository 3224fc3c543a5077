"""Count a request's round trips to Redis and the time they took, from its spans."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Span, StatusCode, format_trace_id

from .traces import TraceStore


@dataclass(frozen=True)
class RoundTrips:
    """The round trips of a trace. Each command and each pipeline is one."""

    trace_id: str
    answered: int
    failed: int
    milliseconds: float

    def __str__(self) -> str:
        if not self.answered and not self.failed:
            return "no round trip"
        trips = "1 round trip" if self.answered == 1 else f"{self.answered} round trips"
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{trips}{failed}, {duration(self.milliseconds)}"


def round_trips(trace_id: str, spans: Iterable[ReadableSpan]) -> RoundTrips:
    """Add up the spans of commands and pipelines; skip the others."""
    trips = [span for span in spans if is_round_trip(span)]
    failed = sum(has_failed(span) for span in trips)
    milliseconds = sum(milliseconds_of(span) for span in trips)
    return RoundTrips(trace_id, len(trips) - failed, failed, milliseconds)


def round_trips_of(store: TraceStore, span: Span) -> RoundTrips | None:
    """Return the round trips of a request so far; ``None`` if its span is not recorded."""
    if not span.is_recording():
        return None
    trace_id = format_trace_id(span.get_span_context().trace_id)
    trace = store.get(trace_id)
    return round_trips(trace_id, () if trace is None else trace.spans)


def is_round_trip(span: ReadableSpan) -> bool:
    """Return whether the span is that of a command or a pipeline."""
    return (span.attributes or {}).get("db.system.name") == "redis"


def has_failed(span: ReadableSpan) -> bool:
    """Return whether the span has the status of an error."""
    return span.status.status_code is StatusCode.ERROR


def milliseconds_of(span: ReadableSpan) -> float:
    """Return how long the span took."""
    return ((span.end_time or 0) - (span.start_time or 0)) / 1e6


def duration(milliseconds: float) -> str:
    """Return a duration for a page: ``0.84 ms``, ``120 ms``, ``5.0 s``.

    The space is one at which no line breaks.
    """
    if milliseconds < 10:
        return f"{milliseconds:.2f}\N{NO-BREAK SPACE}ms"
    if milliseconds < 1000:
        return f"{milliseconds:.0f}\N{NO-BREAK SPACE}ms"
    return f"{milliseconds / 1000:.1f}\N{NO-BREAK SPACE}s"
