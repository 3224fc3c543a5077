"""What a metric reader collects: each metric's name, unit, attributes and value."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from opentelemetry import metrics
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from pyramid.config import Configurator

from pyramid_baseplate_redis import (
    MessageQueue,
    PoolTimeoutError,
    RedisClient,
    server_context,
)
from pyramid_baseplate_redis.interfaces import IRedisContextFactory
from pyramid_baseplate_redis.telemetry import metrics as metrics_module

from ..faults.helpers import connections_at, in_child, in_threads
from ..support.servers import RecordedSpans, Server, running_server, wait_until
from ..support.topologies import Cluster, SentinelSet

DURATION = "db.client.operation.duration"
WAIT_TIME = "db.client.connection.wait_time"
USE_TIME = "db.client.connection.use_time"
CREATE_TIME = "db.client.connection.create_time"
BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
_reader = InMemoryMetricReader()
_providers: list[MeterProvider] = []
Connect = Callable[..., Any]


@dataclass
class Point:
    """What one metric says for one set of attributes."""

    attributes: dict[str, Any]
    value: Any  # a histogram's is how many there were
    seconds: float
    unit: str
    bounds: tuple[float, ...]


class Collected:
    """All points of one collection."""

    def __init__(self) -> None:
        self.points: dict[str, list[Point]] = {}
        data = _reader.get_metrics_data()
        for resource in data.resource_metrics if data is not None else []:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        self.points.setdefault(metric.name, []).append(
                            Point(
                                dict(point.attributes or {}),
                                getattr(point, "value", getattr(point, "count", None)),
                                getattr(point, "sum", 0.0),
                                metric.unit or "",
                                tuple(getattr(point, "explicit_bounds", ())),
                            )
                        )

    def of(self, name: str, pool_name: str) -> list[Point]:
        """The points of one metric and one pool."""
        key = "db.client.connection.pool.name"
        return [each for each in self.points.get(name, []) if each.attributes.get(key) == pool_name]

    def one(self, name: str, pool_name: str) -> Point:
        (found,) = self.of(name, pool_name)
        return found

    def stats(self, pool_name: str) -> dict[str, Any]:
        """What is told of a pool beside its times, with the state behind the metric's name."""
        prefix = "db.client.connection."
        return {
            f"{name.removeprefix(prefix)} {point.attributes.get(f'{prefix}state', '')}".strip(): (
                point.value,
                point.unit,
            )
            for name in self.points
            if name.startswith(prefix) and not name.endswith("_time")
            for point in self.of(name, pool_name)
        }


@pytest.fixture(autouse=True)
def provider() -> None:
    if not _providers:  # OpenTelemetry takes one provider per process, for good
        _providers.append(MeterProvider(metric_readers=[_reader]))
        metrics.set_meter_provider(_providers[0])


@pytest.fixture
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Make a client, whose name is that of its pool in the metrics."""
    pools: list[Any] = []

    def make(url: str, name: str = "", **settings: str) -> Any:
        name = name or f"client{next(_numbers)}"
        keys = {f"{name}.{key}": value for key, value in settings.items()}
        factory = RedisClient().parse(name, {f"{name}.url": url, **keys})
        pools.append(factory.connection_pool)
        return factory.make_object_for_context(name, None)

    yield make
    for pool in pools:
        pool.disconnect()


_numbers = iter(range(1_000_000))


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Server]:
    """A server of this test's own."""
    with running_server("valkey", tmp_path) as server:
        yield server


def duration_of(client: Any) -> Point:
    return Collected().one(DURATION, client.context_name)


def told(point: Point) -> dict[str, Any]:
    """What differs from one operation to the next."""
    same = ("db.system.name", "db.namespace", "server.address", "server.port")
    kept = {key: value for key, value in point.attributes.items() if key not in same}
    del kept["db.client.connection.pool.name"]
    return kept


# How long operations take


