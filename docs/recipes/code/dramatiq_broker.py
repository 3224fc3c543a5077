"""dramatiq's broker on the application's Redis client; actors get a request and a span."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from opentelemetry import propagate, trace
from pyramid.config import Configurator
from pyramid.paster import bootstrap
from pyramid.registry import Registry
from pyramid.scripting import prepare

from pyramid_baseplate_redis import MonitoredRedisConnection

tracer = trace.get_tracer(__name__)


class PyramidMiddleware(dramatiq.Middleware):
    """Runs each actor with a Pyramid request, and with a span in the trace of the sender."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.local = threading.local()

    def before_enqueue(self, broker: Any, message: Any, delay: int | None) -> None:
        if "trace" not in message.options:  # a retry keeps the trace of the first attempt
            message.options["trace"] = {}
            propagate.inject(message.options["trace"])

    def before_process_message(self, broker: Any, message: Any) -> None:
        parent = propagate.extract(message.options.get("trace", {}))
        name, kind = f"process {message.queue_name}", trace.SpanKind.CONSUMER
        with ExitStack() as stack:
            stack.enter_context(tracer.start_as_current_span(name, parent, kind))
            stack.enter_context(prepare(registry=self.registry))
            self.local.stack = stack.pop_all()

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: Any = None
    ) -> None:
        stack = self.local.__dict__.pop("stack", None)
        if stack is not None and exception is None:
            stack.close()
        elif stack is not None:
            stack.__exit__(type(exception), exception, exception.__traceback__)

    after_skip_message = after_process_message


def make_broker(registry: Registry) -> RedisBroker:
    """Make the broker of an application whose clients are configured."""
    with prepare(registry=registry) as env:
        pool = env["request"].dramatiq.connection_pool
    # Unlike a request's client, this one lives as long as the process. The pool is the same.
    client = MonitoredRedisConnection("dramatiq", None, pool)
    broker = RedisBroker(client=client)  # type: ignore[no-untyped-call]
    broker.add_middleware(PyramidMiddleware(registry))
    return broker


def main(global_config: Any, **settings: Any) -> Any:
    with Configurator(settings=settings) as config:
        config.include("pyramid_baseplate_redis")
        config.commit()  # from here on the clients exist
        dramatiq.set_broker(make_broker(config.registry))
        config.include(".dramatiq_actors")  # imports the actors, which belong to that broker
    return config.make_wsgi_app()


def worker() -> None:
    """Prepare a worker's process; for ``dramatiq myapp.dramatiq_broker:worker``."""
    bootstrap(os.environ["CONFIG_URI"])
