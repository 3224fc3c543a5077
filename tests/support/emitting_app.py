"""An application that emits every metric of the package, in a process of its own.

OpenTelemetry takes one meter provider per process, for good, and here it has a Prometheus exporter.

python -m tests.support.emitting_app redis://localhost:6379/0

writes the two scrapes to standard output, as one JSON object.
"""

from __future__ import annotations

import json
import sys
import threading
from contextlib import suppress
from typing import Any

import prometheus_client
import redis
from opentelemetry import metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest
from pyramid.config import Configurator
from pyramid.request import Request

from pyramid_baseplate_redis import (
    CircuitOpenError,
    DurableMessage,
    PoolTimeoutError,
    QueueFullError,
    server_context,
)
from pyramid_baseplate_redis.worker import work

from .servers import free_port, wait_until


def application(url: str) -> Any:
    """Return the registry of an application with its clients and queues.

    The pool of the client ``foo`` is soon exhausted. Nothing listens at the address of ``down``.
    """
    settings = {
        "foo.url": url,
        "foo.client_name": "web",
        "foo.max_connections": "2",
        "foo.pool_timeout": "10 milliseconds",
        "down.url": f"redis://127.0.0.1:{free_port()}/0",
        "down.retries": "1",
        "down.breaker_failures": "2",
        "baseplate_redis.prometheus": "true",
        "messages.url": url,
        "mails.queue": "messages",
        "jobs.queue": "messages",
        "jobs.durable": "true",
        "jobs.max_attempts": "2",
        "jobs.backoff": "none",
        "jobs.max_length": "3",
    }
    config = Configurator(settings=settings)
    config.include("pyramid_baseplate_redis")
    config.commit()
    return config.registry


def use_commands(client: Any, down: Any) -> None:
    """Send commands that succeed and fail, some of which wait for a connection or get none."""
    client.set("text", "x")
    client.pipeline("pair").get("a").get("b").execute()
    with suppress(redis.ResponseError):
        client.lpush("text", "x")
    for _ in range(3):
        with suppress(redis.ConnectionError):  # in the end a CircuitOpenError
            down.get("text")
    with suppress(CircuitOpenError):
        down.get("text")
    held = [client.connection_pool.get_connection() for _ in range(2)]
    with suppress(PoolTimeoutError):
        client.get("text")
    # Released later, so that a caller waits for it.
    threading.Timer(0.003, client.connection_pool.release, held[:1]).start()
    with suppress(PoolTimeoutError):  # a slow machine
        client.get("text")
    wait_until(lambda: client.connection_pool.stats.in_use == 1)
    client.connection_pool.release(held[1])


def use_queues(context: Any) -> None:
    """Send, receive and settle messages, and try to put one into a full queue."""
    context.mails.put("a")
    context.mails.get(5)
    context.jobs.put("late", delay=3600)
    context.jobs.put_many(["good", "bad"])
    with suppress(QueueFullError):
        context.jobs.put("one too many")


def work_off(registry: Any) -> None:
    """Let a worker process the queue: one message succeeds, the other becomes a dead letter."""

    def handle(request: Request, message: DurableMessage) -> None:
        if message.body == b"bad":
            raise ValueError("on purpose")

    stop = threading.Event()
    worker = threading.Thread(target=work, args=(registry, "jobs", handle), kwargs={"stop": stop})
    worker.start()
    with server_context(registry, "watch") as context:
        queue: Any = context.jobs
        wait_until(lambda: queue.stats().dead == 1 and queue.stats().length == 0)
    stop.set()
    worker.join()


def scrapes(url: str) -> dict[str, str]:
    """Return what the two kinds of metrics look like after the application was used."""
    registry = CollectorRegistry()
    metrics.set_meter_provider(MeterProvider([PrometheusMetricReader(registry=registry)]))
    app = application(url)
    with server_context(app, "use") as context:
        made: Any = context
        use_commands(made.foo, made.down)
        use_queues(made)
    work_off(app)
    return {
        "opentelemetry": generate_latest(registry).decode(),
        "baseplate": generate_latest(prometheus_client.REGISTRY).decode(),
    }


if __name__ == "__main__":
    json.dump(scrapes(sys.argv[1]), sys.stdout)
