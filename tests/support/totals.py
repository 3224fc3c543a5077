"""A request with clients, and the totals on its server span."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import context as otel_context
from pyramid.request import Request
from pyramid.response import Response

from pyramid_baseplate_redis.telemetry.server_spans import end_server_span, start_server_span

from .servers import attributes

FAST = "1 minute"  # as trace_min_duration: every command is faster
PING_AFTER = f"{__name__}.ping_after"


def totals_of(span: Any, client: str = "foo") -> dict[str, Any]:
    """The totals of a client among the attributes of a span."""
    prefix = f"pyramid_baseplate_redis.{client}."
    found = attributes(span)
    return {key[len(prefix) :]: found[key] for key in found if key.startswith(prefix)}


def operations_of(span: Any, client: str = "foo") -> int:
    """Return the number of a client's operations that a span counts."""
    count: int = totals_of(span, client).get("operations", 0)
    return count


@contextmanager
def served(*clients: Any) -> Iterator[list[Any]]:
    """A request named GET, and clients that belong to it."""
    span, context = start_server_span({"REQUEST_METHOD": "GET"}, trust_trace_headers=False)
    token = otel_context.attach(context)
    try:
        yield [client.bound_to(span) for client in clients]
    finally:
        otel_context.detach(token)
        end_server_span(span)


def in_thread(call: Callable[[], object]) -> None:
    """Run in a thread, which has no context."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def stream(request: Request) -> Response:
    """A view that sends a command, and two more with the body."""

    def body() -> Iterator[bytes]:
        request.foo.ping()
        yield b"hel"
        request.foo.ping()
        yield b"lo"

    request.foo.ping()
    return Response(app_iter=body())


def ping_after(handler: Callable[[Request], Any], registry: Any) -> Callable[[Request], Any]:
    """A tween that sends a command after the response is made."""

    def tween(request: Request) -> Any:
        response = handler(request)
        request.foo.ping()
        return response

    return tween
