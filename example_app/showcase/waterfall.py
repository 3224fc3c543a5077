"""Turn a trace into the rows of a waterfall: a tree whose bars show when each span ran."""

from __future__ import annotations

from dataclasses import dataclass

from opentelemetry.sdk.trace import ReadableSpan

from .round_trips import duration, has_failed, is_round_trip, milliseconds_of
from .traces import Trace


@dataclass(frozen=True)
class Row:
    """A span, and the place of its bar."""

    name: str
    depth: int
    start: float  #: percent of the trace's time
    width: float  #: percent of the trace's time
    duration: str
    is_redis: bool
    error: str  #: the type of the error; empty if there was none
    attributes: list[tuple[str, str]]


def rows(trace: Trace) -> list[Row]:
    """Return the rows of a trace, parents before their children.

    A span whose parent is not kept is shown under the root.
    """
    root, spans = trace.root, sorted(trace.spans, key=_start)
    everything = spans if root is None else [root, *spans]
    if not everything:
        return []
    begin = min(map(_start, everything))
    end = max(span.end_time or 0 for span in everything)
    scale = 100 / max(1, end - begin)
    return [
        Row(
            name=span.name,
            depth=depth,
            start=round((_start(span) - begin) * scale, 3),
            width=round(((span.end_time or 0) - _start(span)) * scale, 3),
            duration=duration(milliseconds_of(span)),
            is_redis=is_round_trip(span),
            error=_error(span),
            attributes=[(name, str(value)) for name, value in (span.attributes or {}).items()],
        )
        for depth, span in _tree(root, spans)
    ]


def _tree(root: ReadableSpan | None, spans: list[ReadableSpan]) -> list[tuple[int, ReadableSpan]]:
    """Return the spans with their depths, in the order in which a tree is read."""
    top = None if root is None else root.context.span_id
    known = {span.context.span_id for span in spans}
    children: dict[int | None, list[ReadableSpan]] = {}
    for span in spans:
        parent = span.parent.span_id if span.parent is not None else None
        children.setdefault(parent if parent in known else top, []).append(span)
    tree = [] if root is None else [(0, root)]
    stack = [(1, span) for span in reversed(children.get(top, []))]
    while stack:
        depth, span = stack.pop()
        tree.append((depth, span))
        below = reversed(children.get(span.context.span_id, []))
        stack += [(depth + 1, child) for child in below]
    return tree


def _start(span: ReadableSpan) -> int:
    return span.start_time or 0


def _error(span: ReadableSpan) -> str:
    if not has_failed(span):
        return ""
    name = str((span.attributes or {}).get("error.type", "error"))
    return name.rpartition(".")[2]  # without the module
