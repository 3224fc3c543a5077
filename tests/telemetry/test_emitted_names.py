"""Everything that is recorded has a name of the installed conventions, or one of the listed ours.

The operations below are one of every kind, so that each attribute and each metric is recorded.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import MonitoredRedisConnection, QueueStats
from pyramid_baseplate_redis.telemetry.call_details import note_redirection, note_retry
from pyramid_baseplate_redis.telemetry.metrics import observe_queue
from pyramid_baseplate_redis.telemetry.server_spans import (
    describe_response,
    end_server_span,
    start_server_span,
)

from ..support.metrics import Collected, Connect
from ..support.servers import RecordedSpans, Server, attributes
from .test_semantic_conventions import NAMES

OWN_ATTRIBUTES = {
    "messaging.redis.message.delivery_count",
    "pyramid_baseplate_redis.connection.wait_time",
    "pyramid_baseplate_redis.foo.commands",
    "pyramid_baseplate_redis.foo.connection.wait_time",
    "pyramid_baseplate_redis.foo.duration",
    "pyramid_baseplate_redis.foo.operations",
    "redis.client.operation.redirections",
    "redis.client.operation.retry_attempts",
}
OWN_METRICS = {
    "pyramid_baseplate_redis.message_queue.dead_letters",
    "pyramid_baseplate_redis.message_queue.delayed",
    "pyramid_baseplate_redis.message_queue.in_flight",
    "pyramid_baseplate_redis.message_queue.length",
    "pyramid_baseplate_redis.message_queue.oldest_age",
    "pyramid_baseplate_redis.message_queue.waiting",
}


def conventions(kind: str) -> set[str]:
    """The names in the installed conventions that are not deprecated everywhere.

    :param kind: ``attributes`` or ``metrics``.
    """
    return {name for package in ("", "._incubating") for name in _names(f"{package}.{kind}")}


def _names(package: str) -> Iterator[str]:
    (folder,) = importlib.import_module(f"opentelemetry.semconv{package}").__path__
    for module in pkgutil.iter_modules([folder]):
        body = ast.parse(Path(folder, f"{module.name}.py").read_text()).body
        for statement, text in zip(body, [*body[1:], None], strict=True):
            match statement, text:
                case (_, ast.Expr(ast.Constant(str(described)))) if "Deprecated" in described:
                    pass
                case ast.AnnAssign(value=ast.Constant(str(name))), _:
                    yield name


def use_commands(client: MonitoredRedisConnection, server: Server) -> None:
    def note(reply: Any, **options: Any) -> Any:
        note_redirection()
        note_retry()
        return reply

    client.set_response_callback("GET", note)
    client.set("text", "x")
    client.get("text")
    client.pipeline("pair").get("a").get("b").execute()
    client.eval("return 1", 0)
    client.script_flush()
    client.register_script("return 1")()
    with suppress(redis.ResponseError):
        client.lpush("text", "x")
    ping_after_waiting(client)
    with client.pubsub() as subscriber, redis.Redis(port=server.port) as other:
        subscriber.subscribe(news=lambda message: None)
        subscriber.get_message(timeout=5)
        other.publish("news", "text")
        subscriber.get_message(timeout=5)


def ping_after_waiting(client: MonitoredRedisConnection) -> None:
    """Send a command that waits for one of the pool's two connections."""
    held = [client.connection_pool.get_connection() for _ in range(2)]
    later = Timer(0.05, client.connection_pool.release, held[:1])
    later.start()
    client.ping()
    later.join()
    client.connection_pool.release(held[1])


def use_queues(client: MonitoredRedisConnection) -> None:
    plain, durable = client.message_queue("jobs"), client.durable_queue("work", max_attempts=1)
    plain.put("a")
    plain.get(5)
    durable.put_many(["a", "b"])
    with durable.receive_many(5, 5) as (first, second):
        first.give_back()
        second.acknowledge()
    durable.put("c")
    with suppress(KeyError), durable.receive(5):
        raise KeyError


class Observed:
    """A queue whose figures are collected."""

    name = "observed"
    stats: QueueStats | None = QueueStats(1, 0, None, 0)

    def length(self) -> int | None:
        return 1


def answer_a_request(client: MonitoredRedisConnection) -> None:
    environ = {
        "REQUEST_METHOD": "BREW",
        "PATH_INFO": "/pot",
        "QUERY_STRING": "size=2",
        "HTTP_HOST": "localhost:6543",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_USER_AGENT": "test",
        "SERVER_PROTOCOL": "HTTP/1.1",
    }
    span, _ = start_server_span(environ, trust_trace_headers=False)
    ping_after_waiting(client.bound_to(span))
    describe_response(span, "BREW", "/pot", 500, ValueError())
    end_server_span(span)


@pytest.fixture
def emitted(
    valkey: Server, connect: Connect, provider: None, spans: RecordedSpans
) -> tuple[set[str], set[str]]:
    """The names of all attributes and of all metrics."""
    client = connect(valkey.url, trace_query_text="sanitized", max_connections="2")
    use_commands(client, valkey)
    use_queues(client)
    queue = Observed()
    observe_queue(queue)
    counted = {"trace_min_duration": "1 minute", "max_connections": "2"}
    answer_a_request(connect(valkey.url, "foo", **counted))
    collected = Collected()
    measured = [point.attributes for points in collected.points.values() for point in points]
    described = [attributes(span) for span in spans.all]
    return {key for found in (*measured, *described) for key in found}, set(collected.points)


def test_attributes_are_those_of_the_conventions_or_our_own(
    emitted: tuple[set[str], set[str]],
) -> None:
    assert emitted[0] - conventions("attributes") == OWN_ATTRIBUTES


def test_metrics_are_those_of_the_conventions_or_our_own(
    emitted: tuple[set[str], set[str]],
) -> None:
    assert emitted[1] - conventions("metrics") == OWN_METRICS


def test_each_name_that_is_written_down_is_used(emitted: tuple[set[str], set[str]]) -> None:
    assert set(NAMES.values()) - emitted[0] - emitted[1] == set()
