"""The end of a server span: after the response's body, however it is sent."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import StatusCode
from pyramid.httpexceptions import HTTPBadRequest, HTTPFound
from pyramid.request import Request
from pyramid.response import FileResponse, Response
from webtest import TestApp

from ..support.servers import RecordedSpans, attributes
from ..support.views import Body, called, fail, hello, server_span, server_spans, streaming

View = Callable[[Request], Any]


def test_the_span_ends_after_the_last_chunk(
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


@pytest.mark.parametrize(
    ("error", "text"),
    [(HTTPBadRequest("title is missing"), "title is missing"), (HTTPFound("/new"), "/new")],
    ids=["400", "302"],
)
def test_pyramid_writes_the_body_of_an_http_exception(
    serve: Callable[..., TestApp], spans: RecordedSpans, error: Exception, text: str
) -> None:
    def view(request: Request) -> Response:
        raise error

    response = serve(view).get("/path/a", expect_errors=True)
    assert text in response.text
    assert response.content_type == "text/plain"
    assert len(server_spans(spans)) == 1


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
