"""The tween that gives each request its server span, which ends when the response was sent."""

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
from ..settings.package import PackageSettings
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
                # Behind the callbacks that the view added: their commands are the request's too.
                setattr(request, _SENDING, _Sending(request, span, context, handled_before))

    return server_span_tween


def adopt_span(request: Request, span: Span, clients: Iterable[str]) -> None:
    """Make a span the request's, and its clients' that an outer tween used before it began."""
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
    """What is left to do for a request's span once the view has answered.

    The response may still be changed or replaced, by outer tweens, by response callbacks; it may
    never be sent, when one of them raises.
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
        # Of whoever calls the application while it handles an error of its own.
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
        """Take the status from WebOb, which decides on 304 or 206 while it answers."""
        # Weak: the response would keep itself until the garbage collector finds it.
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
            self._describe(request, None, error)
        elif self._ends_with_body:
            return
        end_server_span(self._span)

    def _describe(self, request: Request, status: int | None, error: BaseException | None) -> None:
        route = getattr(request, "matched_route", None)
        pattern = route.pattern if route is not None else None
        describe_response(self._span, request.method, pattern, status, error)


def follow_response(event: NewResponse) -> None:
    """Subscriber: the response is final but for other subscribers."""
    sending = getattr(event.request, _SENDING, None)
    if sending is not None:
        try:
            sending.new_response(event.request, event.response)
        except Exception:
            # A response that isn't WebOb's: the span then ends before it is sent.
            logger.exception("following a response failed")
