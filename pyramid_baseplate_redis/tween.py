"""The tween that gives each request its server span, and the body that ends it when it was sent."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Span
from pyramid.interfaces import ITweens
from pyramid.settings import asbool

from .server_spans import (
    current_local_span,
    describe_response,
    end_server_span,
    start_server_span,
)
from .settings import PackageSettings

if TYPE_CHECKING:
    from pyramid.registry import Registry
    from pyramid.request import Request
    from pyramid.response import Response

    Handler = Callable[[Request], Response]

SERVER_SPAN_TWEEN = "pyramid_baseplate_redis.tween.server_span_tween_factory"
_OTEL_TWEENS = "opentelemetry.instrumentation.pyramid."
_OTEL_ENABLED = "opentelemetry-pyramid.trace_enabled"


def server_span_tween_factory(handler: Handler, registry: Registry) -> Handler:
    """Make the tween; it stands aside for OpenTelemetry's own instrumentation.

    ``baseplate_redis.server_span = auto`` starts no span where a span of this process is current
    already (OpenTelemetry's WSGI middleware, a subrequest) or OpenTelemetry's Pyramid tween is
    installed; ``always`` and ``never`` are what they say.
    """
    settings = PackageSettings.from_config(registry.settings)
    if settings.server_span == "never":
        return handler
    auto = settings.server_span == "auto"
    if auto and _has_opentelemetry_tween(registry):
        return handler
    trusted = settings.trust_trace_headers

    def server_span_tween(request: Request) -> Response:
        if auto and (current := current_local_span()) is not None:
            request.span = current
            return handler(request)
        span, context = start_server_span(request.environ, trusted)
        if not span.get_span_context().is_valid:
            return handler(request)
        request.span = span
        return _handled(handler, request, span, context)

    return server_span_tween


def _has_opentelemetry_tween(registry: Registry) -> bool:
    tweens = registry.queryUtility(ITweens)
    if tweens is None or not asbool(registry.settings.get(_OTEL_ENABLED, True)):
        return False
    names = [name for name, _ in tweens.explicit or tweens.implicit()]
    return any(name.startswith(_OTEL_TWEENS) for name in names)


def _handled(handler: Handler, request: Request, span: Span, context: Context) -> Response:
    response: Response | None = None
    error: BaseException | None = None
    token = otel_context.attach(context)
    try:
        response = handler(request)
        return response
    except BaseException as raised:
        error = raised
        raise
    finally:
        otel_context.detach(token)
        route = getattr(request, "matched_route", None)
        describe_response(
            span,
            request.method,
            route.pattern if route is not None else None,
            getattr(response, "status_int", None),
            error or getattr(request, "exception", None),
        )
        if span.is_recording():
            # Behind whatever callbacks the view added: their commands are the request's as well.
            _end_when_sent(request, response, span, context)


def _end_when_sent(
    request: Request, response: Response | None, span: Span, context: Context
) -> None:
    wrapped = response is not None and _wrap_body(request, response, span, context)
    handled_before = sys.exc_info()[1]

    def finished(request: Request) -> None:
        # An error on the way, such as a response callback's: the body will never be sent.
        error = sys.exc_info()[1]
        if error is handled_before:
            error = None
        if error is not None or not wrapped:
            end_server_span(span, error)

    request.add_finished_callback(finished)


def _wrap_body(request: Request, response: Response, span: Span, context: Context) -> bool:
    """Put a :class:`_SentBody` around the response's body, where that can and should be."""
    body = getattr(response, "app_iter", None)
    file_wrapper = request.environ.get("wsgi.file_wrapper")
    if body is None or (isinstance(file_wrapper, type) and isinstance(body, file_wrapper)):
        return False  # a server knows its own file wrapper, and sends the file without copying it
    if isinstance(body, _SentBody):
        body = body.body  # one response object that answers many requests
    length = response.content_length
    response.app_iter = _SentBody(body, span, context)
    response.content_length = length  # which WebOb forgets with the old body
    return True


class _SentBody:
    """A response's body; its end, or its closing, is the end of the request's span.

    It keeps no position: each iteration is the body's own, since an application may answer
    several requests with one response object, at the same time.
    """

    def __init__(self, body: Iterable[bytes], span: Span, context: Context) -> None:
        self.body = body
        self._span = span
        self._context = context

    def __iter__(self) -> Iterator[bytes]:
        try:
            chunks = iter(self.body)
            while True:
                # The span is current while the application makes a chunk, not while it is sent.
                token = otel_context.attach(self._context)
                try:
                    chunk = next(chunks)
                except StopIteration:
                    break
                finally:
                    otel_context.detach(token)
                yield chunk
        except GeneratorExit:
            raise  # close() comes next
        except BaseException as error:
            end_server_span(self._span, error)
            raise
        end_server_span(self._span)

    def close(self) -> None:
        """Close the body and end the span; WSGI servers call it whatever happened."""
        token = otel_context.attach(self._context)
        error: BaseException | None = None
        try:
            close = getattr(self.body, "close", None)
            if close is not None:
                close()
        except BaseException as raised:
            error = raised
            raise
        finally:
            otel_context.detach(token)
            end_server_span(self._span, error)

    def __getattr__(self, name: str) -> Any:
        # WebOb asks the body of a file for app_iter_range.
        if name == "body":  # not set yet, in a copy
            raise AttributeError(name)
        return getattr(self.body, name)

    def __del__(self) -> None:
        end_server_span(self._span)
