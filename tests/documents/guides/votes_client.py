"""Send requests to the service of docs/guides/leaving_baseplate, and print what it did as JSON.

It runs as a script in the directory of one step, in an environment with baseplate or with this
package. So it imports only what both environments have.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY
from webob import Request

REQUESTS: list[tuple[str, str, Any]] = [
    ("GET", "/health", None),
    ("GET", "/health?type=liveness", None),
    ("GET", "/top", None),
    ("POST", "/posts", {"title": "First"}),
    ("POST", "/posts", {"title": "Second"}),
    ("POST", "/posts", {}),
    ("GET", "/posts/1", None),
    ("GET", "/posts/7", None),
    ("GET", "/nowhere", None),
    ("POST", "/posts/1/vote", {"user": "ada", "direction": "up"}),
    ("POST", "/posts/1/vote", {"user": "bob", "direction": "up"}),
    ("POST", "/posts/1/vote", {"user": "bob", "direction": "down"}),
    ("POST", "/posts/1/vote", {"user": "cyd", "direction": "up"}),
    ("POST", "/posts/2/vote", {"user": "ada", "direction": "sideways"}),
    ("POST", "/posts/7/vote", {"user": "ada", "direction": "up"}),
    ("GET", "/posts/1", None),
    ("GET", "/top", None),
]


def main() -> None:
    provider = TracerProvider()
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    baseplate_spans: list[str] = []
    app = _application(baseplate_spans)

    exchanges = []
    for method, path, body in REQUESTS:
        exporter.clear()
        baseplate_spans.clear()
        request = Request.blank(path, method=method)
        if body is not None:
            request.json_body = body
        response = request.get_response(app)
        response.body  # noqa: B018  # the server span ends when the body has been read
        ended = exporter.get_finished_spans()
        inner = [span.name for span in ended if span.kind is not trace.SpanKind.SERVER]
        exchanges.append({
            "request": f"{method} {path}",
            "status": response.status_int,
            "body": _content(response),
            "spans": sorted(inner + baseplate_spans),
            "server_spans": [span.name for span in ended if span.kind is trace.SpanKind.SERVER],
        })  # fmt: skip
    print(json.dumps({"exchanges": exchanges, "counters": _counters()}))  # noqa: T201


def _content(response: Any) -> Any:
    """Return what the service itself puts into the body: Pyramid makes that of a 400."""
    if response.content_type == "application/json":
        return response.json_body
    return response.text if response.status_int == 404 else None


def _application(baseplate_spans: list[str]) -> Any:
    try:
        from baseplate import BaseplateObserver, SpanObserver
        from baseplate.server import make_app, read_config
    except ImportError:
        from pyramid.paster import get_app

        return get_app("service.ini")

    class Names(SpanObserver):  # type: ignore[misc]
        def on_child_span_created(self, span: Any) -> None:
            baseplate_spans.append(span.name)
            span.register(self)

    class Observer(BaseplateObserver):  # type: ignore[misc]
        def on_server_span_created(self, context: Any, server_span: Any) -> None:
            server_span.register(Names())

    with open("service.ini") as file:
        app = make_app(read_config(file, server_name=None, app_name="main").app)
    app.baseplate.register(Observer())
    return app


def _counters() -> dict[str, float]:
    """Return the totals of the application's counters, and of Redis operations by command."""
    counted: dict[str, float] = {}
    for metric in REGISTRY.collect():
        for sample in metric.samples:
            if not sample.name.endswith("_total"):
                continue
            if sample.name.startswith("votes_"):
                counted[sample.name] = sample.value
            elif sample.name == "redis_client_requests_total":
                counted[f"{sample.name} {sample.labels['redis_command']}"] = sample.value
    return counted


if __name__ == "__main__":
    sys.path.insert(0, "")
    main()
