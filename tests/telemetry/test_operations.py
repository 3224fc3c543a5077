"""What observers are told of a client's operations."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import MonitoredRedisConnection, RedisClient
from pyramid_baseplate_redis.telemetry import otel
from pyramid_baseplate_redis.telemetry.operations import Operation

from ..support.servers import RecordedSpans, Server
from ..support.topologies import Cluster


class Told:
    """Writes down what it is told of."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.operations: list[Operation] = []
        self.results: list[object] = []

    def started(self, operation: Operation) -> None:
        self.events.append(f"started {operation.trace_name}")

    def ended(self, operation: Operation, result: object) -> None:
        self.events.append(f"ended {operation.trace_name}")
        self.operations.append(operation)
        self.results.append(result)


class Broken:
    def started(self, operation: Operation) -> None:
        raise RuntimeError("broken")

    def ended(self, operation: Operation, result: object) -> None:
        raise RuntimeError("broken")


def client_on(url: str) -> Iterator[MonitoredRedisConnection]:
    factory = RedisClient().parse("foo", {"foo.url": url, "foo.trace": "off"})
    made: Any = factory.make_object_for_context("foo", None)
    yield made
    factory.connection_pool.disconnect()


@pytest.fixture
def client(valkey: Server) -> Iterator[MonitoredRedisConnection]:
    yield from client_on(valkey.url)


@pytest.fixture
def told(client: MonitoredRedisConnection) -> Told:
    """An observer of all clients of the pool."""
    observer = Told()
    client.connection_pool.observers.append(observer)
    return observer


def test_an_observer_gets_a_commands_start_and_end(
    client: MonitoredRedisConnection, told: Told
) -> None:
    client.set("key", "value")
    assert told.events == ["started foo.SET", "ended foo.SET"]
    (operation,) = told.operations
    assert (operation.name, tuple(operation.args)) == ("SET", ("SET", "key", "value"))
    assert (operation.commands, operation.error, operation.code) == (None, None, None)
    assert told.results == [True]


def test_an_observer_gets_the_duration(client: MonitoredRedisConnection, told: Told) -> None:
    started = time.perf_counter()
    client.blpop("empty", timeout=0.2)
    (operation,) = told.operations
    assert started <= operation.started
    assert 0.15 <= operation.duration <= time.perf_counter() - started


def test_an_observer_gets_a_pipelines_commands(
    client: MonitoredRedisConnection, told: Told
) -> None:
    client.pipeline("load").get("a").get("b").execute()
    (operation,) = told.operations
    assert (operation.trace_name, operation.name) == ("foo.pipeline_load", "MULTI GET")
    assert operation.is_transaction
    assert [args for args, _ in operation.commands or []] == [("GET", "a"), ("GET", "b")]
    assert told.results == [[None, None]]


def test_an_observer_gets_an_error(client: MonitoredRedisConnection, told: Told) -> None:
    client.set("text", "x")
    with pytest.raises(redis.ResponseError) as raised:
        client.lpush("text", "x")
    operation = told.operations[-1]
    assert (operation.error, operation.code) == (raised.value, "WRONGTYPE")
    assert told.results[-1] is None


def test_an_observer_gets_an_error_among_the_results(
    client: MonitoredRedisConnection, told: Told
) -> None:
    pipeline = client.pipeline(transaction=False)
    results = pipeline.set("text", "x").lpush("text", "x").execute(raise_on_error=False)
    (operation,) = told.operations
    assert (operation.error, operation.code) == (results[1], "WRONGTYPE")
    assert told.results == [results]


def test_a_watched_key_that_has_changed_is_no_error_to_an_observer(
    client: MonitoredRedisConnection, told: Told
) -> None:
    with client.pipeline() as pipeline:
        pipeline.watch("key")
        client.set("key", "changed")
        pipeline.multi()
        with pytest.raises(redis.WatchError):
            pipeline.get("key").execute()
    assert [operation.error for operation in told.operations] == [None, None, None]


def test_an_observer_gets_the_wait_for_a_connection(
    valkey: Server, client: MonitoredRedisConnection, told: Told
) -> None:
    pool: Any = client.connection_pool
    held = [pool.get_connection() for _ in range(pool.max_connections)]
    pool.timeout = 0.1
    with pytest.raises(redis.ConnectionError):
        client.get("key")
    for connection in held:
        pool.release(connection)
    notes = told.operations[0].notes
    assert notes is not None
    assert notes.waited >= 0.05


def test_an_observer_of_one_client_gets_no_other_clients_operations(
    client: MonitoredRedisConnection,
) -> None:
    observer = Told()
    other = client.bound_to(client.server_span)
    client.observed_by(observer)
    other.get("key")
    assert observer.events == []


def test_an_observer_of_one_client_gets_the_operations_of_what_it_makes(
    client: MonitoredRedisConnection,
) -> None:
    observer = Told()
    client.observed_by(observer)
    client.pipeline("load").get("key").execute()
    client.message_queue("jobs").put("message")
    with client.pubsub() as subscriber:
        subscriber.subscribe("channel")
    with client.lock("lock", timeout=5):
        pass
    names = [operation.trace_name for operation in observer.operations]
    assert names[:4] == ["foo.pipeline_load", "foo.RPUSH", "foo.SUBSCRIBE", "foo.SET"]
    assert set(names[4:]) <= {"foo.EVALSHA", "foo.SCRIPT LOAD"}


def test_an_observer_of_one_client_sees_what_its_single_connection_client_does(
    client: MonitoredRedisConnection,
) -> None:
    observer = Told()
    client.observed_by(observer)
    with client.client() as single:
        single.get("key")
        single.pipeline("load").get("key").execute()
    names = [operation.trace_name for operation in observer.operations]
    assert names == ["foo.GET", "foo.pipeline_load"]


def test_an_observer_that_fails_breaks_nothing(
    client: MonitoredRedisConnection, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    otel._logged.clear()
    client.connection_pool.observers.insert(0, Broken())
    with caplog.at_level(logging.ERROR):
        assert client.set("key", "value") is True
        assert client.get("key") == b"value"
    assert told.events[-1] == "ended foo.GET"
    assert len(caplog.records) == 1


def test_observers_get_a_clusters_operations(cluster: Cluster) -> None:
    observer = Told()
    for client in client_on(cluster.url):
        client.connection_pool.observers.append(observer)
        client.get("key")
        client.pipeline().get("key").execute()
    assert observer.events[-4:] == [
        "started foo.GET",
        "ended foo.GET",
        "started foo.pipeline",
        "ended foo.pipeline",
    ]
    notes = observer.operations[-2].notes
    assert notes is not None
    assert notes.server is not None


def test_a_command_that_is_observed_but_not_traced_has_no_span(
    valkey: Server, spans: RecordedSpans, client: MonitoredRedisConnection, told: Told
) -> None:
    client.get("key")
    assert spans.names == []
