"""The tween that writes a request's totals on a server span of OpenTelemetry's instrumentation.

Our own server span writes them itself when it ends. Theirs end without notice, at two places:

1. The span of their Pyramid instrumentation begins before traversal and ends in their tween. Ours
   is inside theirs, and writes the totals at its end.
2. The span of their WSGI middleware is already current when the tween begins, and ends after the
   body. The totals are written at the end of the tween, and again after the body if there were
   further commands.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span
from pyramid.events import ContextFound, NewResponse

from ..telemetry import request_totals
from ..telemetry.server_spans import current_local_span
from .response_body import follow_body

if TYPE_CHECKING:
    from pyramid.registry import Registry
    from pyramid.request import Request
    from pyramid.response import Response

    Handler = Callable[[Request], Response]

logger = logging.getLogger(__package__)

TOTALS_TWEEN = "pyramid_baseplate_redis.request_totals_tween_factory"
_INNER = "_pyramid_baseplate_redis_inner_totals"
_OUTER = "_pyramid_baseplate_redis_outer_totals"


def request_totals_tween_factory(handler: Handler, registry: Registry) -> Handler:
    """Make the tween that lets a server span of OpenTelemetry's instrumentation take the totals.

    Without a client that has set ``trace_min_duration`` there is no tween: the handler itself is
    returned.
    """
    if not request_totals.is_enabled():
        return handler

    def request_totals_tween(request: Request) -> Response:
        context, span = otel_context.get_current(), current_local_span()
        if span is None or request_totals.found(context, span) is not None:
            inner = request.__dict__[_INNER] = _InnerSpan()
            try:
                return handler(request)
            finally:
                request.__dict__.pop(_INNER, None)
                inner.close()
        if not span.is_recording():
            return handler(request)
        context = request_totals.opened(span, context)
        token = otel_context.attach(context)
        try:
            response = handler(request)
        except BaseException:
            request_totals.close(span)
            raise
        finally:
            otel_context.detach(token)
        request_totals.write(span)
        request.__dict__[_OUTER] = _OuterSpan(request, span, context)
        return response

    return request_totals_tween


class _InnerSpan:
    """The span that their Pyramid instrumentation starts while the tween's handler runs."""

    def __init__(self) -> None:
        self._span: Span | None = None

    def adopt(self, span: Span) -> None:
        """Let the span take the totals."""
        self._span = span
        request_totals.opened(span, Context())

    def close(self) -> None:
        """Write the totals."""
        if self._span is not None:
            request_totals.close(self._span)


class _OuterSpan:
    """The span that was current when the tween began, after the tween's end."""

    def __init__(self, request: Request, span: Span, context: Context) -> None:
        self._span = span
        self._context = context
        self._is_followed = False
        request.add_finished_callback(self._finished)

    def follow(self, request: Request, response: Response) -> None:
        """Write the totals after the body of the response."""
        body = follow_body(request, response, self._span, self._context, end_span=_close)
        self._is_followed = body is not None

    def _finished(self, request: Request) -> None:
        if not self._is_followed:
            request_totals.close(self._span)


def _close(span: Span, error: BaseException | None = None) -> None:
    request_totals.close(span)


def take_totals(event: ContextFound) -> None:
    """Let the current span take the totals, if their Pyramid instrumentation has just started it.

    Subscribed to :class:`~pyramid.events.ContextFound`.
    """
    inner = event.request.__dict__.get(_INNER)
    if inner is None:
        return
    span = trace.get_current_span()
    if request_totals.found(otel_context.get_current(), span) is None:
        inner.adopt(span)


def follow_totals(event: NewResponse) -> None:
    """Write the totals after the body, if the span lasts as long.

    Subscribed to :class:`~pyramid.events.NewResponse`, after tweens and response callbacks.
    """
    outer = event.request.__dict__.get(_OUTER)
    if outer is None:
        return
    try:
        outer.follow(event.request, event.response)
    except Exception:
        # The response may be of any class. The finished callback writes the totals.
        logger.exception("the response can't be followed; its totals are written before it is sent")
