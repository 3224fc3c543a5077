"""The views of the queues page."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING

from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.response import Response

from ...exceptions import SERVER_ERRORS
from ...interfaces import IMessageQueueFactory
from ...queues.durable_queue import DurableMessageQueue
from . import letters, message_pages, pages
from .layout import Page
from .links import Links
from .reports import listing, queue_reports, reason
from .style import STYLE_SHEET

if TYPE_CHECKING:
    from pyramid.request import Request

    View = Callable[["QueueViews"], Response]

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        # Images are for pyramid_debugtoolbar's button; the pages have none.
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    # Not "no-referrer": browsers would send "Origin: null", which Pyramid's CSRF check refuses.
    "Referrer-Policy": "same-origin",
}


def overview(request: Request) -> Response:
    """Show the numbers of all queues; the status is 503 if a server failed."""
    reports = queue_reports(request)
    links = Links(request)
    status = 503 if any(report.error is not None for report in reports) else 200
    return _response(links, pages.overview(links, reports), status)


def style(request: Request) -> Response:
    """Return the style sheet."""
    response = Response(STYLE_SHEET, content_type="text/css", charset="utf-8")
    response.headers["Cache-Control"] = "private, max-age=31536000, immutable"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def server_errors_shown(view: View) -> View:
    """Make a view show a page with status 503 if the server fails."""

    @wraps(view)
    def shown(views: QueueViews) -> Response:
        try:
            return view(views)
        except SERVER_ERRORS as error:
            text = reason(views.client, error)
            has_acted = views.request.method == "POST"
            page = message_pages.failure_page(
                views.links, views.name, views.client, text, has_acted
            )
            return _response(views.links, page, 503)

    return shown


class QueueViews:
    """The views of one durable queue.

    :raises HTTPNotFound: the application declares no durable queue of that name.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.links = Links(request)
        self.name: str = request.matchdict["queue_name"]
        factory = request.registry.queryUtility(IMessageQueueFactory, self.name)
        if factory is None or not factory.settings.durable:
            raise HTTPNotFound("The application declares no durable queue of this name.")
        self.client: str = factory.client

    @property
    def queue(self) -> DurableMessageQueue:
        """The request's queue."""
        found: DurableMessageQueue = getattr(self.request, self.name)
        return found

    @server_errors_shown
    def show(self) -> Response:
        """Show the queue's numbers, dead letters and messages."""
        queue = self.queue
        stats = queue.stats()
        dead = listing(self.client, lambda: queue.dead_letters(message_pages.MOST_LETTERS))
        messages = listing(self.client, lambda: queue.peek(message_pages.MOST_MESSAGES))
        page = pages.queue_page(self.request, self.links, self.name, stats, dead, messages)
        return _response(self.links, page, 503 if dead.error or messages.error else 200)

    @server_errors_shown
    def show_message(self) -> Response:
        """Show a message with its body."""
        for message in self.queue.peek(message_pages.MOST_MESSAGES):
            if message.id == self.request.matchdict["entry_id"]:
                page = message_pages.message_page(self.request, self.links, self.name, message)
                return _response(self.links, page)
        return self._missing("message")

    @server_errors_shown
    def show_letter(self) -> Response:
        """Show a dead letter with its error, traceback and body."""
        for letter in self.queue.dead_letters(message_pages.MOST_LETTERS):
            if letter.id == self.request.matchdict["entry_id"]:
                page = message_pages.letter_page(self.request, self.links, self.name, letter)
                return _response(self.links, page)
        return self._missing("dead letter")

    @server_errors_shown
    def move(self) -> Response:
        """Replay or discard one dead letter."""
        entry_id = self.request.matchdict["entry_id"]
        if self.request.matchdict["action"] == "replay":
            return self._moved(replayed=self.queue.replay(entry_id))
        return self._moved(discarded=self.queue.discard(entry_id))

    @server_errors_shown
    def confirm(self) -> Response:
        """Ask whether to replay or discard all dead letters."""
        return self._confirmation(self.queue.stats().dead)

    @server_errors_shown
    def move_all(self) -> Response:
        """Replay or discard all dead letters, if there are as many as the user has confirmed."""
        dead = self.queue.stats().dead
        if self.request.POST.get("dead") != str(dead):
            return self._confirmation(dead, has_changed=True)
        if self.request.matchdict["action"] == "replay":
            return self._moved(replayed=self.queue.replay())
        return self._moved(discarded=self.queue.discard())

    def _confirmation(self, dead: int, has_changed: bool = False) -> Response:
        action = self.request.matchdict["action"]
        page = letters.confirmation_page(
            self.request, self.links, self.name, action, dead, has_changed
        )
        return _response(self.links, page, 409 if has_changed else 200)

    def _moved(self, **counts: int) -> Response:
        path = self.links("queue", dict(counts))
        return HTTPSeeOther(path, headers=list(_HEADERS.items()))

    def _missing(self, what: str) -> Response:
        return _response(self.links, message_pages.missing_page(self.links, self.name, what), 404)


def _response(links: Links, page: Page, status: int = 200) -> Response:
    response = Response(
        page.render(links), status=status, content_type="text/html", charset="utf-8"
    )
    response.headers.update(_HEADERS)
    return response
