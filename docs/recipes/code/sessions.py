"""Sessions in Redis, on the client ``sessions`` of each request."""

from __future__ import annotations

import json
import os
from typing import Any

import redis
from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPServiceUnavailable
from pyramid.request import Request


def includeme(config: Configurator) -> None:
    """Use the settings ``redis.sessions.*``, and the environment's ``SESSION_SECRET``."""
    config.registry.settings["redis.sessions.secret"] = os.environ["SESSION_SECRET"]
    config.include("pyramid_session_redis")
    config.add_exception_view(unavailable, context=redis.ConnectionError)
    config.add_exception_view(unavailable, context=redis.TimeoutError)


def session_client(request: Request, **redis_options: Any) -> redis.Redis:
    """Return the client of this request's session.

    pyramid_session_redis calls this when a view uses ``request.session`` for the first time. The
    options are for a client that it would make itself.
    """
    client: redis.Redis = request.sessions
    return client


def serialize(session: dict[str, Any]) -> bytes:
    """Return the session as JSON. Loading a pickle could execute what it contains."""
    return json.dumps(session).encode()


def deserialize(stored: bytes) -> dict[str, Any]:
    """Return the session that :func:`serialize` has stored."""
    session: dict[str, Any] = json.loads(stored)
    return session


def unavailable(request: Request) -> HTTPServiceUnavailable:
    """Answer 503 if Redis cannot be reached. Use no session here."""
    return HTTPServiceUnavailable(headers=[("Retry-After", "5")])
