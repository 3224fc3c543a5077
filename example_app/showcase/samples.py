"""Sample links and clicks, so that the pages have something to show."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPSeeOther
from pyramid.request import Request

from pyramid_baseplate_redis import DurableMessageQueue, MonitoredRedisConnection

from ..links import Click, new_code

_ADDRESS = "https://example.com"
_PATHS = (
    "/guides/pools", "/guides/timeouts", "/guides/queues", "/guides/tracing", "/guides/testing",
    "/recipes/sessions", "/recipes/caching", "/recipes/rate-limits", "/recipes/locks",
    "/news/2026/11/a-release-with-an-address-that-is-too-long-for-a-message",
)  # fmt: skip
_WAITING = 5


def includeme(config: Configurator) -> None:
    """Add the view that a button on the home page posts to."""
    config.add_route("samples", "/samples")
    config.add_view(make_samples, route_name="samples", request_method="POST")


def add_samples(redis: MonitoredRedisConnection, clicks: DurableMessageQueue) -> None:
    """Add ten links that were visited, and some clicks that wait for the worker.

    The links are stored in one round trip.
    """
    codes = [new_code() for _ in _PATHS]
    with redis.pipeline("samples") as pipeline:
        for number, (code, path) in enumerate(zip(codes, _PATHS, strict=True)):
            visits = len(_PATHS) - number
            pipeline.set(f"link:{code}", _ADDRESS + path)
            pipeline.zincrby("links:followed", visits, code)
            pipeline.incrby("links:clicks", visits)
        pipeline.execute()
    now = datetime.now(timezone.utc)
    waiting = [
        Click(code, now - timedelta(seconds=number)) for number, code in enumerate(codes[:_WAITING])
    ]
    clicks.put_many([click.to_message() for click in waiting])


def make_samples(request: Request) -> HTTPSeeOther:
    add_samples(request.links, request.clicks)
    return HTTPSeeOther(request.route_url("links"))
