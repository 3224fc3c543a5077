"""Keep the latest traces of this process in memory, for a page that shows them.

A span processor of the OpenTelemetry SDK collects them, so no collector and no back end is needed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import StatusCode, format_trace_id

MOST_TRACES = 50
MOST_SPANS = 300  # of one trace


@dataclass
class Trace:
    """The spans of a trace that have ended so far, in the order of their ends."""

    id: str  #: 32 hexadecimal digits
    root: ReadableSpan | None = None
    spans: list[ReadableSpan] = field(default_factory=list)  #: without the root
    left_out: int = 0  #: number of spans that were not kept

    def copy(self) -> Trace:
        return Trace(self.id, self.root, list(self.spans), self.left_out)


class TraceStore(SpanProcessor):
    """Keeps the spans of the latest traces.

    :param quiet: beginnings of paths; the traces of requests for them are kept only if they fail.
    :param most_traces: number of traces to keep. The oldest one makes room for a new one.
    :param most_spans: number of spans of a trace to keep; the others are counted.
    """

    def __init__(
        self,
        quiet: tuple[str, ...] = (),
        most_traces: int = MOST_TRACES,
        most_spans: int = MOST_SPANS,
    ) -> None:
        self._quiet = quiet
        self._most_traces = most_traces
        self._most_spans = most_spans
        self._traces: OrderedDict[str, Trace] = OrderedDict()
        self._lock = threading.Lock()

    def on_end(self, span: ReadableSpan) -> None:
        """Keep a span. The SDK calls this when the span has ended."""
        trace_id = format_trace_id(span.context.trace_id)
        with self._lock:
            trace = self._traces.setdefault(trace_id, Trace(trace_id))
            if span.parent is None or span.parent.is_remote:
                trace.root = span
                self._traces.move_to_end(trace_id)
                if self._is_quiet(span):
                    del self._traces[trace_id]
            elif len(trace.spans) < self._most_spans:
                trace.spans.append(span)
            else:
                trace.left_out += 1
            if len(self._traces) > self._most_traces:
                self._traces.popitem(last=False)

    def get(self, trace_id: str) -> Trace | None:
        """Return what is kept of a trace; ``None`` if that is nothing."""
        with self._lock:
            trace = self._traces.get(trace_id)
            return None if trace is None else trace.copy()

    def latest(self) -> list[Trace]:
        """Return the traces whose root has ended, the latest first."""
        with self._lock:
            kept = [trace.copy() for trace in reversed(self._traces.values())]
        return [trace for trace in kept if trace.root is not None]

    def _is_quiet(self, root: ReadableSpan) -> bool:
        path = str((root.attributes or {}).get("url.path", ""))
        return path.startswith(self._quiet) and root.status.status_code is not StatusCode.ERROR
