"""The metrics of queues' messages: durations of operations, numbers of messages."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from opentelemetry.instrumentation.utils import suppress_instrumentation

from pyramid_baseplate_redis import QueueFullError, TimedOutError
from pyramid_baseplate_redis.telemetry.messaging.metrics import BUCKETS

from ..support.metrics import Collected, Connect, Point, numbers
from ..support.servers import Server

pytestmark = pytest.mark.usefixtures("provider")

OPERATIONS = "messaging.client.operation.duration"
PROCESSING = "messaging.process.duration"
SENT = "messaging.client.sent.messages"
CONSUMED = "messaging.client.consumed.messages"
METRICS = (OPERATIONS, PROCESSING, SENT, CONSUMED)


@pytest.fixture
def name() -> str:
    return f"queue{next(numbers)}"


def points(metric: str, name: str) -> list[Point]:
    found = Collected().points.get(metric, [])
    return [point for point in found if point.attributes["messaging.destination.name"] == name]


def operations(name: str) -> list[tuple[Any, ...]]:
    """The operations with a duration: name, type, error and number."""
    keys = ("messaging.operation.name", "messaging.operation.type", "error.type")
    return [
        (*map(point.attributes.get, keys), point.value)
        for metric in (OPERATIONS, PROCESSING)
        for point in points(metric, name)
    ]


def test_a_durable_queues_operations_are_measured(
    valkey: Server, connect: Connect, name: str
) -> None:
    queue = connect(valkey.url).durable_queue(name)
    queue.put_many(["a", "b", "c"])
    with queue.receive_many(2, 5):
        pass
    with queue.receive(5) as message:
        message.give_back()
    assert operations(name) == [
        ("send", "send", None, 1),
        ("receive", "receive", None, 2),
        ("ack", "settle", None, 1),
        ("nack", "settle", None, 1),
        ("process", None, None, 2),
    ]
    (sent,), (consumed,) = points(SENT, name), points(CONSUMED, name)
    assert (sent.value, sent.unit) == (3, "{message}")
    assert (consumed.value, consumed.unit) == (3, "{message}")


def test_a_duration_has_the_conventions_attributes(
    valkey: Server, connect: Connect, name: str
) -> None:
    queue = connect(valkey.url).durable_queue(name)
    queue.put("a")
    queue.get(5)
    common = {
        "messaging.system": "redis",
        "messaging.destination.name": name,
        "server.address": "127.0.0.1",
        "server.port": valkey.port,
    }
    group = {"messaging.consumer.group.name": "workers"}
    (process,) = points(PROCESSING, name)
    assert process.attributes == {**common, **group, "messaging.operation.name": "process"}
    (sent,) = points(SENT, name)
    assert sent.attributes == {**common, "messaging.operation.name": "send"}
    for point in (process, *points(OPERATIONS, name)):
        assert (point.unit, point.bounds) == ("s", BUCKETS)


def test_a_dead_letter_is_a_settlement(valkey: Server, connect: Connect, name: str) -> None:
    queue = connect(valkey.url).durable_queue(name, max_attempts=1)
    queue.put("a")
    with pytest.raises(KeyError), queue.receive(5):
        raise KeyError
    assert operations(name)[2:] == [
        ("dead_letter", "settle", None, 1),
        ("process", None, "KeyError", 1),
    ]


def test_a_list_queues_operations_are_measured(valkey: Server, connect: Connect, name: str) -> None:
    queue = connect(valkey.url).message_queue(name)
    queue.put("a")
    queue.get(5)
    assert operations(name) == [("send", "send", None, 1), ("receive", "receive", None, 1)]
    assert [point.value for point in points(SENT, name) + points(CONSUMED, name)] == [1, 1]


@pytest.mark.parametrize("kind", ["durable_queue", "message_queue"])
def test_a_failure_has_the_servers_code(
    valkey: Server, connect: Connect, name: str, kind: str
) -> None:
    client = connect(valkey.url)
    queue = getattr(client, kind)(name)
    client.set(getattr(queue, "key", name), "something else")
    with pytest.raises(redis.ResponseError):
        queue.put("a")
    with pytest.raises(redis.ResponseError):
        queue.get(0)
    assert operations(name) == [
        ("send", "send", "WRONGTYPE", 1),
        ("receive", "receive", "WRONGTYPE", 1),
    ]
    (sent,) = points(SENT, name)
    assert (sent.value, sent.attributes["error.type"]) == (1, "WRONGTYPE")
    assert points(CONSUMED, name) == []


@pytest.mark.parametrize("kind", ["durable_queue", "message_queue"])
def test_an_empty_queue_is_not_measured(
    valkey: Server, connect: Connect, name: str, kind: str
) -> None:
    with pytest.raises(TimedOutError):
        getattr(connect(valkey.url), kind)(name).get(0)
    assert operations(name) == []


def test_a_message_that_a_full_queue_refuses_is_not_sent(
    valkey: Server, connect: Connect, name: str
) -> None:
    queue = connect(valkey.url).durable_queue(name, max_length=1)
    queue.put("a")
    with pytest.raises(QueueFullError):
        queue.put("b")
    (sent,) = points(SENT, name)
    assert sent.value == 1
    assert [error for _, _, error, _ in operations(name)] == [
        None,
        "pyramid_baseplate_redis.exceptions.QueueFullError",
    ]


@pytest.mark.parametrize("kind", ["durable_queue", "message_queue"])
def test_a_client_without_metrics_has_none_of_messages(
    valkey: Server, connect: Connect, name: str, kind: str
) -> None:
    queue = getattr(connect(valkey.url, metrics="false"), kind)(name)
    queue.put("a")
    queue.get(5)
    with suppress_instrumentation():
        suppressed = getattr(connect(valkey.url), kind)(name)
        suppressed.put("a")
        suppressed.get(5)
    assert [point for metric in METRICS for point in points(metric, name)] == []
