"""The server span: its name, attributes, status, end, and when there is to be none."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind, StatusCode
from pyramid.config import Configurator
from pyramid.events import NewResponse
from pyramid.exceptions import URLDecodeError
from pyramid.httpexceptions import HTTPException, exception_response
from pyramid.request import Request
from pyramid.response import FileResponse, Response
from webtest import TestApp

from pyramid_baseplate_redis.web.tween import SERVER_SPAN_TWEEN

from ..support.servers import RecordedSpans, Server, attributes

MakeConfig = Callable[..., Configurator]
View = Callable[[Request], Any]
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01"}
NOT_SAMPLED = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-00"}


@pytest.fixture
def serve(make_config: MakeConfig, valkey: Server) -> Callable[..., TestApp]:
    """An application whose only view is at ``/path/{name}``."""

    def serve(
        view: View, prepare: Callable[[Configurator], None] | None = None, **settings: Any
    ) -> TestApp:
        config = make_config(foo__url=valkey.url, **settings)
        config.add_route("path", "/path/{name}")
        config.add_view(view, route_name="path")
        if prepare is not None:
            prepare(config)
        return TestApp(config.make_wsgi_app())

    return serve


def hello(request: Request) -> Response:
    return Response("hello")


def ping(request: Request) -> Response:
    request.foo.ping()
    return Response("hello")


def fail(request: Request) -> Response:
    raise ValueError("a secret")


def server_spans(spans: RecordedSpans) -> list[ReadableSpan]:
    return [span for span in spans.all if span.kind is SpanKind.SERVER]


def server_span(spans: RecordedSpans) -> ReadableSpan:
    """The only SERVER span."""
    (span,) = server_spans(spans)
    return span


# Name and attributes


def test_the_span_is_named_after_method_and_route(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    serve(hello).get("/path/1")
    span = server_span(spans)
    assert (span.name, span.parent) == ("GET /path/{name}", None)


def test_the_span_has_the_attributes_of_the_http_conventions(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    environ = {"REMOTE_ADDR": "127.0.0.1", "HTTP_USER_AGENT": "browser/1"}
    serve(hello).get("/path/1?token=secret", extra_environ=environ)
    assert attributes(server_span(spans)) == {
        "client.address": "127.0.0.1",
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/path/{name}",
        "network.protocol.version": "1.0",
        "server.address": "localhost",
        "server.port": 80,
        "url.path": "/path/1",
        "url.query": "token=REDACTED",
        "url.scheme": "http",
        "user_agent.original": "browser/1",
    }


@pytest.mark.parametrize(
    ("host", "scheme", "address", "port"),
    [
        ("example.org", "http", "example.org", 80),
        ("example.org", "https", "example.org", 443),
        ("example.org:8080", "http", "example.org", 8080),
        ("[::1]", "http", "::1", 80),
        ("[::1]:8080", "http", "::1", 8080),
    ],
)
def test_the_server_s_address_is_the_one_that_the_client_asked_for(
    serve: Callable[..., TestApp],
    spans: RecordedSpans,
    host: str,
    scheme: str,
    address: str,
    port: int,
) -> None:
    environ = {"HTTP_HOST": host, "wsgi.url_scheme": scheme}
    serve(hello).get("/path/1", extra_environ=environ)
    found = attributes(server_span(spans))
    assert (found["server.address"], found["server.port"]) == (address, port)


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("a=1&b=2", "a=REDACTED&b=REDACTED"),
        ("a=1&a=2", "a=REDACTED&a=REDACTED"),
        ("q=sp%20ace%26x%3Dy", "q=REDACTED"),
        ("a=%zz", "a=REDACTED"),
    ],
)
def test_a_query_s_values_are_redacted(
    serve: Callable[..., TestApp], spans: RecordedSpans, query: str, shown: str
) -> None:
    serve(hello).get(f"/path/1?{query}")
    assert attributes(server_span(spans))["url.query"] == shown


def test_a_query_that_is_a_bare_value_is_not_shown(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    """``/reset?3f9c2a`` is how some applications pass a token."""
    serve(hello).get("/path/1?3f9c2a")
    assert "3f9c2a" not in str(attributes(server_span(spans)))


def test_a_path_beyond_ascii_is_shown_as_the_url_has_it(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    serve(hello).get("/path/caf%C3%A9")
    assert attributes(server_span(spans))["url.path"] == "/path/caf%C3%A9"


def test_a_path_that_is_not_utf_8_has_a_span_too(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    with pytest.raises(URLDecodeError):  # Pyramid's own answer
        serve(hello).get("/path/%FF")
    assert attributes(server_span(spans))["error.type"] == "pyramid.exceptions.URLDecodeError"


def test_an_unknown_method_is_other(serve: Callable[..., TestApp], spans: RecordedSpans) -> None:
    serve(hello).request("/path/1", method="BREW")
    span = server_span(spans)
    assert span.name == "HTTP /path/{name}"
    assert attributes(span)["http.request.method"] == "_OTHER"
    assert attributes(span)["http.request.method_original"] == "BREW"


def test_there_is_no_route_where_none_matched(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    serve(hello).get("/nothing/here", status=404)
    span = server_span(spans)
    assert span.name == "GET"
    assert "http.route" not in attributes(span)


def test_there_is_no_route_in_traversal(
    make_config: MakeConfig, valkey: Server, spans: RecordedSpans
) -> None:
    config = make_config(foo__url=valkey.url)
    config.add_view(hello, name="page")
    TestApp(config.make_wsgi_app()).get("/page")
    span = server_span(spans)
    assert span.name == "GET"
    assert "http.route" not in attributes(span)


def test_a_route_without_a_view_is_a_route(
    make_config: MakeConfig, valkey: Server, spans: RecordedSpans
) -> None:
    config = make_config(foo__url=valkey.url)
    config.add_route("empty", "empty/{name}")
    TestApp(config.make_wsgi_app()).get("/empty/1", status=404)
    assert attributes(server_span(spans))["http.route"] == "/empty/{name}"


# Status


@pytest.mark.parametrize("status", [200, 204, 301, 404, 422])
def test_a_response_below_500_leaves_the_status_unset(
    serve: Callable[..., TestApp], spans: RecordedSpans, status: int
) -> None:
    serve(lambda request: Response(status=status)).get("/path/1", status=status)
    span = server_span(spans)
    assert span.status.status_code is StatusCode.UNSET
    assert attributes(span)["http.response.status_code"] == status


@pytest.mark.parametrize("status", [500, 503])
def test_a_response_from_500_on_is_an_error(
    serve: Callable[..., TestApp], spans: RecordedSpans, status: int
) -> None:
    serve(lambda request: Response(status=status)).get("/path/1", status=status)
    span = server_span(spans)
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == str(status)
    assert attributes(span)["http.response.status_code"] == status


@pytest.mark.parametrize("status", [302, 403, 404])
def test_a_raised_http_exception_below_500_leaves_the_status_unset(
    serve: Callable[..., TestApp], spans: RecordedSpans, status: int
) -> None:
    def view(request: Request) -> Response:
        raise exception_response(status)

    serve(view).get("/path/1", status=status)
    span = server_span(spans)
    assert span.status.status_code is StatusCode.UNSET
    assert attributes(span)["http.response.status_code"] == status
    assert "error.type" not in attributes(span)


def test_a_raised_http_exception_from_500_on_is_an_error(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    def view(request: Request) -> Response:
        raise exception_response(503)

    serve(view).get("/path/1", status=503)
    span = server_span(spans)
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "pyramid.httpexceptions.HTTPServiceUnavailable"


def test_an_exception_without_a_view_is_an_error_and_goes_on(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    with pytest.raises(ValueError, match="a secret"):
        serve(fail).get("/path/1")
    span = server_span(spans)
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "ValueError"
    assert attributes(span)["http.response.status_code"] == 500
    assert attributes(span)["http.route"] == "/path/{name}"


def test_an_exception_s_text_is_nowhere_in_the_span(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    with pytest.raises(ValueError, match="a secret"):
        serve(fail).get("/path/1")
    assert "a secret" not in server_span(spans).to_json()


@pytest.mark.parametrize(("status", "code"), [(502, StatusCode.ERROR), (409, StatusCode.UNSET)])
def test_an_exception_view_decides_the_status(
    serve: Callable[..., TestApp], spans: RecordedSpans, status: int, code: StatusCode
) -> None:
    def prepare(config: Configurator) -> None:
        config.add_exception_view(lambda request: Response(status=status), context=ValueError)

    serve(fail, prepare).get("/path/1", status=status)
    span = server_span(spans)
    assert span.status.status_code is code
    assert attributes(span)["http.response.status_code"] == status
    assert attributes(span).get("error.type") == ("ValueError" if status == 502 else None)


def test_a_response_callback_s_status_is_the_span_s(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    def view(request: Request) -> Response:
        request.add_response_callback(lambda request, response: setattr(response, "status", 503))
        return Response("hello")

    serve(view).get("/path/1", status=503)
    span = server_span(spans)
    assert attributes(span)["http.response.status_code"] == 503
    assert span.status.status_code is StatusCode.ERROR


def test_a_response_callback_that_raises_is_an_error(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    def callback(request: Request, response: Response) -> None:
        raise LookupError("no such thing")

    def view(request: Request) -> Response:
        request.add_response_callback(callback)
        return Response("hello")

    with pytest.raises(LookupError, match="no such thing"):
        serve(view).get("/path/1")
    span = server_span(spans)
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "LookupError"


def test_a_response_subscriber_that_raises_is_an_error(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    def subscriber(event: NewResponse) -> None:
        raise LookupError("no such thing")

    with pytest.raises(LookupError, match="no such thing"):
        serve(hello, lambda config: config.add_subscriber(subscriber, NewResponse)).get("/path/1")
    assert server_span(spans).status.status_code is StatusCode.ERROR


def test_a_finished_callback_that_raises_still_ends_the_span(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    def callback(request: Request) -> None:
        raise LookupError("no such thing")

    def view(request: Request) -> Response:
        request.add_finished_callback(callback)
        return Response("hello")

    with pytest.raises(LookupError, match="no such thing"):
        serve(view).get("/path/1")
    gc.collect()  # nobody has the body any more
    assert server_span(spans).name == "GET /path/{name}"


def raising_tween_factory(handler: View, registry: object) -> View:
    """A tween over the server span's that fails after the response."""

    def tween(request: Request) -> Any:
        handler(request)
        raise LookupError("no such thing")

    return tween


