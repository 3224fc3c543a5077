"""The end of a request: what its clients left open is given back to the pools."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry.trace import INVALID_SPAN
from pyramid.events import NewResponse

from .response_body import TrackedBody, body_of, follow_body

if TYPE_CHECKING:
    from pyramid.request import Request

logger = logging.getLogger(__package__)

_ATTRIBUTE = "_pyramid_baseplate_redis_end"


class RequestCleanup:
    """Gives back what the clients of one request left open.

    When the finished callbacks run, or later, when the body was sent: a view may subscribe to a
    channel and stream what arrives.
    """

    def __init__(self) -> None:
        self._clients: list[Any] = []
        self._waits_for_body = False

    @classmethod
    def of(cls, request: Request) -> RequestCleanup:
        """The one of a request, made when it is first asked for."""
        end = request.__dict__.get(_ATTRIBUTE)
        if end is None:
            end = cls()
            request.__dict__[_ATTRIBUTE] = end
            request.add_finished_callback(end.finished)
        made: RequestCleanup = end
        return made

    def add(self, client: Any) -> None:
        """A client of the request."""
        self._clients.append(client)

    def follow(self, body: TrackedBody) -> None:
        """The request ends with this body."""
        body.at_end = self.give_back
        self._waits_for_body = True

    def finished(self, request: Request) -> None:
        """Finished callback."""
        if not self._waits_for_body:
            self.give_back()

    def give_back(self) -> None:
        """Give back what is left open; may be called again."""
        for client in self._clients:
            client.give_back()


def await_body(event: NewResponse) -> None:
    """Subscriber: where the body is made while it is sent, the request ends behind it."""
    request, response = event.request, event.response
    try:
        body = body_of(response)
        made = body.body if isinstance(body, TrackedBody) else body
        if made is None or isinstance(made, (list, tuple)):
            return
        if not isinstance(body, TrackedBody) or body.at_end is not None:
            body = follow_body(request, response, INVALID_SPAN, otel_context.get_current())
        if body is not None:
            RequestCleanup.of(request).follow(body)
    except Exception:
        logger.exception("following a response failed")
