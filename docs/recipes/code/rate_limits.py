"""Rate limits for views, which the library limits keeps in Redis."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

from limits import RateLimitItem, parse
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from opentelemetry.trace import INVALID_SPAN
from pyramid.config import Configurator
from pyramid.events import ApplicationCreated
from pyramid.exceptions import ConfigurationError
from pyramid.httpexceptions import HTTPServiceUnavailable, HTTPTooManyRequests
from pyramid.request import Request
from pyramid.viewderivers import INGRESS
from redis.exceptions import RedisClusterException, RedisError

from pyramid_baseplate_redis import MonitoredRedisConnection, ServerContext

View = Callable[[Any, Request], Any]


def includeme(config: Configurator) -> None:
    """Add the view options ``rate_limit`` and ``rate_limit_fails``."""
    # Before the permission of the view is checked, and before its body is read.
    config.add_view_deriver(rate_limited_view, under=INGRESS, over="secured_view")
    config.add_subscriber(make_limiter, ApplicationCreated)


def storage_on(client: MonitoredRedisConnection) -> RedisStorage:
    """Make a storage of limits that sends its commands with a monitored client."""
    storage = RedisStorage("redis://", connection_pool=client.connection_pool)
    storage.storage = client
    storage.initialize_storage("redis://")  # the scripts of the storage belong to its client
    return storage


def make_limiter(event: ApplicationCreated) -> None:
    # All threads share this client. Its commands belong to the current span, the request's.
    client = ServerContext(event.app.registry, INVALID_SPAN).limits
    event.app.registry.rate_limiter = SlidingWindowCounterRateLimiter(storage_on(client))


def rate_limited_view(view: View, info: Any) -> View:
    """Answer 429 to a client that calls the view too often."""
    text = info.options.get("rate_limit")
    if text is None:
        return view
    limit = parse(text)
    place = (
        info.options.get("route_name") or info.options.get("name") or info.original_view.__name__
    )
    fails = info.options.get("rate_limit_fails", "open")
    if fails not in ("open", "closed"):
        raise ConfigurationError(f'rate_limit_fails: {fails!r} is neither "open" nor "closed".')

    def limited(context: Any, request: Request) -> Any:
        try:
            wait = seconds_to_wait(request, limit, place)
        except (RedisError, RedisClusterException):
            if fails == "closed":
                raise HTTPServiceUnavailable(headers=[("Retry-After", "5")]) from None
            wait = 0
        if wait:
            raise HTTPTooManyRequests(headers=[("Retry-After", str(wait))])
        return view(context, request)

    return limited


rate_limited_view.options = ("rate_limit", "rate_limit_fails")  # type: ignore[attr-defined]


def seconds_to_wait(request: Request, limit: RateLimitItem, place: str) -> int:
    """Count a request. Return 0 if it is within the limit, or the seconds to wait."""
    limiter: SlidingWindowCounterRateLimiter = request.registry.rate_limiter
    caller = caller_of(request)
    if limiter.hit(limit, place, caller):
        return 0
    reset_time, _ = limiter.get_window_stats(limit, place, caller)
    return max(1, math.ceil(reset_time - time.time()))


def caller_of(request: Request) -> str:
    """Return the user or, without one, the address. An IPv6 client has a whole /64 network."""
    if request.authenticated_userid is not None:
        return f"user {request.authenticated_userid}"
    try:
        address = ip_address(request.remote_addr)
    except ValueError:  # a Unix socket
        return "unknown"
    if address.version == 4:
        return str(address)
    # A server that listens on IPv6 sees an IPv4 client as ::ffff:192.0.2.1.
    return str(address.ipv4_mapped or ip_network((address, 64), strict=False))
