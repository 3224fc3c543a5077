"""``foo.trace_min_duration``: the totals on our own server spans, and elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import Any

import pytest
from opentelemetry import trace
from pyramid.request import Request
from pyramid.response import Response
from pyramid.scripting import prepare
from pyramid.tweens import EXCVIEW
from webtest import TestApp

from pyramid_baseplate_redis import server_context
from pyramid_baseplate_redis.testing import dummy_request
from pyramid_baseplate_redis.web.tween import SERVER_SPAN_TWEEN
from pyramid_baseplate_redis.worker import FINISHED, work

from ..support.servers import RecordedSpans, attributes
from ..support.totals import PING_AFTER, operations_of, stream
from ..support.views import hello, ping, server_span

Handler = Callable[[Request], Any]
Serve = Callable[..., TestApp]
tracer = trace.get_tracer("tests")


def counted(spans: RecordedSpans) -> dict[str, int]:
    """The numbers of operations on the spans that have one."""
    return {span.name: operations_of(span) for span in spans.all if operations_of(span)}


def test_the_commands_of_a_view_are_counted_on_the_server_span(
    serve_fast: Serve, spans: RecordedSpans
) -> None:
    def view(request: Request) -> Response:
        request.foo.set("key", "value")
        request.foo.pipeline().get("key").get("key").execute()
        return Response("hello")

    app = serve_fast(view)
    spans.clear()
    app.get("/path/1")
    assert spans.names == ["GET /path/{name}"]
    found = attributes(server_span(spans))
    assert found["pyramid_baseplate_redis.foo.operations"] == 2
    assert found["pyramid_baseplate_redis.foo.commands"] == 3
    assert 0 < found["pyramid_baseplate_redis.foo.duration"] < 60


def test_each_request_has_totals_of_its_own(serve_fast: Serve, spans: RecordedSpans) -> None:
    app = serve_fast(ping)
    spans.clear()
    app.get("/path/1")
    app.get("/path/1")
    assert [operations_of(span) for span in spans.all] == [1, 1]


def test_a_request_without_commands_has_no_totals(serve_fast: Serve, spans: RecordedSpans) -> None:
    app = serve_fast(hello)
    spans.clear()
    app.get("/path/1")
    assert [key for key in attributes(server_span(spans)) if "pyramid_baseplate" in key] == []


def test_the_commands_of_tweens_callbacks_and_the_body_are_counted(
    serve_fast: Serve, spans: RecordedSpans
) -> None:
    def view(request: Request) -> Response:
        request.add_response_callback(lambda request, response: request.foo.ping())
        request.add_finished_callback(lambda request: request.foo.ping())
        return stream(request)

    app = serve_fast(view, lambda config: config.add_tween(PING_AFTER, over=SERVER_SPAN_TWEEN))
    spans.clear()
    assert app.get("/path/1").text == "hello"
    assert spans.names == ["GET /path/{name}"]
    assert operations_of(server_span(spans)) == 6


def test_a_request_that_fails_has_totals(serve_fast: Serve, spans: RecordedSpans) -> None:
    def view(request: Request) -> Response:
        request.foo.ping()
        raise ValueError

    app = serve_fast(view)
    spans.clear()
    with pytest.raises(ValueError):  # noqa: PT011 (it has no text)
        app.get("/path/1")
    assert spans.names == ["GET /path/{name}"]
    assert operations_of(server_span(spans)) == 1


@pytest.mark.parametrize("local", [False, True], ids=["", "below a local span"])
@pytest.mark.parametrize("use_tweens", [False, True])
def test_a_subrequest_is_counted_on_the_server_span(
    serve_fast: Serve, spans: RecordedSpans, use_tweens: bool, local: bool
) -> None:
    def view(request: Request) -> Response:
        if request.matchdict["name"] == "inner":
            return ping(request)
        subrequest = Request.blank("/path/inner")
        if not local:
            return request.invoke_subrequest(subrequest, use_tweens=use_tweens)
        with tracer.start_as_current_span("local"):
            return request.invoke_subrequest(subrequest, use_tweens=use_tweens)

    app = serve_fast(view)
    spans.clear()
    app.get("/path/outer")
    assert [span.name for span in spans.all if span.name != "local"] == ["GET /path/{name}"]
    assert counted(spans) == {"GET /path/{name}": 1}


@pytest.mark.parametrize(
    "settings",
    [
        {"baseplate_redis__server_span": "never"},
        {"pyramid__tweens": EXCVIEW},
    ],
    ids=str,
)
def test_without_a_server_span_every_command_has_a_span(
    serve_fast: Serve, spans: RecordedSpans, settings: dict[str, str]
) -> None:
    app = serve_fast(ping, **settings)
    spans.clear()
    app.get("/path/1")
    assert spans.tree() == [("foo.PING", None)]


def test_explicit_tweens_without_the_second_one_suffice_for_our_own_server_span(
    serve_fast: Serve, spans: RecordedSpans
) -> None:
    app = serve_fast(ping, pyramid__tweens=f"{SERVER_SPAN_TWEEN} {EXCVIEW}")
    spans.clear()
    app.get("/path/1")
    assert counted(spans) == {"GET /path/{name}": 1}


# Outside of requests


def test_scripts_without_tweens_have_a_span_for_every_command(
    serve_fast: Serve, spans: RecordedSpans
) -> None:
    app = serve_fast(ping)
    spans.clear()
    with prepare(registry=app.app.registry) as env:
        env["request"].foo.ping()
    with server_context(app.app.registry, "nightly") as context:
        context.foo.ping()
    assert spans.tree() == [("foo.PING", None), ("nightly", None), ("foo.PING", "nightly")]


def test_a_message_s_commands_are_counted_on_its_process_span(
    serve_fast: Serve, spans: RecordedSpans
) -> None:
    stop = Event()

    def handle(request: Any, message: Any) -> None:
        stop.set()
        with tracer.start_as_current_span("local"):
            request.foo.ping()

    app = serve_fast(ping, jobs__queue="foo", jobs__durable="true")
    registry = app.app.registry
    with prepare(registry=registry) as env:
        env["request"].jobs.put("a message")
        spans.clear()
        assert work(registry, "jobs", handle, prefetch=1, stop=stop) == FINISHED
    assert "foo.PING" not in spans.names
    assert operations_of(spans.one("process jobs")) == 2  # with the acknowledgement


def test_a_dummy_request_has_totals(serve_fast: Serve, spans: RecordedSpans) -> None:
    app = serve_fast(ping)
    spans.clear()
    with dummy_request(app) as request:
        request.foo.ping()
    assert counted(spans) == {"GET": 1}
