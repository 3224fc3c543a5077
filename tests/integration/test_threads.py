"""Many threads on one small pool: no reply, span or connection is mixed up or lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from pyramid.request import Request
from pyramid.router import Router

from pyramid_baseplate_redis.interfaces import IRedisContextFactory

from ..support.servers import Server, attributes
from .wsgi_app import make_app

pytestmark = pytest.mark.slow("loads a pool for seconds")

THREADS = 50
REQUESTS = 200  # of each thread
POOL = 8


@dataclass
class Load:
    """What came of all requests."""

    app: Router
    answers: list[tuple[str, dict[str, Any]]]
    spans: list[ReadableSpan]

    @property
    def pool(self) -> Any:
        return self.app.registry.getUtility(IRedisContextFactory, "foo").connection_pool


def ask(app: Router, thread: int) -> list[tuple[str, dict[str, Any]]]:
    answers = []
    for number in range(REQUESTS):
        text = f"{thread}-{number}"
        status, _, body = Request.blank(f"/echo/{text}").call_application(app)
        assert status == "200 OK"
        answers.append((text, json.loads(b"".join(body))))
        body.close()
    return answers


@pytest.fixture(scope="module")
def load(valkey_server: Server) -> Iterator[Load]:
    exporter = InMemorySpanExporter()
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    processor = SimpleSpanProcessor(exporter)
    provider.add_span_processor(processor)
    app = make_app(
        {
            "foo.url": valkey_server.url,
            "foo.max_connections": POOL,
            "foo.client_name": "threads",
            "foo.trace_query_text": "keys",
        }
    )
    with ThreadPoolExecutor(THREADS) as threads:
        by_thread = list(threads.map(lambda thread: ask(app, thread), range(THREADS)))
    answers = [answer for answers in by_thread for answer in answers]
    yield Load(app, answers, list(exporter.get_finished_spans()))
    exporter.shutdown()


def test_every_request_is_answered(load: Load) -> None:
    assert len(load.answers) == THREADS * REQUESTS


def test_every_reply_belongs_to_its_command(load: Load) -> None:
    assert [text for text, answer in load.answers if answer["replies"] != [text] * 2] == []


def test_every_request_has_its_spans(load: Load) -> None:
    names = [span.name for span in load.spans]
    assert {name: names.count(name) for name in set(names)} == dict.fromkeys(
        ["GET /echo/{text}", "foo.pipeline_echo", "foo.GET"], THREADS * REQUESTS
    )


def key_of(span: ReadableSpan) -> str:
    """The key in ``GET 3-7``, or in ``SET 3-7 ? ? ?; ECHO ?``."""
    return str(attributes(span)["db.query.text"]).split()[1]


def test_every_span_belongs_to_its_request(load: Load) -> None:
    paths = {
        span.context.span_id: attributes(span)["url.path"]
        for span in load.spans
        if span.kind is SpanKind.SERVER
    }
    wrong = [
        span.name
        for span in load.spans
        if span.kind is SpanKind.CLIENT
        and (span.parent is None or key_of(span) != paths[span.parent.span_id][len("/echo/") :])
    ]
    assert wrong == []


def test_every_slot_of_the_pool_is_free_at_the_end(load: Load) -> None:
    assert load.pool.pool.qsize() == POOL


def test_no_more_connections_were_made_than_the_pool_has(load: Load, valkey_server: Server) -> None:
    with redis.Redis(port=valkey_server.port) as client:
        names = [connection["name"] for connection in client.client_list()]
    assert 1 <= names.count("threads") <= POOL
