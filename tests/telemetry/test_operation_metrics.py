"""The duration of operations, as a metric reader collects it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import redis
from opentelemetry.instrumentation.utils import suppress_instrumentation

from pyramid_baseplate_redis import MessageQueue, PoolTimeoutError
from pyramid_baseplate_redis.telemetry import metrics as metrics_module

from ..faults.helpers import in_threads
from ..support.metrics import BUCKETS, DURATION, Collected, Connect, duration_of, told
from ..support.servers import RecordedSpans, Server, attributes
from ..support.topologies import Cluster, SentinelSet

pytestmark = pytest.mark.usefixtures("provider")


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


@pytest.mark.parametrize("transaction", [True, False])
def test_a_pipeline_of_one_command_is_measured_as_that_command(
    valkey: Server, connect: Connect, transaction: bool
) -> None:
    client = connect(valkey.url)
    client.get("a")
    client.pipeline("name", transaction).get("a").execute()
    assert duration_of(client).value == 2


def made_up(client: Any, name: str) -> None:
    with suppress(redis.ResponseError):
        client.execute_command(name)


def made_up_in_a_pipeline(client: Any, name: str) -> None:
    with client.pipeline(transaction=False) as pipeline, suppress(redis.ResponseError):
        pipeline.execute_command(name).execute_command(name).execute()


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (made_up, {"other", "GET", "CONFIG"}),
        (made_up_in_a_pipeline, {"PIPELINE other", "PIPELINE GET", "PIPELINE CONFIG"}),
    ],
)
def test_made_up_commands_share_one_name(
    valkey: Server, connect: Connect, call: Callable[[Any, str], None], names: set[str]
) -> None:
    client = connect(valkey.url)
    for name in (*(f"made.up{number}" for number in range(5)), "GET", "CONFIG NOTHING"):
        call(client, name)
    points = Collected().of(DURATION, client.context_name)
    assert {told(point)["db.operation.name"] for point in points} == names
    assert len(points) == 3


def test_a_made_up_command_keeps_its_name_on_the_span(
    valkey: Server, connect: Connect, spans: RecordedSpans
) -> None:
    client = connect(valkey.url)
    made_up(client, "made.up")
    assert attributes(spans.all[0])["db.operation.name"] == "MADE.UP"


def test_a_transaction_is_one_operation(valkey: Server, connect: Connect) -> None:
    client = connect(valkey.url)
    with client.pipeline() as pipeline:
        pipeline.set("a", 1).get("b").execute()
    assert told(duration_of(client)) == {"db.operation.name": "MULTI"}


def test_a_servers_error_is_reported(valkey: Server, connect: Connect) -> None:
    client = connect(valkey.url)
    client.set("text", "x")
    with pytest.raises(redis.ResponseError):
        client.lpush("text", "x")
    points = Collected().of(DURATION, client.context_name)
    assert [told(point) for point in points] == [
        {"db.operation.name": "SET"},
        {
            "db.operation.name": "LPUSH",
            "error.type": "WRONGTYPE",
            "db.response.status_code": "WRONGTYPE",
        },
    ]


def test_a_server_that_is_down_is_reported(mortal: Server, connect: Connect) -> None:
    client = connect(mortal.url)
    mortal.kill()
    with pytest.raises(redis.ConnectionError):
        client.get("key")
    assert told(duration_of(client)) == {
        "db.operation.name": "GET",
        "error.type": "redis.exceptions.ConnectionError",
    }


def test_an_exhausted_pool_is_reported(valkey: Server, connect: Connect) -> None:
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
        "error.type": "WRONGTYPE",
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
    assert {"db.operation.name": "GET"} in [told(point) for point in points]


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


def test_the_node_of_a_cluster_that_answered_is_reported(
    cluster: Cluster, connect: Connect
) -> None:
    client = connect(cluster.url)
    client.get("key")
    node = client.get_node_from_key("key")
    (point,) = [
        each
        for each in Collected().of(DURATION, client.context_name)
        if each.attributes["db.operation.name"] == "GET"
    ]
    assert point.attributes["server.port"] == node.port


def test_the_server_behind_sentinel_is_reported(sentinels: SentinelSet, connect: Connect) -> None:
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
