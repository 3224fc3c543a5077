"""Clean-up at the end of a request: its clients return their connections to the pools."""

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
    """Closes what the clients of one request left open.

    This happens in a finished callback or, if the body is made while it is sent, after the body:
    a view may subscribe to a channel and stream the messages.
    """

    def __init__(self) -> None:
        self._clients: list[Any] = []
        self._waits_for_body = False

    @classmethod
    def of(cls, request: Request) -> RequestCleanup:
        """Return the clean-up of a request; the first call makes it."""
        end = request.__dict__.get(_ATTRIBUTE)
        if end is None:
            end = cls()
            request.__dict__[_ATTRIBUTE] = end
            request.add_finished_callback(end.finished)
        made: RequestCleanup = end
        return made

    def add(self, client: Any) -> None:
        """Add a client of the request."""
        self._clients.append(client)

    def follow(self, body: TrackedBody) -> None:
        """Wait for the end of ``body`` instead of the finished callback."""
        body.at_end = self.give_back
        self._waits_for_body = True

    def finished(self, request: Request) -> None:
        """Clean up, unless a body is still to be sent; a finished callback of the request."""
        if not self._waits_for_body:
            self.give_back()

    def give_back(self) -> None:
        """Return the connections of all clients to their pools.

        Further calls are harmless: they return what was opened in the meantime.
        """
        for client in self._clients:
            client.give_back()


def await_body(event: NewResponse) -> None:
    """Clean up after the body, if it is made while it is sent.

    Subscribed to :class:`~pyramid.events.NewResponse`. A list or a tuple is already complete and
    needs no connection.
    """
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
        logger.exception(
            "the response can't be followed; connections are returned before it is sent"
        )
