"""Print each trace as a tree, for developers; ``baseplate_redis.print_spans`` turns it on.

It needs the OpenTelemetry SDK, so import it only where the setting asks for it.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import StatusCode

from .semantic_conventions import (
    DB_OPERATION_BATCH_SIZE,
    DB_RESPONSE_STATUS_CODE,
    ERROR_TYPE,
    HTTP_RESPONSE_STATUS_CODE,
    URL_PATH,
)
from .span_outcomes import WAIT_TIME

# Requests for these paths are printed only if they fail.
QUIET_PATHS = ("/static/", "/_debug_toolbar/")
_printed: weakref.WeakSet[TracerProvider] = weakref.WeakSet()


def print_spans(out: TextIO | None = None) -> None:
    """Print the spans of this process, besides exporting them as before.

    If a tracer provider of the SDK is set, it gets one more span processor, however often this is
    called. If none is set, one is made and set.

    :param out: where to print; standard output by default.
    :raises TypeError: a tracer provider is set that is not the SDK's.
    """
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    if not isinstance(provider, TracerProvider):
        raise TypeError(
            f"the tracer provider is a {type(provider).__name__}, which is not the SDK's"
        )
    if provider not in _printed:
        _printed.add(provider)
        provider.add_span_processor(SimpleSpanProcessor(SpanTreePrinter(out, QUIET_PATHS)))


@dataclass
class _Unfinished:
    """The ended spans of a trace whose root span has not ended."""

    spans: list[ReadableSpan] = field(default_factory=list)
    left_out: int = 0


class SpanTreePrinter(SpanExporter):
    """Prints a trace when its root has ended: a line for each span, indented under its parent.

    Use it with a :class:`SimpleSpanProcessor`. A span that ends after its root, for example in a
    thread that outlives its request, is printed alone.

    :param out: where to print; standard output by default.
    :param quiet: beginnings of paths; requests for them are printed only if they fail.
    :param most_traces: number of unfinished traces to keep. If there are more, the oldest one is
        printed unfinished.
    :param most_spans: number of spans of a trace to keep and print; the others are counted.
    """

    def __init__(
        self,
        out: TextIO | None = None,
        quiet: tuple[str, ...] = (),
        most_traces: int = 200,
        most_spans: int = 500,
    ) -> None:
        self._out = out if out is not None else sys.stdout
        self._quiet = quiet
        self._most_traces = most_traces
        self._most_spans = most_spans
        self._unfinished: OrderedDict[int, _Unfinished] = OrderedDict()
        self._finished: OrderedDict[int, str] = OrderedDict()  # a trace's id, its root's name
        # Reentrant, because a signal handler may end a span while its thread prints.
        self._lock = threading.RLock()
        os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()  # another thread of the parent may have held it

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with self._lock:
            self._print(line for span in spans for line in self._add(span))
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Print the traces that are still unfinished."""
        with self._lock:
            while self._unfinished:
                self._print(self._give_up_oldest())

    def _print(self, lines: Iterable[str]) -> None:
        text = "".join(f"{line}\n" for line in lines)
        if text:
            self._out.write(text)
            self._out.flush()

    def _add(self, span: ReadableSpan) -> Iterator[str]:
        """Add a span and yield the lines that can be printed now."""
        trace_id = span.context.trace_id
        if span.parent is None or span.parent.is_remote:
            below = self._unfinished.pop(trace_id, _Unfinished())
            if not self._is_quiet(span):
                yield from _tree([span], below)
            self._finish(trace_id, span.name)
        elif trace_id in self._finished:
            yield f"{_line(span, 1)}  after the end of {self._finished[trace_id]}"
        else:
            unfinished = self._unfinished.setdefault(trace_id, _Unfinished())
            if len(unfinished.spans) < self._most_spans:
                unfinished.spans.append(span)
            else:
                unfinished.left_out += 1
            if len(self._unfinished) > self._most_traces:
                yield from self._give_up_oldest()

    def _is_quiet(self, root: ReadableSpan) -> bool:
        path = str((root.attributes or {}).get(URL_PATH, ""))
        return path.startswith(self._quiet) and root.status.status_code is not StatusCode.ERROR

    def _give_up_oldest(self) -> Iterator[str]:
        trace_id, unfinished = self._unfinished.popitem(last=False)
        yield "(unfinished)"
        yield from _tree([], unfinished)
        self._finish(trace_id, "(unfinished)")

    def _finish(self, trace_id: int, name: str) -> None:
        self._finished[trace_id] = name
        if len(self._finished) > self._most_traces:
            self._finished.popitem(last=False)


def _tree(roots: list[ReadableSpan], below: _Unfinished) -> Iterator[str]:
    """Yield the lines of a trace. A span whose parent is missing is shown under the root."""
    known = {span.context.span_id for span in below.spans}
    children: dict[int | None, list[ReadableSpan]] = {}
    for span in sorted(below.spans, key=lambda span: span.start_time or 0):
        parent = span.parent.span_id if span.parent is not None else None
        children.setdefault(parent if parent in known else None, []).append(span)
    for root in roots:
        yield _line(root, 0)
    stack = [(span, 1) for span in reversed(children.get(None, []))]
    while stack:
        span, depth = stack.pop()
        yield _line(span, depth)
        stack += [(child, depth + 1) for child in reversed(children.get(span.context.span_id, []))]
    if below.left_out:
        yield f"  and {below.left_out} more"


def _line(span: ReadableSpan, depth: int) -> str:
    milliseconds = ((span.end_time or 0) - (span.start_time or 0)) / 1e6
    name = "  " * depth + span.name
    return "  ".join([f"{name:<40} {milliseconds:8.2f} ms", *_details(span)])


def _details(span: ReadableSpan) -> Iterator[str]:
    attributes = span.attributes or {}
    if HTTP_RESPONSE_STATUS_CODE in attributes:
        yield str(attributes[HTTP_RESPONSE_STATUS_CODE])
    if DB_OPERATION_BATCH_SIZE in attributes:
        yield f"{attributes[DB_OPERATION_BATCH_SIZE]!s} commands"
    waited = attributes.get(WAIT_TIME)
    if isinstance(waited, float):
        yield f"waited {waited * 1000:.0f} ms for a connection"
    if span.status.status_code is StatusCode.ERROR:
        reasons = (attributes.get(ERROR_TYPE), attributes.get(DB_RESPONSE_STATUS_CODE))
        shown = dict.fromkeys(str(reason) for reason in reasons if reason is not None)
        yield " ".join(["ERROR", *shown])  # a server's error has its code in both