def test_the_duration_of_a_command_is_recorded(valkey: Server, connect: Connect) -> None:
    client = connect(f"{valkey.url.rpartition('/')[0]}/3")
    client.get("key")
    client.get("key")
    point = duration_of(client)
    assert point.attributes == {
        "db.system.name": "redis",
        "db.namespace": "3",
        "db.operation.name": "GET",
        "db.client.connection.pool.name": client.context_name,
        "server.address": "127.0.0.1",
        "server.port": valkey.port,
    }
    assert (point.value, point.unit, point.bounds) == (2, "s", BUCKETS)


def test_a_duration_is_in_seconds(valkey: Server, connect: Connect) -> None:
    client = connect(valkey.url)
    started = time.perf_counter()
    client.blpop("empty", timeout=0.2)
    assert 0.15 < duration_of(client).seconds <= time.perf_counter() - started


def test_a_pipeline_is_one_operation(valkey: Server, connect: Connect) -> None:
    client = connect(valkey.url)
    with client.pipeline("name", transaction=False) as pipeline:
        pipeline.get("a").get("b").execute()
    assert told(duration_of(client)) == {"db.operation.name": "PIPELINE GET"}
    assert duration_of(client).value == 1


def test_a_transaction_is_one_operation(valkey: Server, connect: Connect) -> None:
    client = connect(valkey.url)
    with client.pipeline() as pipeline:
        pipeline.set("a", 1).get("b").execute()
    assert told(duration_of(client)) == {"db.operation.name": "MULTI"}


def test_a_servers_error_is_told_of(valkey: Server, connect: Connect) -> None:
    client = connect(valkey.url)
    client.set("text", "x")
    with pytest.raises(redis.ResponseError):
        client.lpush("text", "x")
    points = Collected().of(DURATION, client.context_name)
    assert [told(point) for point in points] == [
        {"db.operation.name": "SET"},
        {
            "db.operation.name": "LPUSH",
            "error.type": "redis.exceptions.ResponseError",
            "db.response.status_code": "WRONGTYPE",
        },
    ]


def test_a_server_that_is_down_is_told_of(mortal: Server, connect: Connect) -> None:
    client = connect(mortal.url)
    mortal.kill()
    with pytest.raises(redis.ConnectionError):
        client.get("key")
    assert told(duration_of(client)) == {
        "db.operation.name": "GET",
        "error.type": "redis.exceptions.ConnectionError",
    }


def test_an_exhausted_pool_is_told_of(valkey: Server, connect: Connect) -> None:
    client = connect(valkey.url, max_connections="1", pool_timeout="0 seconds")
    held = client.connection_pool.get_connection()
    with pytest.raises(PoolTimeoutError):
        client.get("key")
    client.connection_pool.release(held)
    assert told(duration_of(client)) == {
        "db.operation.name": "GET",
        "error.type": "pyramid_baseplate_redis.exceptions.PoolTimeoutError",
    }


def test_a_failure_among_the_results_of_a_pipeline_is_one(valkey: Server, connect: Connect) -> None:
    client = connect(valkey.url)
    with client.pipeline(transaction=False) as pipeline:
        pipeline.set("text", "x").lpush("text", "x").execute(raise_on_error=False)
    assert told(duration_of(client)) == {
        "db.operation.name": "PIPELINE",
        "error.type": "redis.exceptions.ResponseError",
        "db.response.status_code": "WRONGTYPE",
    }


def test_a_watched_key_that_has_changed_is_no_failure(valkey: Server, connect: Connect) -> None:
    client = connect(valkey.url)
    with client.pipeline() as pipeline:
        pipeline.watch("key")
        client.set("key", "changed")
        pipeline.multi()
        with pytest.raises(redis.WatchError):
            pipeline.get("key").execute()
    points = Collected().of(DURATION, client.context_name)
    assert {"db.operation.name": "MULTI GET"} in [told(point) for point in points]


def test_a_script_that_redis_py_loads_is_no_failure(valkey: Server, connect: Connect) -> None:
    client = connect(valkey.url)
    client.script_flush()
    client.register_script("return 1")()
    points = [told(each) for each in Collected().of(DURATION, client.context_name)]
    assert {"db.operation.name": "EVALSHA", "db.response.status_code": "NOSCRIPT"} in points
    assert not [point for point in points if "error.type" in point]


