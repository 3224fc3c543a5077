"""A small application for tests that need one: a request sends a pipeline and a command."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.router import Router

from pyramid_baseplate_redis import server_context


def echo(request: Request) -> dict[str, Any]:
    """Send the path's text back and forth, and tell which process answers."""
    text = request.matchdict["text"]
    with request.foo.pipeline("echo") as pipeline:
        _, echoed = pipeline.set(text, text, ex=60).echo(text).execute()
    return {"replies": [echoed.decode(), request.foo.get(text).decode()], "pid": os.getpid()}


def make_app(settings: Mapping[str, Any]) -> Router:
    config = Configurator(settings=dict(settings))
    config.include("pyramid_baseplate_redis")
    config.add_route("echo", "/echo/{text}")
    config.add_view(echo, route_name="echo", renderer="json")
    return config.make_wsgi_app()


def application() -> Router:
    """The application as the environment configures it; for a server's command line."""
    app = make_app({"foo.url": os.environ["REDIS_URL"], "foo.max_connections": "8"})
    if "PING_FIRST" in os.environ:
        with server_context(app.registry, "start") as context:
            context.foo.ping()
    return app
