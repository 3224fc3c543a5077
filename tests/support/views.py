"""Views, a response's body, and the server spans of requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind
from pyramid.request import Request
from pyramid.response import Response
from webtest import TestApp

from .servers import RecordedSpans

View = Callable[[Request], Any]


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