def test_a_message_that_was_waited_for_is_one_operation(valkey: Server, connect: Connect) -> None:
    client = connect(valkey.url)
    MessageQueue("jobs", client).put("message")
    MessageQueue("jobs", client).get(timeout=5)
    points = Collected().of(DURATION, client.context_name)
    assert [told(point)["db.operation.name"] for point in points] == ["RPUSH", "BLPOP"]


def test_the_time_for_a_message_is_that_of_waiting(valkey: Server, connect: Connect) -> None:
    client = connect(valkey.url)
    later = threading.Timer(0.3, redis.Redis(port=valkey.port).rpush, ("jobs", "message"))
    later.start()
    client.message_queue("jobs").get(timeout=10)
    later.join()
    assert duration_of(client).seconds >= 0.25


@pytest.mark.parametrize(
    "settings", [{"trace": "off"}, {"trace_exclude": "GET"}, {"trace": "pipelines"}], ids=str
)
def test_what_has_no_span_has_a_duration(
    valkey: Server, connect: Connect, spans: RecordedSpans, settings: dict[str, str]
) -> None:
    client = connect(valkey.url, **settings)
    client.get("key")
    assert not spans.names
    assert duration_of(client).value == 1


def test_where_instrumentation_is_suppressed_nothing_is_recorded(
    valkey: Server, connect: Connect
) -> None:
    client = connect(valkey.url)
    with suppress_instrumentation():
        client.get("key")
        client.pipeline().get("key").execute()
    assert Collected().of(DURATION, client.context_name) == []


def test_a_client_without_metrics_has_none(valkey: Server, connect: Connect) -> None:
    client = connect(valkey.url, metrics="false")
    client.get("key")
    client.pipeline().get("key").execute()
    collected = Collected()
    assert not [name for name in collected.points if collected.of(name, client.context_name)]


