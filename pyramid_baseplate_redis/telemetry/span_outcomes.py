"""The end of an operation's span: its status, and the details of the call as attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis
from opentelemetry.trace import Span, Status, StatusCode

from .call_details import CallDetails, address_attributes
from .otel import error_type, log_once, status_code
from .semantic_conventions import DB_RESPONSE_STATUS_CODE, ERROR_TYPE

# Seconds. The conventions have a metric for it, but no attribute.
WAIT_TIME = "pyramid_baseplate_redis.connection.wait_time"
# The name that redis-py's own metrics use; the conventions have none for databases.
RETRY_ATTEMPTS = "redis.client.operation.retry_attempts"
# Neither the conventions nor redis-py have a name for it.
REDIRECTIONS = "redis.client.operation.redirections"
_ERROR = Status(StatusCode.ERROR)


def rename(span: Span, name: str, attributes: Mapping[str, Any]) -> None:
    """Change a span's name and add attributes."""
    try:
        span.update_name(name)
        span.set_attributes(attributes)
    except Exception:
        log_once("describing a command failed")


def end(span: Span, notes: CallDetails | None = None) -> None:
    """End the span of an operation that succeeded.

    :param notes: the details of the call, which become attributes.
    """
    try:
        if notes is not None:
            _add_notes(span, notes)
        span.end()
    except Exception:
        log_once("ending a span failed")


def fail(
    span: Span, error: BaseException, notes: CallDetails | None = None, code: str | None = None
) -> None:
    """End the span of an operation that raised ``error``.

    Its status is an error, unless ``error`` is a :class:`redis.WatchError`.

    :param notes: the details of the call, which become attributes.
    :param code: the server's error code, if ``error`` no longer has it.
    """
    try:
        if not isinstance(error, redis.WatchError):
            code = code or status_code(error)
            span.set_status(_ERROR)
            span.set_attribute(ERROR_TYPE, code or error_type(error))
            if code is not None:
                span.set_attribute(DB_RESPONSE_STATUS_CODE, code)
    except Exception:
        log_once("describing an error failed")
    end(span, notes)


def end_noscript(span: Span, notes: CallDetails | None = None) -> None:
    """End the span of an EVALSHA whose script the server does not know.

    Its status is not an error: redis-py loads the script and tries again.
    """
    try:
        span.set_attribute(DB_RESPONSE_STATUS_CODE, "NOSCRIPT")
    except Exception:
        log_once("describing an error failed")
    end(span, notes)


def _add_notes(span: Span, notes: CallDetails) -> None:
    if notes.waited:
        span.set_attribute(WAIT_TIME, notes.waited)
    if notes.redirections:
        span.set_attribute(REDIRECTIONS, notes.redirections)
    if notes.retries:
        span.set_attribute(RETRY_ATTEMPTS, notes.retries)
    if notes.server_is_told:
        return
    if notes.server is None:
        if notes.peer is not None:
            span.set_attributes(address_attributes(None, notes.peer))
    elif notes.is_of_one_server:
        span.set_attributes(address_attributes(notes.server, notes.peer))
