"""The pages of the latest traces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPNotFound
from pyramid.request import Request

from .round_trips import RoundTrips, duration, has_failed, milliseconds_of, round_trips
from .traces import Trace
from .waterfall import rows


def includeme(config: Configurator) -> None:
    """Add the pages."""
    config.add_route("traces", "/traces")
    config.add_route("trace", "/traces/{id}")
    for route_name, view in ("traces", show_traces), ("trace", show_trace):
        renderer = f"example_app:templates/{route_name}.jinja2"
        config.add_view(view, route_name=route_name, request_method="GET", renderer=renderer)


@dataclass(frozen=True)
class Summary:
    """A trace in the list of traces."""

    id: str
    name: str
    status: str
    round_trips: RoundTrips
    has_failed: bool
    redis: str  #: the time that Redis took; empty without a round trip
    total: str
    times: str
    percent: float  #: Redis's part of the total


def summary(trace: Trace, root: ReadableSpan) -> Summary:
    """Return what the list says about a trace."""
    attributes = root.attributes or {}
    method, path = attributes.get("http.request.method"), attributes.get("url.path")
    trips = round_trips(trace.id, [root, *trace.spans])
    total = milliseconds_of(root)
    redis = duration(trips.milliseconds) if trips.answered or trips.failed else ""
    return Summary(
        id=trace.id,
        name=f"{method} {path}" if method and path else root.name,
        status=str(attributes.get("http.response.status_code", "")),
        round_trips=trips,
        has_failed=has_failed(root),
        redis=redis,
        total=duration(total),
        times=f"{trips} of {duration(total)}" if redis else f"{trips}, {duration(total)}",
        percent=round(min(100.0, 100 * trips.milliseconds / max(total, 0.001)), 1),
    )


def show_traces(request: Request) -> dict[str, Any]:
    kept = request.registry.traces.latest()
    return {"traces": [summary(trace, trace.root) for trace in kept]}


def show_trace(request: Request) -> dict[str, Any]:
    trace = request.registry.traces.get(request.matchdict["id"])
    if trace is None or trace.root is None:
        raise HTTPNotFound
    return {
        "summary": summary(trace, trace.root),
        "rows": rows(trace),
        "left_out": trace.left_out,
    }
