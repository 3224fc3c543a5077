"""The first call of a queue after a failover of a Cluster that the client has not noticed yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from opentelemetry import trace
from redis.cluster import RedisCluster

from pyramid_baseplate_redis import (
    DurableMessageQueue,
    MessageQueue,
    MonitoredRedisClusterConnection,
    TimedOutError,
    cluster_pool_from_config,
    is_retryable,
)
from pyramid_baseplate_redis.queues import raw_commands

from ..cluster.test_rerouting import keep_layout, put_dead_node
from ..support.servers import RecordedSpans
from ..support.topologies import Cluster

tracer = trace.get_tracer("tests")
STREAM = "{jobs}:messages"


@pytest.fixture
def client(cluster: Cluster) -> Iterator[MonitoredRedisClusterConnection]:
    pool = cluster_pool_from_config({"foo.url": cluster.url}, "foo.")
    client = MonitoredRedisClusterConnection("foo", None, pool)
    yield client
    assert pool.stats.in_use == 0
    pool.disconnect()


@pytest.fixture
def plain(cluster: Cluster) -> Iterator[RedisCluster]:
    with RedisCluster.from_url(cluster.nodes[0].url) as client:
        yield client


@pytest.fixture(params=["monitored", "plain"])
def either(
    request: pytest.FixtureRequest, client: MonitoredRedisClusterConnection, plain: RedisCluster
) -> RedisCluster:
    return client if request.param == "monitored" else plain


def durable(client: Any) -> DurableMessageQueue:
    return DurableMessageQueue("jobs", client, max_length=10)


CALLS: dict[str, Callable[[Any], object]] = {
    "put": lambda client: DurableMessageQueue("jobs", client).put("new"),
    "put if not full": lambda client: durable(client).put("new"),
    "put many": lambda client: DurableMessageQueue("jobs", client).put_many(["new", "newer"]),
    "receive": lambda client: durable(client).get(5),
    "stats": lambda client: durable(client).stats(),
    "pop": lambda client: MessageQueue("jobs", client).get(0),
    "wait": lambda client: MessageQueue("jobs", client).get(5),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_goes_to_the_node_that_has_taken_over(
    either: RedisCluster, call: Callable[[Any], object]
) -> None:
    durable(either).put("message")
    either.rpush("jobs", "message")
    put_dead_node(either, "jobs")
    call(either)


def test_its_one_span_counts_the_second_attempt(
    client: MonitoredRedisClusterConnection, cluster: Cluster, spans: RecordedSpans
) -> None:
    put_dead_node(client, STREAM)
    DurableMessageQueue("jobs", client).put("message")
    span = spans.one("foo.XADD")
    attributes = span.attributes or {}
    assert attributes["server.port"] == cluster.node_of(STREAM).port
    assert attributes["redis.client.operation.retry_attempts"] == 1


def test_the_second_attempt_of_a_poll_that_finds_nothing_is_not_the_next_ones(
    client: MonitoredRedisClusterConnection, plain: RedisCluster, spans: RecordedSpans
) -> None:
    queue = DurableMessageQueue("jobs", client)
    queue.put("first")
    queue.get(5)
    put_dead_node(client, STREAM)
    with pytest.raises(TimedOutError):
        queue.get(0)
    plain.xadd(STREAM, {"body": "second"})
    with tracer.start_as_current_span("consumer"):
        queue.get(5)
    span = spans.one("foo.XREADGROUP")
    assert "redis.client.operation.retry_attempts" not in (span.attributes or {})


@pytest.mark.parametrize("call", [CALLS["put"], CALLS["pop"]], ids=["put", "pop"])
def test_a_dead_node_that_the_layout_still_names_is_tried_once(
    client: MonitoredRedisClusterConnection,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[Any], object],
) -> None:
    dead = put_dead_node(client, "jobs")
    refreshed_without = keep_layout(client, monkeypatch)
    with pytest.raises(redis.ConnectionError, match="Connection refused") as caught:
        call(client)
    assert refreshed_without == [dead.name]
    assert is_retryable(caught.value) is True


def test_a_put_whose_reply_was_lost_is_not_repeated(
    either: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = DurableMessageQueue("jobs", either)

    send = raw_commands._replies

    def lose_reply(*args: Any) -> Any:
        send(*args)
        raise redis.ConnectionError("lost")

    with monkeypatch.context() as patch:
        patch.setattr(raw_commands, "_replies", lose_reply)
        # The refreshed layout names another node, as if a replica had taken over.
        patch.setattr(either.nodes_manager, "initialize", lambda **_: put_dead_node(either, "jobs"))
        with pytest.raises(redis.ConnectionError, match="lost") as lost:
            queue.put("message")
    assert is_retryable(lost.value) is None
    assert queue.stats().length == 1


def test_a_missing_slot_is_an_error_once(client: MonitoredRedisClusterConnection) -> None:
    queue = DurableMessageQueue("jobs", client)
    queue.put("message")
    del client.nodes_manager.slots_cache[client.keyslot(STREAM)]
    with pytest.raises(redis.exceptions.SlotNotCoveredError):
        queue.stats()
    assert queue.stats().length == 1
