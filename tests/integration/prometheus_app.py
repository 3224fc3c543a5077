"""An application whose two workers are measured; the view of the documentation shows them."""

from __future__ import annotations

import os
from typing import Any

from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.router import Router

from pyramid_baseplate_redis import server_context


def pid(request: Request) -> int:
    """Which process answers; without a command."""
    return os.getpid()


def command(request: Request) -> str:
    """Send the command of the path."""
    words = request.matchdict["words"]
    return repr(request.foo.execute_command(*words))


def application() -> Router:
    settings = {
        "foo.url": os.environ["REDIS_URL"],
        "foo.max_connections": "4",
        "foo.socket_timeout": "1 hour",
        "baseplate_redis.prometheus": "true",
    }
    config = Configurator(settings=settings)
    config.include("pyramid_baseplate_redis")
    config.include("documented_view")
    for name, pattern, view in (("pid", "/pid", pid), ("command", "/command/*words", command)):
        config.add_route(name, pattern)
        config.add_view(view, route_name=name, renderer="json")
    app = config.make_wsgi_app()
    if "PING_FIRST" in os.environ:
        with server_context(app.registry, "start") as context:
            made: Any = context.foo
            made.ping()
    return app
