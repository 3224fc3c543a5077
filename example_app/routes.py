"""The app's addresses."""

from __future__ import annotations

from pyramid.config import Configurator


def includeme(config: Configurator) -> None:
    """Add the routes; the last one takes whatever the others leave."""
    config.add_static_view("static", "static", cache_max_age=3600)
    config.add_redis_health_view("/health/redis")  # for a readiness probe
    config.add_route("home", "/")
    config.add_route("top", "/top")
    config.add_route("links", "/links")
    config.add_route("link", "/links/{code}")
    config.add_route("follow", "/{code}")
