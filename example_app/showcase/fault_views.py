"""The page that breaks Redis and shows how the app behaves."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import redis
from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPBadRequest, HTTPSeeOther
from pyramid.request import Request

from pyramid_baseplate_redis import MonitoredRedisConnection

from ..links import statistics
from .faults import PAUSE_MILLISECONDS, SLOW_SECONDS
from .round_trips import duration

ATTEMPTS = 5


def includeme(config: Configurator) -> None:
    """Add the page. Its buttons are forms with a CSRF token."""
    renderer = "example_app:templates/break.jinja2"
    config.add_route("break", "/break")
    config.add_view(show, route_name="break", request_method="GET", renderer=renderer)
    config.add_view(change, route_name="break", request_method="POST")


@dataclass(frozen=True)
class Attempt:
    """A page that was read, as a request reads it."""

    status: int
    duration: str
    error: str  #: the name of the error; empty if there was none


def attempt(client: MonitoredRedisConnection) -> Attempt:
    """Read what the page "Most visited" reads."""
    begun, error = time.perf_counter(), ""
    try:
        statistics(client)
    except (redis.ConnectionError, redis.TimeoutError) as raised:
        error = type(raised).__name__
    elapsed = duration((time.perf_counter() - begun) * 1000)
    return Attempt(503 if error else 200, elapsed, error)


def show(request: Request) -> dict[str, Any]:
    """Show the state of the server, the circuit breaker and the pool.

    The query parameter ``try`` asks for some attempts first.
    """
    attempts = []
    if "try" in request.GET:
        attempts = [attempt(request.links) for _ in range(ATTEMPTS)]
    pool = request.links.connection_pool
    return {
        "attempts": attempts,
        "faults": request.registry.faults,
        "breaker": pool.breaker,
        "pool": pool.stats,
        "pause": PAUSE_MILLISECONDS,
        "slow_seconds": SLOW_SECONDS,
    }


def change(request: Request) -> HTTPSeeOther:
    """Break the server or start it again, as the button says."""
    faults = request.registry.faults
    actions = {"slow": faults.make_slow, "kill": faults.kill, "start": faults.start}
    action = actions.get(request.POST.get("action"))
    if action is None:
        raise HTTPBadRequest
    action()
    return HTTPSeeOther(request.route_url("break"))
