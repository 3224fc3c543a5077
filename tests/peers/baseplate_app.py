"""The application on baseplate 2.7.1, which has an environment of its own.

It runs alone there, without this project: gunicorn's ``--chdir`` leads to this directory.
"""

import os
from typing import Any

from baseplate import Baseplate
from baseplate.clients.redis import RedisClient
from baseplate.clients.redis_cluster import ClusterRedisClient
from baseplate.frameworks.pyramid import BaseplateConfigurator
from baseplate.lib.metrics import Client, NullTransport
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.multiprocess import MultiProcessCollector
from pyramid.config import Configurator
from pyramid.wsgi import wsgiapp

import commands  # isort: skip

NAMED = ["lenient", "watching", "empty", "scripts", "invented"]

factories: list = []


def kept(client: Any) -> Any:
    """A client whose factory is noted."""
    parse = client.parse

    def parse_and_note(key_path: str, raw_config: Any) -> Any:
        factories.append(parse(key_path, raw_config))
        return factories[-1]

    client.parse = parse_and_note
    return client


def run(request: Any) -> bool:
    commands.run(request)
    batch = Client(NullTransport(False), "").batch()
    for factory in factories:  # as baseplate's own server does every ten seconds
        factory.report_runtime_metrics(batch)
    return True


def application() -> Any:
    server, ring, down = (os.environ[name] for name in ("SERVER", "CLUSTER", "DOWN"))
    baseplate = Baseplate({
        "foo.url": f"redis://{server}/0",
        "bar.url": f"redis://{server}/3",
        "down.url": f"redis://{down}/0",
        "small.url": f"redis://{server}/0",
        "small.max_connections": "1",
        "ring.url": f"redis://{ring}",
        **{f"{name}.url": f"redis://{server}/0" for name in NAMED},
    })  # fmt: skip
    baseplate.configure_context({
        "foo": kept(RedisClient()),
        "bar": kept(RedisClient()),
        "down": kept(RedisClient()),
        "small": kept(RedisClient(timeout=0.1)),
        "ring": kept(ClusterRedisClient()),
        **{name: kept(RedisClient(name)) for name in NAMED},
    })  # fmt: skip
    config = Configurator()
    config.include(BaseplateConfigurator(baseplate).includeme)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    for name, view in {"pid": lambda request: os.getpid(), "run": run}.items():
        config.add_route(name, f"/{name}")
        config.add_view(view, route_name=name, renderer="json")
    config.add_route("metrics", "/metrics")
    config.add_view(wsgiapp(make_wsgi_app(registry)), route_name="metrics")
    return config.make_wsgi_app()
