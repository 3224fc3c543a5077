"""Server-Sent Events from the Redis stream ``events``."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterable, Iterator
from typing import Any

from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response
from redis.exceptions import RedisError

from pyramid_baseplate_redis import MonitoredRedisConnection

logger = logging.getLogger(__name__)

STREAM = "events"
MAX_LENGTH = 1000  # how many events a browser can catch up with
HEARTBEAT = 10  # seconds without an event after which the server checks that the browser is there
LIFETIME = 600  # seconds after which the browser connects again
RETRY = b"retry: 3000\n\n"  # milliseconds after which it does so when a response has ended


def includeme(config: Configurator) -> None:
    config.add_route("events", "/events")
    config.add_view(events, route_name="events", request_method="GET")


def publish(request: Request, kind: str, data: Any) -> None:
    """Send an event to every open page.

    :param kind: the event's name in the browser; one line.
    :param data: what JSON can represent.
    """
    fields = {"kind": kind, "data": json.dumps(data)}
    request.events.xadd(STREAM, fields, maxlen=MAX_LENGTH)


def events(request: Request) -> Response:
    """Stream the events after the browser's last one, or those from now on."""
    last_id = request.headers.get("Last-Event-ID", "")
    body: Iterable[bytes]
    try:
        body = EventStream(request.events, last_id if re.fullmatch(r"\d+-\d+", last_id) else None)
    except RedisError as error:
        logger.warning("no events for this page: %s", error)
        body = [RETRY]  # after any status but 200 a browser gives up
    response = Response(app_iter=body, content_type="text/event-stream", charset="utf-8")
    response.cache_control = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # for nginx
    return response


class EventStream:
    """The body of a response. It keeps one connection of the pool until it is closed."""

    def __init__(self, client: MonitoredRedisConnection, last_id: str | None) -> None:
        self._client = client.client()
        try:
            self._last_id = last_id or newest_id(self._client)
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        yield RETRY
        end = time.monotonic() + LIFETIME
        try:
            while time.monotonic() < end:
                found: Any = self._client.xread(
                    {STREAM: self._last_id}, count=100, block=int(HEARTBEAT * 1000)
                )
                for identifier, fields in found[0][1] if found else []:
                    self._last_id = identifier.decode()
                    yield as_event(self._last_id, fields)
                if not found:
                    yield b":\n\n"  # a comment; if the browser has gone, sending it fails
        except RedisError as error:
            # The response ends. The browser connects again, and continues after its last event.
            logger.warning("no more events for this page: %s", error)

    def close(self) -> None:
        """Return the connection. The WSGI server calls this when the browser has gone, too."""
        self._client.close()


def newest_id(client: MonitoredRedisConnection) -> str:
    """Return the ID of the newest event. "$" would miss events between two reads."""
    newest: Any = client.xrevrange(STREAM, count=1)
    return newest[0][0].decode() if newest else "0-0"


def as_event(identifier: str, fields: dict[bytes, bytes]) -> bytes:
    lines = [b"id: " + identifier.encode(), b"event: " + fields[b"kind"]]
    lines += [b"data: " + line for line in fields[b"data"].splitlines()]
    return b"\n".join(lines) + b"\n\n"