def replacing_tween_factory(handler: View, registry: object) -> View:
    """A tween over the server span's that answers something else."""

    def tween(request: Request) -> Any:
        handler(request)
        return Response("else", status=502)

    return tween


def over_ours(tween: str) -> Callable[[Configurator], None]:
    def prepare(config: Configurator) -> None:
        config.add_tween(f"{__name__}.{tween}", over=SERVER_SPAN_TWEEN)

    return prepare


def test_an_outer_tween_that_raises_is_an_error(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    with pytest.raises(LookupError, match="no such thing"):
        serve(hello, over_ours("raising_tween_factory")).get("/path/1")
    span = server_span(spans)
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "LookupError"


def test_an_outer_tween_that_answers_something_else_lets_the_span_end(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    serve(hello, over_ours("replacing_tween_factory")).get("/path/1", status=502)
    gc.collect()  # the replaced response may be in a reference cycle
    assert server_span(spans).name == "GET /path/{name}"


def test_an_outer_tween_that_answers_something_else_decides_the_status(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    serve(hello, over_ours("replacing_tween_factory")).get("/path/1", status=502)
    gc.collect()
    assert attributes(server_span(spans))["http.response.status_code"] == 502


# The body


class Body:
    """A streamed body that tells whether it was closed."""

    def __init__(self, *chunks: bytes, error: Exception | None = None) -> None:
        self.chunks = chunks
        self.error = error
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self.chunks
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.closed = True


def called(app: TestApp, **environ: str) -> Any:
    """What the WSGI application returns; no server around it."""
    return Request.blank("/path/1", environ=environ).call_application(app.app)[2]


def streaming(body: object) -> View:
    return lambda request: Response(app_iter=body, content_type="text/plain")


def test_the_span_ends_behind_the_last_chunk(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    chunks = iter(called(serve(streaming(Body(b"a", b"b")))))
    seen = [len(spans.all), next(chunks), len(spans.all), next(chunks), len(spans.all)]
    assert next(chunks, None) is None
    assert [*seen, len(spans.all)] == [0, b"a", 0, b"b", 0, 1]


def test_the_span_ends_when_the_body_is_closed_early(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    body = Body(b"a", b"b")
    sent = called(serve(streaming(body)))
    next(iter(sent))
    sent.close()
    assert body.closed
    assert server_span(spans).status.status_code is StatusCode.UNSET


def test_the_span_ends_when_the_body_is_closed_unread(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    called(serve(streaming(Body(b"a")))).close()
    assert len(server_spans(spans)) == 1


def test_the_span_ends_when_the_body_is_thrown_away(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    called(serve(streaming(Body(b"a"))))
    gc.collect()
    assert len(server_spans(spans)) == 1


def test_the_span_ends_once_when_the_body_is_read_and_closed(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    sent = called(serve(streaming(Body(b"a"))))
    assert list(sent) == [b"a"]
    sent.close()
    sent.close()
    assert len(server_spans(spans)) == 1


def test_an_error_in_the_body_is_the_span_s_and_goes_on(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    error = LookupError("no such thing")
    with pytest.raises(LookupError) as raised:
        list(called(serve(streaming(Body(b"a", error=error)))))
    assert raised.value is error
    span = server_span(spans)
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "LookupError"


def test_an_error_in_closing_the_body_is_the_span_s_and_goes_on(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    class Unclosable(Body):
        def close(self) -> None:
            raise LookupError("no such thing")

    with pytest.raises(LookupError, match="no such thing"):
        called(serve(streaming(Unclosable(b"a")))).close()
    assert server_span(spans).status.status_code is StatusCode.ERROR


def test_the_span_is_current_while_the_body_is_made(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    def body() -> Iterator[bytes]:
        with trace.get_tracer(__name__).start_as_current_span("chunk"):
            yield b"a"

    serve(streaming(body())).get("/path/1")
    assert spans.tree() == [("GET /path/{name}", None), ("chunk", "GET /path/{name}")]


def test_no_span_is_current_between_chunks(serve: Callable[..., TestApp]) -> None:
    chunks = iter(called(serve(streaming(Body(b"a", b"b")))))
    next(chunks)
    assert not trace.get_current_span().get_span_context().is_valid
    list(chunks)


@pytest.mark.parametrize("view", [hello, streaming(Body(b"a")), fail])
def test_the_context_is_as_before_when_the_request_is_over(
    serve: Callable[..., TestApp], view: View
) -> None:
    before = otel_context.get_current()
    with contextlib.suppress(ValueError):
        serve(view).get("/path/1")
    assert otel_context.get_current() == before


def test_the_content_length_is_kept(serve: Callable[..., TestApp]) -> None:
    response = serve(hello).get("/path/1")
    assert (response.body, response.headers["Content-Length"]) == (b"hello", "5")


def test_a_streamed_body_s_content_length_is_kept(serve: Callable[..., TestApp]) -> None:
    def view(request: Request) -> Response:
        return Response(app_iter=Body(b"ab", b"c"), content_length=3)

    assert serve(view).get("/path/1").headers["Content-Length"] == "3"


def test_a_streamed_body_gets_no_content_length(serve: Callable[..., TestApp]) -> None:
    app = serve(streaming(Body(b"ab", b"c"))).app  # WebTest would add one
    _, headers, _ = Request.blank("/path/1").call_application(app)
    assert "Content-Length" not in dict(headers)


def test_head_has_no_body_and_a_span(serve: Callable[..., TestApp], spans: RecordedSpans) -> None:
    response = serve(hello).head("/path/1")
    assert (response.body, response.headers["Content-Length"]) == (b"", "5")
    assert server_span(spans).name == "HEAD /path/{name}"


def test_one_response_may_answer_many_requests(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    always_the_same = Response("hello")
    app = serve(lambda request: always_the_same)
    assert [app.get("/path/1").body for _ in range(3)] == [b"hello"] * 3
    assert len(server_spans(spans)) == 3


def test_one_response_that_answers_many_requests_does_not_grow(
    serve: Callable[..., TestApp],
) -> None:
    """Beyond the depth of Python's stack, a wrapper around each former wrapper would fail."""
    always_the_same = Response("hello")
    app = serve(lambda request: always_the_same)
    for _ in range(sys.getrecursionlimit() + 100):
        assert b"".join(called(app)) == b"hello"


def test_a_response_callback_sees_the_body(serve: Callable[..., TestApp]) -> None:
    """As applications do that compute an ETag or compress."""

    def shout(request: Request, response: Response) -> None:
        response.body = response.body.upper()

    def view(request: Request) -> Response:
        request.add_response_callback(shout)
        return Response("hello")

    assert serve(view).get("/path/1").body == b"HELLO"


# Files, ranges and conditional requests


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.txt"
    path.write_bytes(b"0123456789")
    return path


def file_view(path: Path) -> View:
    return lambda request: FileResponse(str(path), request=request)


def test_a_file_is_sent(serve: Callable[..., TestApp], spans: RecordedSpans, file: Path) -> None:
    response = serve(file_view(file)).get("/path/1")
    assert (response.body, response.headers["Content-Length"]) == (b"0123456789", "10")
    assert len(server_spans(spans)) == 1


def test_the_server_s_own_file_wrapper_is_left_alone(
    serve: Callable[..., TestApp], spans: RecordedSpans, file: Path
) -> None:
    sent = called(serve(file_view(file)), **{"wsgi.file_wrapper": FileWrapper})
    assert type(sent) is FileWrapper
    sent.close()
    assert len(server_spans(spans)) == 1


def test_a_part_of_a_file_is_sent(serve: Callable[..., TestApp], file: Path) -> None:
    response = serve(file_view(file)).get("/path/1", headers={"Range": "bytes=2-4"}, status=206)
    assert response.body == b"234"
    assert response.headers["Content-Length"] == "3"
    assert response.headers["Content-Range"] == "bytes 2-4/10"


def test_a_file_is_closed_when_a_part_of_it_was_sent(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    class File(Body):
        def __iter__(self) -> Any:
            return self

        def __next__(self) -> bytes:
            raise StopIteration

    body = File()

    def view(request: Request) -> Response:
        return Response(app_iter=body, content_length=10, conditional_response=True)

    sent = called(serve(view), HTTP_RANGE="bytes=2-4")
    sent.close()
    assert body.closed
    assert len(server_spans(spans)) == 1


def conditional(request: Request) -> Response:
    return Response("hello", etag="version-1", conditional_response=True)


def test_a_client_that_has_it_already_gets_no_body(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    headers = {"If-None-Match": '"version-1"'}
    response = serve(conditional).get("/path/1", headers=headers, status=304)
    assert response.body == b""
    assert len(server_spans(spans)) == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-None-Match": '"version-1"'}, 304),
        ({"If-None-Match": '"version-0"'}, 200),
        ({"Range": "bytes=1-2"}, 206),
    ],
)
def test_a_conditional_response_s_status_is_the_one_that_was_sent(
    serve: Callable[..., TestApp], spans: RecordedSpans, headers: dict[str, str], status: int
) -> None:
    serve(conditional).get("/path/1", headers=headers, status=status)
    assert attributes(server_span(spans))["http.response.status_code"] == status


# One span a request


@pytest.mark.parametrize("use_tweens", [False, True])
def test_a_subrequest_has_no_server_span_of_its_own(
    serve: Callable[..., TestApp], spans: RecordedSpans, use_tweens: bool
) -> None:
    def view(request: Request) -> Response:
        if request.matchdict["name"] == "inner":
            return ping(request)
        subrequest = Request.blank("/path/inner")
        return request.invoke_subrequest(subrequest, use_tweens=use_tweens)

    serve(view).get("/path/outer")
    assert spans.tree() == [("GET /path/{name}", None), ("foo.PING", "GET /path/{name}")]


def test_each_request_has_a_trace_of_its_own(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    app = serve(hello)
    app.get("/path/1")
    app.get("/path/1")
    assert len({span.context.trace_id for span in server_spans(spans)}) == 2


def test_auto_stands_aside_for_a_current_span(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    with trace.get_tracer(__name__).start_as_current_span("around"):
        serve(ping).get("/path/1")
    assert spans.tree() == [("around", None), ("foo.PING", "around")]


def test_always_starts_a_span_below_a_current_one(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    with trace.get_tracer(__name__).start_as_current_span("around"):
        serve(ping, baseplate_redis__server_span="always").get("/path/1")
    assert spans.tree() == [
        ("around", None),
        ("GET /path/{name}", "around"),
        ("foo.PING", "GET /path/{name}"),
    ]


def test_never_starts_none(serve: Callable[..., TestApp], spans: RecordedSpans) -> None:
    serve(ping, baseplate_redis__server_span="never").get("/path/1")
    assert spans.tree() == [("foo.PING", None)]


def test_explicit_tweens_without_ours_still_have_a_client(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    serve(ping, pyramid__tweens="pyramid.tweens.excview_tween_factory").get("/path/1")
    assert spans.tree() == [("foo.PING", None)]


def test_explicit_tweens_with_ours_have_a_server_span(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    tweens = f"{SERVER_SPAN_TWEEN} pyramid.tweens.excview_tween_factory"
    serve(ping, pyramid__tweens=tweens).get("/path/1")
    assert spans.tree() == [("GET /path/{name}", None), ("foo.PING", "GET /path/{name}")]


def test_an_http_exception_that_nothing_answers_is_an_error(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    def view(request: Request) -> Response:
        raise exception_response(404)

    with pytest.raises(HTTPException):
        serve(view, pyramid__tweens=SERVER_SPAN_TWEEN).get("/path/1")
    assert server_span(spans).status.status_code is StatusCode.ERROR


# Incoming trace context


def test_trace_headers_are_not_trusted_by_default(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    serve(hello).get("/path/1", headers=SAMPLED)
    span = server_span(spans)
    assert span.parent is None
    assert f"{span.context.trace_id:032x}" != TRACE_ID


def test_a_trace_is_continued_when_its_headers_are_trusted(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    serve(ping, baseplate_redis__trust_trace_headers="true").get("/path/1", headers=SAMPLED)
    span = server_span(spans)
    assert span.parent is not None
    assert span.parent.is_remote
    assert f"{span.parent.span_id:016x}" == PARENT_ID
    assert {f"{each.context.trace_id:032x}" for each in spans.all} == {TRACE_ID}


def test_the_trace_state_is_kept_when_trace_headers_are_trusted(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    app = serve(hello, baseplate_redis__trust_trace_headers="true")
    app.get("/path/1", headers={**SAMPLED, "tracestate": "vendor=value"})
    assert dict(server_span(spans).context.trace_state) == {"vendor": "value"}


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        f"00-{'0' * 32}-{PARENT_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"ff-{TRACE_ID}-{PARENT_ID}-01",
        f"00-{TRACE_ID.upper()[:-1]}g-{PARENT_ID}-01",
        f"00-{TRACE_ID}-{PARENT_ID}",
        "\xff\xfe",
    ],
)
def test_malformed_trace_headers_are_passed_over(
    serve: Callable[..., TestApp], spans: RecordedSpans, header: str
) -> None:
    app = serve(hello, baseplate_redis__trust_trace_headers="true")
    app.get("/path/1", extra_environ={"HTTP_TRACEPARENT": header})
    assert server_span(spans).parent is None


def test_a_request_that_is_not_sampled_has_no_spans(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    app = serve(ping, baseplate_redis__trust_trace_headers="true")
    app.get("/path/1", headers=NOT_SAMPLED)
    assert spans.all == []


def test_a_request_that_is_not_sampled_has_its_caller_s_trace(
    serve: Callable[..., TestApp],
) -> None:
    def view(request: Request) -> Response:
        return Response(f"{request.span.get_span_context().trace_id:032x}")

    app = serve(view, baseplate_redis__trust_trace_headers="true")
    assert app.get("/path/1", headers=NOT_SAMPLED).text == TRACE_ID


# Telemetry that fails


class Raising(SpanProcessor):
    """A span processor that fails, while it is switched on."""

    on = ""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if self.on == "start":
            raise OSError("the collector is away")

    def on_end(self, span: Any) -> None:
        if self.on == "end":
            raise OSError("the collector is away")


@pytest.fixture(scope="module")
def raising() -> Raising:
    processor = Raising()
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    provider.add_span_processor(processor)  # for good: there is no way to take it out again
    return processor


@pytest.mark.parametrize("moment", ["start", "end"])
@pytest.mark.parametrize("view", [ping, streaming(Body(b"hel", b"lo"))])
def test_a_span_processor_that_raises_does_not_break_a_request(
    serve: Callable[..., TestApp],
    raising: Raising,
    monkeypatch: pytest.MonkeyPatch,
    view: View,
    moment: str,
) -> None:
    app = serve(view)
    monkeypatch.setattr(raising, "on", moment)
    assert app.get("/path/1").text == "hello"


def test_a_sampler_that_raises_does_not_break_a_request(valkey: Server) -> None:
    """In a process of its own: OpenTelemetry takes one provider per process."""
    script = """
    import os
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import Sampler
    from pyramid.config import Configurator
    from pyramid.response import Response
    from webtest import TestApp

    class Raising(Sampler):
        def should_sample(self, *args, **kwargs):
            raise OSError("the collector is away")

        def get_description(self):
            return "raising"

    trace.set_tracer_provider(TracerProvider(sampler=Raising()))
    config = Configurator(settings={"foo.url": os.environ["REDIS_URL"]})
    config.include("pyramid_baseplate_redis")
    config.add_route("path", "/")
    config.add_view(lambda request: Response(str(request.foo.ping())), route_name="path")
    print(TestApp(config.make_wsgi_app()).get("/").text)
    """
    assert output_of(script, valkey) == "True\n"


def test_without_an_sdk_there_is_no_server_span_and_nothing_breaks(valkey: Server) -> None:
    script = """
    import os
    from pyramid.config import Configurator
    from pyramid.response import Response
    from webtest import TestApp

    def view(request):
        return Response(f"{request.foo.ping()} {request.span.get_span_context().is_valid}")

    config = Configurator(settings={"foo.url": os.environ["REDIS_URL"]})
    config.include("pyramid_baseplate_redis")
    config.add_route("path", "/")
    config.add_view(view, route_name="path")
    print(TestApp(config.make_wsgi_app()).get("/").text)
    """
    assert output_of(script, valkey) == "True False\n"


def output_of(script: str, valkey: Server) -> str:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "REDIS_URL": valkey.url},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    ).stdout


# One response object that answers many requests


def test_a_shared_response_never_loses_its_content_length(serve: Callable[..., TestApp]) -> None:
    shared = Response("hello")
    app = serve(lambda request: shared).app
    lengths: list[str | None] = []

    def ask() -> None:
        for _ in range(300):
            _, headers, body = Request.blank("/path/1").call_application(app)
            assert b"".join(body) == b"hello"
            lengths.append(dict(headers).get("Content-Length"))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert lengths == ["5"] * 1200


def test_a_conditional_response_goes_with_its_request(serve: Callable[..., TestApp]) -> None:
    kept: list[weakref.ref[Request]] = []

    def view(request: Request) -> Response:
        kept.append(weakref.ref(request))
        return Response("hello", conditional_response=True)

    app = serve(view).app
    gc.disable()
    try:
        b"".join(Request.blank("/path/1").call_application(app)[2])
        assert kept[0]() is None
    finally:
        gc.enable()
