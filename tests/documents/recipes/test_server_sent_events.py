"""The recipe for Server-Sent Events: a response that reads a stream until the browser has gone."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import redis
from pyramid.request import Request

from pyramid_baseplate_redis.testing import plain_client
from pyramid_baseplate_redis.testing.spans import RecordedSpans
from tests.support.servers import Server

from .conftest import Configure, Recipe


@pytest.fixture
def module(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = recipe("server_sent_events")
    monkeypatch.setattr(module, "HEARTBEAT", 0.05)
    return module


@pytest.fixture
def app(configure: Configure, module: Any, empty_redis: None) -> Any:
    return configure("server_sent_events").make_wsgi_app()


def publish(app: Any, module: Any, kind: str, data: Any) -> None:
    with app.request_context({}) as request:
        module.publish(request, kind, data)


class Page:
    """An open page: the response to its request, and the chunks of the body."""

    def __init__(self, app: Any, **headers: str) -> None:
        request = Request.blank("/events", headers=headers)
        status, found, self.body = request.call_application(app)
        assert status == "200 OK"
        self.headers = dict(found)
        self.chunks = iter(self.body)

    def next(self) -> str:
        return next(self.chunks).decode()

    def next_event(self) -> str:
        chunks = (self.next() for _ in range(40))  # of which most are heartbeats
        return next(text for text in chunks if text.startswith("id:"))

    def close(self) -> None:
        self.body.close()


@contextmanager
def opened(app: Any, **headers: str) -> Iterator[Page]:
    with closing(Page(app, **headers)) as page:
        yield page


def pool_of(app: Any) -> Any:
    with app.request_context({}) as request:
        return request.events.connection_pool


# example
def test_a_page_gets_an_event(app: Any) -> None:
    from myapp.server_sent_events import publish

    body = Request.blank("/events").call_application(app)[2]
    with closing(body), app.request_context({}) as request:
        publish(request, "order", {"number": 17})
        chunks = iter(body)
        assert next(chunks) == b"retry: 3000\n\n"
        assert next(chunks).endswith(b'\nevent: order\ndata: {"number": 17}\n\n')


# end of example


def test_the_headers_keep_proxies_from_buffering(app: Any) -> None:
    with opened(app) as page:
        assert page.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["X-Accel-Buffering"] == "no"
        assert "Content-Length" not in page.headers


def test_a_page_gets_each_event_from_its_opening_on_once(app: Any, module: Any) -> None:
    publish(app, module, "order", "earlier")
    with opened(app) as page:
        for number in range(3):
            publish(app, module, "order", number)
        assert [page.next_event().splitlines()[2] for _ in range(3)] == [
            "data: 0", "data: 1", "data: 2",
        ]  # fmt: skip
        assert page.next() == ":\n\n"


def test_a_page_that_connects_again_gets_what_it_missed(app: Any, module: Any) -> None:
    with opened(app) as page:
        publish(app, module, "order", 1)
        last_id = page.next_event().splitlines()[0].removeprefix("id: ")
    publish(app, module, "order", 2)
    with opened(app, **{"Last-Event-ID": last_id}) as page:
        assert "data: 2\n" in page.next_event()


@pytest.mark.parametrize("last_id", ["", "$", "17", "1-1 2-2", "x"])
def test_an_id_that_is_none_of_ours_is_no_id(app: Any, module: Any, last_id: str) -> None:
    publish(app, module, "order", "earlier")
    with opened(app, **{"Last-Event-ID": last_id}) as page:
        page.next()
        assert page.next() == ":\n\n"


def test_a_text_of_several_lines_arrives_as_such(app: Any, module: Any) -> None:
    with opened(app) as page:
        plain_client(app, "events").xadd("events", {"kind": "note", "data": "a\nb"})
        assert page.next_event().endswith("event: note\ndata: a\ndata: b\n\n")


def test_the_stream_does_not_grow_forever(
    app: Any, module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_LENGTH", 10)
    for number in range(300):
        publish(app, module, "order", number)
    assert 10 <= plain_client(app, "events").xlen("events") < 200


def test_the_response_ends_after_its_lifetime(
    app: Any, module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LIFETIME", 0.12)
    with opened(app) as page:
        assert {chunk.decode() for chunk in page.chunks} == {"retry: 3000\n\n", ":\n\n"}
    assert pool_of(app).stats.in_use == 0


@pytest.mark.parametrize("read", [0, 1, 2])
def test_a_page_that_is_closed_returns_its_connection(
    app: Any, read: int, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(app) as page:
        assert pool_of(app).stats.in_use == 1
        for _ in range(read):
            page.next()
    stats = pool_of(app).stats
    assert (stats.in_use, stats.discards) == (0, 0)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_the_span_of_the_request_lasts_as_long_as_the_page_is_open(
    app: Any, recorded_spans: RecordedSpans
) -> None:
    with opened(app) as page:
        page.next()
        page.next()
        assert recorded_spans.names == ["events.XREVRANGE"]
    assert recorded_spans.tree() == [("GET /events", None), ("events.XREVRANGE", "GET /events")]


def test_too_many_pages_are_asked_to_come_back(
    configure: Configure, module: Any, own_server: Server
) -> None:
    settings = {"events.url": own_server.url, "events.max_connections": "1"}
    app = configure("server_sent_events", settings).make_wsgi_app()
    with opened(app):
        began = time.monotonic()
        with opened(app) as other:
            assert list(other.chunks) == [module.RETRY]
        assert time.monotonic() - began < 3


def test_without_redis_a_page_is_asked_to_come_back(
    configure: Configure, module: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = configure("server_sent_events", {"events.url": "redis://127.0.0.1:1/0"}).make_wsgi_app()
    with opened(app) as page:
        assert list(page.chunks) == [module.RETRY]
    assert "no events for this page: " in caplog.text


def test_a_page_ends_when_redis_does_and_comes_back(
    configure: Configure, module: Any, own_server: Server
) -> None:
    app = configure("server_sent_events", {"events.url": own_server.url}).make_wsgi_app()
    with opened(app) as page:
        page.next()
        page.next()
        own_server.kill()
        assert list(page.chunks) == []
    own_server.restart()
    with opened(app) as page:
        publish(app, module, "order", 1)
        assert "data: 1\n" in page.next_event()


def test_a_page_ends_when_redis_hangs(
    configure: Configure, module: Any, own_server: Server
) -> None:
    settings = {"events.url": own_server.url, "events.socket_timeout": "300 milliseconds"}
    app = configure("server_sent_events", settings).make_wsgi_app()
    with opened(app) as page, redis.Redis(port=own_server.port) as client:
        page.next()
        client.client_pause(2000)
        began = time.monotonic()
        list(page.chunks)
        assert time.monotonic() - began < 1.5


def test_xread_waits_for_less_than_the_socket_timeout(configure: Configure, recipe: Recipe) -> None:
    heartbeat = recipe("server_sent_events").HEARTBEAT
    timeout = configure("server_sent_events").registry.settings["events.socket_timeout"]
    assert int(timeout.removesuffix(" seconds")) >= heartbeat + 5