def test_a_histogram_that_fails_doesnt_break_the_command(
    valkey: Server, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def record(self, *args: Any) -> None:
            raise RuntimeError("broken")

    for name in ("_duration", "_wait_time", "_use_time", "_create_time"):
        monkeypatch.setattr(metrics_module, name, Broken())
    client = connect(valkey.url)
    assert client.set("key", "value") is True
    assert client.get("key") == b"value"


def test_what_cant_be_measured_doesnt_break_the_command(
    valkey: Server, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(metrics_module, "record_operation", broken)
    assert connect(valkey.url).set("key", "value") is True


def test_the_node_of_a_cluster_that_answered_is_told(cluster: Cluster, connect: Connect) -> None:
    client = connect(cluster.url)
    client.get("key")
    node = client.get_node_from_key("key")
    (point,) = [
        each
        for each in Collected().of(DURATION, client.context_name)
        if each.attributes["db.operation.name"] == "GET"
    ]
    assert point.attributes["server.port"] == node.port


def test_the_server_behind_sentinel_is_told(sentinels: SentinelSet, connect: Connect) -> None:
    client = connect(sentinels.url)
    client.get("key")
    assert duration_of(client).attributes["server.port"] == sentinels.primary().port


def test_durations_are_right_under_threads(valkey: Server, connect: Connect) -> None:
    client = connect(valkey.url, max_connections="3")

    def work() -> None:
        for _ in range(50):
            client.get("key")
            with suppress(redis.ResponseError):
                client.execute_command("GET")

    in_threads(*[work] * 8)
    points = Collected().of(DURATION, client.context_name)
    assert sorted((len(told(point)), point.value) for point in points) == [(1, 400), (3, 400)]


# What pools do


def test_the_figures_of_a_clients_pool_are_collected(valkey: Server, connect: Connect) -> None:
    client = connect(valkey.url, max_connections="2", pool_timeout="0 seconds")
    pool = client.connection_pool
    held, other = pool.get_connection(), pool.get_connection()
    with pytest.raises(PoolTimeoutError):
        pool.get_connection()
    pool.release(other)
    assert Collected().stats(client.context_name) == {
        "count idle": (1, "{connection}"),
        "count used": (1, "{connection}"),
        "max": (2, "{connection}"),
        "pending_requests": (0, "{request}"),
        "timeouts": (1, "{timeout}"),
    }
    pool.release(held)


def test_who_waits_for_a_connection_is_counted(valkey: Server, connect: Connect) -> None:
    client = connect(valkey.url, max_connections="1", pool_timeout="20 seconds")
    held = client.connection_pool.get_connection()
    waiting = threading.Thread(target=client.get, args=("key",))
    waiting.start()
    wait_until(lambda: client.connection_pool.stats.waiting == 1)
    assert Collected().stats(client.context_name)["pending_requests"] == (1, "{request}")
    client.connection_pool.release(held)
    waiting.join()
    assert Collected().stats(client.context_name)["pending_requests"] == (0, "{request}")


def test_the_wait_for_a_connection_is_recorded(valkey: Server, connect: Connect) -> None:
    client = connect(valkey.url, max_connections="1", pool_timeout="20 seconds")
    held = client.connection_pool.get_connection()
    waiting = threading.Thread(target=client.get, args=("key",))
    waiting.start()
    time.sleep(0.2)
    client.connection_pool.release(held)
    waiting.join()
    point = Collected().one(WAIT_TIME, client.context_name)
    assert point.attributes == {"db.client.connection.pool.name": client.context_name}
    assert (point.value, point.unit, point.bounds) == (2, "s", BUCKETS)
    assert point.seconds >= 0.1


def test_the_use_of_a_connection_is_recorded(valkey: Server, connect: Connect) -> None:
    client = connect(valkey.url)
    held = client.connection_pool.get_connection()
    time.sleep(0.2)
    client.connection_pool.release(held)
    point = Collected().one(USE_TIME, client.context_name)
    assert point.attributes == {"db.client.connection.pool.name": client.context_name}
    assert (point.value, point.unit, point.bounds) == (1, "s", BUCKETS)
    assert point.seconds >= 0.15


def test_a_connection_that_is_made_is_recorded_once(valkey: Server, connect: Connect) -> None:
    client = connect(valkey.url)
    client.get("key")
    client.get("key")
    point = Collected().one(CREATE_TIME, client.context_name)
    assert point.attributes == {"db.client.connection.pool.name": client.context_name}
    assert (point.value, point.unit, point.bounds) == (1, "s", BUCKETS)


def test_a_connection_that_was_lost_and_is_made_anew_is_recorded(
    mortal: Server, connect: Connect
) -> None:
    client = connect(mortal.url)
    client.get("key")
    mortal.kill()
    mortal.restart()
    client.get("key")
    assert Collected().one(CREATE_TIME, client.context_name).value == 2


def test_a_connection_that_cant_be_made_is_not_recorded(mortal: Server, connect: Connect) -> None:
    client = connect(mortal.url)
    mortal.kill()
    with pytest.raises(redis.ConnectionError):
        client.get("key")
    assert Collected().of(CREATE_TIME, client.context_name) == []
    assert Collected().of(WAIT_TIME, client.context_name) == []


def test_the_figures_are_the_servers_after_errors_under_threads(
    valkey: Server, connect: Connect
) -> None:
    client = connect(valkey.url, client_name="metered", max_connections="4")

    def work() -> None:
        for number in range(30):
            with suppress(redis.RedisError):
                if number % 3 == 0:
                    client.execute_command("GET")
                elif number % 3 == 1:
                    client.client_kill_filter(skipme=False, laddr=f"127.0.0.1:{valkey.port}")
                else:
                    client.get("key")

    in_threads(*[work] * 8)
    pool = client.connection_pool
    taken = [pool.get_connection() for _ in range(3)]
    for connection in taken:
        pool.release(connection)
    figures = Collected().stats(client.context_name)
    assert figures["count used"] == (0, "{connection}")
    assert figures["count idle"][0] == pool.stats.open
    wait_until(lambda: connections_at(valkey, pool) == pool.stats.open)


def test_the_figures_of_a_forked_process_are_its_own(valkey: Server, connect: Connect) -> None:
    client = connect(valkey.url, client_name="parent")
    pool = client.connection_pool
    held = [pool.get_connection() for _ in range(3)]
    pool.release(held.pop())

    def seen() -> tuple[Any, Any, Any, int]:
        before = Collected().stats(client.context_name)
        client.client_setname(f"child-{os.getpid()}")
        names = [each["name"] for each in client.client_list()]
        after = Collected().stats(client.context_name)
        return (
            [before[key][0] for key in ("count idle", "count used")],
            [after[key][0] for key in ("count idle", "count used")],
            pool.stats.creations,
            names.count(f"child-{os.getpid()}"),
        )

    assert in_child(seen) == ([0, 0], [1, 0], 1, 1)
    mine = Collected().stats(client.context_name)
    assert (mine["count idle"][0], mine["count used"][0]) == (1, 2)
    assert connections_at(valkey, pool) == 3
    for connection in held:
        pool.release(connection)


def test_the_nodes_of_a_cluster_are_taken_together(cluster: Cluster, connect: Connect) -> None:
    client = connect(cluster.url)
    for number in range(50):
        client.get(f"key{number}")
    collected = Collected()
    assert collected.stats(client.context_name)["count idle"][0] == len(cluster.primaries())
    assert collected.one(USE_TIME, client.context_name).value >= 50


def test_a_pool_has_the_name_that_its_spans_have() -> None:
    factory = RedisClient("cache-pool").parse("foo", {"foo.url": "redis://localhost"})
    assert Collected().stats("cache-pool")["max"] == (50, "{connection}")
    del factory


def test_a_pool_that_is_gone_is_no_longer_collected() -> None:
    RedisClient().parse("gone", {"gone.url": "redis://localhost"})
    assert Collected().stats("gone") == {}


# How long queues are


def lengths() -> dict[str, Any]:
    points = Collected().points.get("pyramid_baseplate_redis.message_queue.length", [])
    return {
        point.attributes["messaging.destination.name"]: (
            point.value,
            point.unit,
            point.attributes["messaging.system"],
        )
        for point in points
    }


@contextmanager
def app_with_queue(url: str, **settings: str) -> Iterator[tuple[Any, str]]:
    """The registry of an application, and the name of its queue, which no other test's has."""
    name = f"jobs{next(_numbers)}"
    keys = {f"foo.{key}": value for key, value in settings.items()}
    with Configurator(settings={"foo.url": url, **keys}) as config:
        config.include("pyramid_baseplate_redis")
        config.add_message_queue(name, client="foo")
    yield config.registry, name


def test_the_length_of_a_declared_queue_is_collected(server: Server) -> None:
    with app_with_queue(server.url) as (_, name):
        redis.Redis(port=server.port).rpush(name, "a", "b", "c")
        assert lengths()[name] == (3, "{message}", "redis")


def test_the_length_of_a_queue_in_a_cluster_is_collected(cluster: Cluster) -> None:
    with app_with_queue(cluster.url) as (_, name):
        address = cluster.addresses.partition(",")[0]
        redis.RedisCluster.from_url(f"redis://{address}").rpush(name, "a")
        assert lengths()[name][0] == 1


def test_the_length_is_not_known_while_the_server_is_down(mortal: Server) -> None:
    with app_with_queue(mortal.url) as (_, name):
        mortal.kill()
        assert name not in lengths()
        mortal.restart()
        assert lengths()[name][0] == 0


def test_asking_for_a_length_takes_no_connection_from_requests(valkey: Server) -> None:
    settings = {"max_connections": "1", "pool_timeout": "0 seconds"}
    with app_with_queue(valkey.url, **settings) as (registry, name):
        pool = registry.getUtility(IRedisContextFactory, "foo").connection_pool
        held = pool.get_connection()
        assert lengths()[name][0] == 0
        pool.release(held)


def test_the_queue_of_a_client_without_metrics_is_not_asked(valkey: Server) -> None:
    with app_with_queue(valkey.url, metrics="false") as (_, name):
        assert name not in lengths()


def test_a_queue_whose_application_is_gone_is_no_longer_asked(valkey: Server) -> None:
    with app_with_queue(valkey.url) as (registry, name):
        assert name in lengths()
    del registry
    gc.collect()
    assert name not in lengths()


@contextmanager
def app_with_durable_queue(url: str) -> Iterator[tuple[Any, str]]:
    name = f"jobs{next(_numbers)}"
    with Configurator(settings={"foo.url": url}) as config:
        config.include("pyramid_baseplate_redis")
        config.add_message_queue(name, client="foo", durable=True, max_attempts=1, group="own")
    with server_context(config.registry, "test") as context:
        yield getattr(context, name), name


def of_queue(collected: Collected, name: str) -> dict[str, Any]:
    """What is told of a queue, with the units."""
    prefix = "pyramid_baseplate_redis.message_queue."
    return {
        metric.removeprefix(prefix): (point.value, point.unit)
        for metric, points in collected.points.items()
        for point in points
        if point.attributes.get("messaging.destination.name") == name and metric.startswith(prefix)
    }


def test_what_is_in_a_durable_queue_is_collected(server: Server) -> None:
    with app_with_durable_queue(server.url) as (queue, name):
        queue.put("dead")
        with suppress(ZeroDivisionError), queue.receive(timeout=1):
            raise ZeroDivisionError
        queue.put_many(["first", "second", "third"])
        time.sleep(0.05)
        with queue.receive(timeout=1):
            told = of_queue(Collected(), name)
    age, unit = told.pop("oldest_age")
    assert (unit, age >= 0.05, age < 60) == ("s", True, True)
    assert told == {
        "length": (3, "{message}"),
        "in_flight": (1, "{message}"),
        "dead_letters": (1, "{message}"),
    }


def test_what_is_in_an_empty_durable_queue_is_collected(valkey: Server) -> None:
    with app_with_durable_queue(valkey.url) as (_, name):
        assert of_queue(Collected(), name) == {
            "length": (0, "{message}"),
            "in_flight": (0, "{message}"),
            "oldest_age": (0, "s"),
            "dead_letters": (0, "{message}"),
        }


def test_a_durable_queue_is_asked_once_for_all_its_metrics(valkey: Server) -> None:
    gc.collect()  # the applications of other tests
    with app_with_durable_queue(valkey.url) as (_, name):
        Collected()
        with redis.Redis(port=valkey.port) as plain:
            plain.config_resetstat()
            Collected()
            calls = plain.info("commandstats")
        assert calls["cmdstat_xpending"]["calls"] == 1
        assert name in {
            point.attributes["messaging.destination.name"]
            for point in Collected().points["pyramid_baseplate_redis.message_queue.in_flight"]
        }


def test_asking_for_metrics_is_no_operation(valkey: Server, spans: RecordedSpans) -> None:
    with app_with_durable_queue(valkey.url):
        Collected()
        spans.clear()
        before = [point.value for point in Collected().points.get(DURATION, [])]
        assert [point.value for point in Collected().points.get(DURATION, [])] == before
        assert spans.names == []


def test_a_list_has_no_figures_of_a_durable_queue(valkey: Server) -> None:
    with app_with_queue(valkey.url) as (_, name):
        assert of_queue(Collected(), name) == {"length": (0, "{message}")}


# Without an SDK


def test_without_a_meter_provider_nothing_is_made(valkey: Server) -> None:
    program = f"""
        import pyramid_baseplate_redis.telemetry.operations as operations
        from pyramid_baseplate_redis import RedisClient

        def refuse(*args):
            raise AssertionError("an operation is made")

        operations.Operation.__init__ = refuse
        factory = RedisClient().parse("foo", {{"foo.url": {valkey.url!r}}})
        client = factory.make_object_for_context("foo", None)
        client.set("a", "b")
        client.pipeline().get("a").execute()
        print(client.get("a"))
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.stdout, ran.stderr) == ("b'b'\n", "")
