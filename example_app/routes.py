"""The routes of the app."""

from __future__ import annotations

from pyramid.config import Configurator
from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.settings import asbool


def includeme(config: Configurator) -> None:
    """Add the routes. The last one matches every path that the others don't.

    The page of the queues is there if the setting ``queues_page`` is true.
    """
    config.add_static_view("static", "static", cache_max_age=3600)
    config.add_redis_health_view("/health/redis")  # for a readiness probe
    settings = config.get_settings()
    settings["queues_page"] = asbool(settings.get("queues_page"))  # the layout has a link to it
    if settings["queues_page"]:
        # This app has no users whose permission could be asked for. An app that has some writes
        # permission="admin", for example, and needs no setting.
        config.add_redis_queues_view("/queues", permission=NO_PERMISSION_REQUIRED)
    config.add_route("home", "/")
    config.add_route("top", "/top")
    config.add_route("links", "/links")
    config.add_route("link", "/links/{code}")
    config.add_route("follow", "/{code}")
