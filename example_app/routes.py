"""The routes of the app."""

from __future__ import annotations

from pyramid.config import Configurator


def includeme(config: Configurator) -> None:
    """Add the routes. The last one matches every path that the others don't."""
    config.add_static_view("static", "static", cache_max_age=3600)
    config.add_redis_health_view("/health/redis")  # for a readiness probe
    config.add_route("home", "/")
    config.add_route("top", "/top")
    config.add_route("links", "/links")
    config.add_route("link", "/links/{code}")
    config.add_route("follow", "/{code}")
