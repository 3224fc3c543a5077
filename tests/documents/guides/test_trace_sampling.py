"""Samplers and settings choose the spans that docs/guides/trace-backends names."""

from __future__ import annotations

import re
import threading
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
import redis
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind
from pyramid.config import Configurator
from webob import Request

from ...support.servers import RecordedSpans, Server
from .otlp_receiver import receiver
from .shop_page import FILES, PAGE, SPANS, variables, visit


def test_a_sampler_of_the_environment_keeps_or_drops_whole_traces(valkey_server: Server) -> None:
    with receiver() as received:
        visit(
            valkey_server,
            {**variables("sampling.env"), "OTEL_EXPORTER_OTLP_ENDPOINT": received.endpoint},
            200,
            path="/price",
        )
    kept = Counter(span.trace_id for span in received.spans)
    assert 0 < len(kept) < 80, "20 of 200 are expected"
    assert set(kept.values()) == {2}


@pytest.mark.parametrize(("flags", "count"), [("01", 43), ("00", 0)])
def test_a_parent_decides_before_the_ratio(valkey_server: Server, flags: str, count: int) -> None:
    header = f"traceparent=00-{'ab' * 16}-{'cd' * 8}-{flags}"
    environment = {**variables("sampling.env"), "OTEL_TRACES_SAMPLER_ARG": "0.5"}
    with receiver() as received:
        visit(
            valkey_server,
            {**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": received.endpoint},
            3,
            header,
        )
    assert len(received.spans) == 3 * count


@pytest.mark.alone("a command that takes long has a span")
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, SPANS),
        ({"foo.trace_min_duration": "30 milliseconds"}, {"GET /": 1, "foo.WAIT": 1}),
        ({"foo.trace": "pipelines"}, {"GET /": 1, "foo.pipeline_visit": 1}),
        ({"foo.trace_exclude": "GET"}, {"GET /": 1, "foo.pipeline_visit": 1, "foo.WAIT": 1}),
        ({"foo.trace": "off"}, {"GET /": 1}),
    ],
    ids=str,
)
def test_settings_choose_the_spans(
    shop: Any,
    valkey_server: Server,
    spans: RecordedSpans,
    settings: dict[str, str],
    expected: dict[str, int],
) -> None:
    app = shop.main({}, **{"foo.url": valkey_server.url, **settings})
    assert Request.blank("/").get_response(app).body
    assert Counter(spans.names) == expected


def test_the_page_names_attributes_that_spans_have(
    shop: Any, valkey_server: Server, spans: RecordedSpans
) -> None:
    """Each attribute in a query or a policy is on a span of the shop, or of one with faults."""
    text = PAGE.read_text() + (FILES / "tail-sampling.yaml").read_text()
    named = set(re.findall(r"\b(?:db|error|server|pyramid_baseplate_redis)(?:\.[a-z_]+)+\b", text))
    settings = {"foo.url": valkey_server.url, "foo.max_connections": "1", "foo.pool_timeout": "1 s"}
    with Configurator(settings={**settings, "foo.trace_min_duration": "1 ms"}) as config:
        config.include("pyramid_baseplate_redis")
        config.add_route("home", "/")
        config.add_view(_faulty_page, route_name="home", renderer="json")
    assert Request.blank("/").get_response(config.make_wsgi_app()).body
    found = {name for span in spans.all for name in span.attributes or {}}
    assert named - found == set()
    assert len(named) >= 5
    assert all(is_redis_or_server(span) for span in spans.all)


def is_redis_or_server(span: ReadableSpan) -> bool:
    """Return whether the attribute by which the queries choose spans of Redis is right."""
    of_redis = (span.attributes or {}).get("db.system.name") == "redis"
    return of_redis == (span.kind is SpanKind.CLIENT)


def _faulty_page(request: Any) -> dict[str, Any]:
    with suppress(redis.ResponseError):
        request.foo.set("text", "value")
        request.foo.lpush("text", "value")
    pool = request.foo.connection_pool
    held = pool.get_connection()
    threading.Timer(0.02, pool.release, [held]).start()
    request.foo.get("text")
    return {}
