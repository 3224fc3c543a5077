"""The response to a request while Redis cannot be reached."""

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
