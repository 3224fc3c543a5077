"""The response to a request while Redis cannot be reached or refuses writes."""

from __future__ import annotations

import logging

import redis
from pyramid.request import Request
from pyramid.view import exception_view_config

logger = logging.getLogger(__name__)


@exception_view_config(redis.ConnectionError, renderer="example_app:templates/503.jinja2")
@exception_view_config(redis.TimeoutError, renderer="example_app:templates/503.jinja2")
def unavailable(error: redis.RedisError, request: Request) -> dict[str, str]:
    # The error names the client and the server, and never a password.
    logger.error("%s %s: %s: %s", request.method, request.path, type(error).__name__, error)
    request.response.status_int = 503
    request.response.headers["Retry-After"] = "5"
    return {"error": type(error).__name__}


@exception_view_config(redis.OutOfMemoryError, renderer="example_app:templates/503.jinja2")
@exception_view_config(redis.ReadOnlyError, renderer="example_app:templates/503.jinja2")
def refused(error: redis.RedisError, request: Request) -> dict[str, str]:
    # Full memory, or a primary that has become a replica: both pass without a change of the app.
    answer: dict[str, str] = unavailable(error, request)
    return answer
