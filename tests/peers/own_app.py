"""The application on this package, as :mod:`.baseplate_app` is on baseplate."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.multiprocess import MultiProcessCollector
from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.router import Router
from pyramid.wsgi import wsgiapp

from pyramid_baseplate_redis import RedisClient

from . import commands

NAMED = ["lenient", "watching", "empty", "scripts", "invented"]


def run(request: Request) -> bool:
    commands.run(request)
    return True


def application() -> Router:
    server, ring, down = (os.environ[name] for name in ("SERVER", "CLUSTER", "DOWN"))
    settings = {
        "foo.url": f"redis://{server}/0",
        "bar.url": f"redis://{server}/3",
        "down.url": f"redis://{down}/0",
        "small.url": f"redis://{server}/0",
        "small.max_connections": "1",
        "ring.url": f"redis+cluster://{ring}",
        **{f"{name}.url": f"redis://{server}/0" for name in NAMED},
        "baseplate_redis.prometheus": "true",
    }
    config = Configurator(settings=settings)
    config.include("pyramid_baseplate_redis")
    config.add_redis_client("small", RedisClient(timeout=0.1))
    for name in NAMED:
        config.add_redis_client(name, RedisClient(name))
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    for name, view in {"pid": lambda request: os.getpid(), "run": run}.items():
        config.add_route(name, f"/{name}")
        config.add_view(view, route_name=name, renderer="json")
    config.add_route("metrics", "/metrics")
    config.add_view(wsgiapp(make_wsgi_app(registry)), route_name="metrics")
    return config.make_wsgi_app()
