"""The tween that starts a server span for each request.

The response is sent after all tweens have returned, and may be replaced until then. A subscriber
(:func:`follow_response`) therefore describes the final response on the span, and the body
(:mod:`.response_body`) or a finished callback ends it.
"""

from __future__ import annotations

import logging
import sys
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Span
from pyramid.events import NewResponse
from pyramid.interfaces import ITweens
from pyramid.settings import asbool

from ..interfaces import IRedisContextFactory
from ..settings.package import package_settings
from ..telemetry.server_spans import (
    current_local_span,
    describe_response,
    describe_status,
    end_server_span,
    start_server_span,
)
from .response_body import follow_body

if TYPE_CHECKING:
    from pyramid.registry import Registry
    from pyramid.request import Request
    from pyramid.response import Response

    Handler = Callable[[Request], Response]

logger = logging.getLogger(__package__)

SERVER_SPAN_TWEEN = "pyramid_baseplate_redis.server_span_tween_factory"
_SENDING = "_pyramid_baseplate_redis_sending"
_OTEL_TWEENS = "opentelemetry.instrumentation.pyramid."
OPENTELEMETRY_TWEEN = f"{_OTEL_TWEENS}trace_tween_factory"
_OTEL_ENABLED = "opentelemetry-pyramid.trace_enabled"


def server_span_tween_factory(handler: Handler, registry: Registry) -> Handler:
    """Make the tween that starts the server span of each request.

    The setting ``baseplate_redis.server_span`` decides what happens to a request:

    1. With ``never``, or with ``auto`` if OpenTelemetry's Pyramid tween is installed, there is no
       tween: the handler itself is returned.
    2. With ``auto``, a span of this process that is already current becomes the request's span:
       that of OpenTelemetry's WSGI middleware or, in a subrequest, that of the outer request.
    3. Otherwise a new server span becomes the request's span and is current while the handler
       runs. With ``baseplate_redis.trust_trace_headers`` it continues the trace that the headers
       name.
    4. If no tracer provider is set and no trace is continued, or starting the span fails, the
       request is handled without a span.

    A span that the tween started ends in one of three places:

    1. If an exception reaches the server, in a finished callback, with the exception recorded.
    2. If the body of the response can be followed, when the body has been sent or closed.
    3. Otherwise in the finished callback, for example if the server sends a file by itself.
    """
    settings = package_settings(registry)
    if settings.server_span == "never":
        return handler
    auto = settings.server_span == "auto"
    if auto and _has_opentelemetry_tween(registry):
        return handler
    trusted = settings.trust_trace_headers

    clients = [name for name, _ in registry.getUtilitiesFor(IRedisContextFactory)]

    def server_span_tween(request: Request) -> Response:
        if auto and (current := current_local_span()) is not None:
            adopt_span(request, current, clients)
            return handler(request)
        span, context = start_server_span(request.environ, trusted)
        if not span.get_span_context().is_valid:
            return handler(request)
        adopt_span(request, span, clients)
        handled_before = sys.exc_info()[1]
        token = otel_context.attach(context)
        try:
            return handler(request)
        finally:
            otel_context.detach(token)
            if span.is_recording():
                # This adds the last finished callback. Those that the view added run earlier, and
                # their commands still belong to the span.
                sending = _Sending(request, span, context, handled_before)
                request.__dict__[_SENDING] = sending

    return server_span_tween


def adopt_span(request: Request, span: Span, clients: Iterable[str]) -> None:
    """Make ``span`` the span of the request, and of clients that an outer tween already used.

    :param clients: the names of all clients of the application.
    """
    request.span = span
    attributes = request.__dict__
    for name in clients:
        if name in attributes:
            attributes[name].server_span = span


def _has_opentelemetry_tween(registry: Registry) -> bool:
    tweens = registry.queryUtility(ITweens)
    if tweens is None or not asbool(registry.settings.get(_OTEL_ENABLED, True)):
        return False
    names = [name for name, _ in tweens.explicit or tweens.implicit()]
    return any(name.startswith(_OTEL_TWEENS) for name in names)


class _Sending:
    """Ends the span of a request after the handler has returned or raised.

    Outer tweens and response callbacks may still replace the response. If one of them raises, it
    is never sent.

    :param handled_before: the exception that was already being handled when the request began.
    """

    def __init__(
        self,
        request: Request,
        span: Span,
        context: Context,
        handled_before: BaseException | None,
    ) -> None:
        self._span = span
        self._context = context
        self._ends_with_body = False
        # A server or a test may call the application inside an ``except`` block. That exception
        # is not the request's.
        self._handled_before = handled_before
        request.add_finished_callback(self._finished)

    def new_response(self, request: Request, response: Response) -> None:
        """Describe the response that is about to be sent, and follow its body."""
        status = getattr(response, "status_int", None)
        self._describe(request, status, getattr(request, "exception", None))
        if follow_body(request, response, self._span, self._context) is None:
            return
        self._ends_with_body = True
        if response.conditional_response:
            self._follow_condition(response)

    def _follow_condition(self, response: Response) -> None:
        """Correct the span's status code when WebOb answers with 304, 206 or 416.

        WebOb decides this when the server calls the response, after all subscribers.
        """
        # A weak reference, since the function becomes an attribute of the response: a cycle would
        # keep the response until the garbage collector runs.
        itself = weakref.ref(response)

        def conditional_response_app(environ: Any, start_response: Callable[..., Any]) -> Any:
            def started(status: str, *args: Any) -> Any:
                describe_status(self._span, int(status[:3]))
                return start_response(status, *args)

            response: Any = itself()
            return type(response).conditional_response_app(response, environ, started)

        response.conditional_response_app = conditional_response_app

    def _finished(self, request: Request) -> None:
        error = sys.exc_info()[1]
        if error is not None and error is not self._handled_before:
            # No response is sent, not even one whose body is already followed.
            self._describe(request, None, error)
        elif self._ends_with_body:
            return
        end_server_span(self._span)

    def _describe(self, request: Request, status: int | None, error: BaseException | None) -> None:
        route = getattr(request, "matched_route", None)
        pattern = route.pattern if route is not None else None
        describe_response(self._span, request.method, pattern, status, error)


def follow_response(event: NewResponse) -> None:
    """Describe the response on the server span, and let the end of its body end the span.

    Subscribed to :class:`~pyramid.events.NewResponse`, after tweens and response callbacks: only
    other subscribers may still change the response.
    """
    # Not getattr(): Pyramid makes a class for each request, so Python would search all its bases.
    sending = event.request.__dict__.get(_SENDING)
    if sending is not None:
        try:
            sending.new_response(event.request, event.response)
        except Exception:
            # The response may be of any class. The finished callback ends the span.
            logger.exception("the response can't be followed; its span ends before it is sent")
