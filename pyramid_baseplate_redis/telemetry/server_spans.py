"""The spans of the application's own work: a request's SERVER span, a script's root span.

They follow OpenTelemetry's conventions for HTTP; :mod:`.command_spans` has those for databases.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from urllib.parse import quote

from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Status, StatusCode

from . import request_totals
from .fast_spans.current_span import start_current
from .otel import error_type, has_tracer_provider, tracer
from .semantic_conventions import (
    CLIENT_ADDRESS,
    ERROR_TYPE,
    HTTP_REQUEST_METHOD,
    HTTP_REQUEST_METHOD_ORIGINAL,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
    NETWORK_PROTOCOL_VERSION,
    SERVER_ADDRESS,
    SERVER_PORT,
    URL_PATH,
    URL_QUERY,
    URL_SCHEME,
    USER_AGENT_ORIGINAL,
)

logger = logging.getLogger(__package__)

_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"}


def current_local_span() -> Span | None:
    """Return the current span if it is valid and was started in this process."""
    span = trace.get_current_span()
    if span is INVALID_SPAN:
        return None
    span_context = span.get_span_context()
    return span if span_context.is_valid and not span_context.is_remote else None


def start_server_span(
    environ: Mapping[str, str], trust_trace_headers: bool
) -> tuple[Span, Context]:
    """Start the SERVER span of a WSGI request; return an invalid span if that fails.

    The returned context contains the span, its totals, and the baggage of trusted headers.

    :param environ: the request's WSGI environ.
    :param trust_trace_headers: whether to continue the trace that the request's headers name. As
        in baseplate, it must be false for requests from the public internet.
    """
    if not trust_trace_headers and not has_tracer_provider():
        return INVALID_SPAN, otel_context.get_current()
    try:
        context = otel_context.get_current()
        if trust_trace_headers:
            context = propagate.extract(_Headers(environ), context)
        method = environ.get("REQUEST_METHOD", "")
        known = method in _METHODS
        span = start_current(
            tracer,
            method if known else "HTTP",
            context,
            SpanKind.SERVER,
            _request_attributes(environ, method, known),
        )
        return span, request_totals.opened(span, trace.set_span_in_context(span, context))
    except Exception:
        logger.exception("starting a server span failed")
        return INVALID_SPAN, otel_context.get_current()


class _Headers(dict[str, str]):
    """The trace headers of a WSGI environ, under the lower-case names that propagators read."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(
            (key[5:].replace("_", "-").lower(), value)
            for key, value in environ.items()
            if key.startswith("HTTP_")
        )


def _request_attributes(
    environ: Mapping[str, str], method: str, known: bool
) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        HTTP_REQUEST_METHOD: method if known else "_OTHER",
        URL_PATH: _path(environ),
        URL_SCHEME: environ.get("wsgi.url_scheme", "http"),
    }
    if not known:
        attributes[HTTP_REQUEST_METHOD_ORIGINAL] = method
    if query := environ.get("QUERY_STRING"):
        attributes[URL_QUERY] = _redacted_query(query)
    host, port = _host(
        environ.get("HTTP_HOST", ""),
        environ.get("SERVER_NAME", ""),
        environ.get("SERVER_PORT", ""),
        attributes[URL_SCHEME] == "https",
    )
    if host:
        attributes[SERVER_ADDRESS] = host
    if port:
        attributes[SERVER_PORT] = port
    if client := environ.get("REMOTE_ADDR"):
        attributes[CLIENT_ADDRESS] = client
    if agent := environ.get("HTTP_USER_AGENT"):
        attributes[USER_AGENT_ORIGINAL] = agent
    protocol = environ.get("SERVER_PROTOCOL", "")
    if protocol.startswith("HTTP/"):
        attributes[NETWORK_PROTOCOL_VERSION] = protocol[len("HTTP/") :]
    return attributes


_UNQUOTED = "/!$&'()*+,;=:@~"
_is_unquoted = re.compile(rf"[A-Za-z0-9_.\-{re.escape(_UNQUOTED)}]*").fullmatch


def _path(environ: Mapping[str, str]) -> str:
    """Return the path as in the URL; WSGI has decoded its bytes as Latin-1."""
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    if _is_unquoted(path):
        return path
    return quote(path.encode("latin-1", "replace"), safe=_UNQUOTED)


def _redacted_query(query: str) -> str:
    """Return a query without values: they may be tokens, and the conventions allow redaction."""
    pairs = (part.partition("=") for part in query.split("&"))
    return "&".join(f"{name}=REDACTED" if equals else "REDACTED" for name, equals, _ in pairs)


@lru_cache(maxsize=128)  # a client may send any Host header
def _host(
    host_header: str, server_name: str, server_port: str, is_https: bool
) -> tuple[str, int | None]:
    host, separator, port = host_header.rpartition(":")
    if not separator or not port.isdigit():
        host, port = host_header, ""
    if not host:
        host, port = server_name, server_port
    if not port:
        port = "443" if is_https else "80"
    return host.strip("[]"), int(port) if port.isdigit() else None


def describe_response(
    span: Span,
    method: str,
    route: str | None,
    status: int | None,
    error: BaseException | None,
) -> None:
    """Set the route, the status and the error of a request on its SERVER span.

    :param method: the request's method.
    :param route: the matched route's pattern.
    :param status: the response's status; ``None`` if there is no response, because of ``error``.
    :param error: the exception that the view raised, even if an exception view handled it.
    """
    if not span.is_recording():
        return
    try:
        if route is not None:
            route = route if route.startswith("/") else f"/{route}"
            span.update_name(f"{method if method in _METHODS else 'HTTP'} {route}")
            span.set_attribute(HTTP_ROUTE, route)
        if status is None and error is not None:
            status = 500  # a WSGI server sends this if the application raises
        if status is not None:
            span.set_attribute(HTTP_RESPONSE_STATUS_CODE, status)
            if status >= 500:
                span.set_status(Status(StatusCode.ERROR))
                span.set_attribute(ERROR_TYPE, str(status) if error is None else error_type(error))
    except Exception:
        logger.exception("describing a response failed")


def describe_status(span: Span, status: int) -> None:
    """Correct the status of a response that changed later, for example to 304."""
    try:
        if span.is_recording():
            span.set_attribute(HTTP_RESPONSE_STATUS_CODE, status)
    except Exception:
        logger.exception("describing a response failed")


def end_server_span(span: Span, error: BaseException | None = None) -> None:
    """Write the request's totals on a server span, and end it; further calls have no effect.

    :param error: the exception that stopped the sending of the response.
    """
    try:
        if span.is_recording():
            request_totals.close(span)
            if error is not None:
                span.set_status(Status(StatusCode.ERROR))
                span.set_attribute(ERROR_TYPE, error_type(error))
            span.end()
    except Exception:
        logger.exception("ending a server span failed")


@contextmanager
def root_span(name: str) -> Iterator[Span]:
    """Start a span without a parent, and make it current inside the block."""
    try:
        span = tracer.start_span(name, context=Context())
    except Exception:
        logger.exception("starting a root span failed")
        span = INVALID_SPAN
    token = otel_context.attach(trace.set_span_in_context(span))
    error: BaseException | None = None
    try:
        yield span
    except BaseException as raised:
        error = raised
        raise
    finally:
        otel_context.detach(token)
        end_server_span(span, error)
