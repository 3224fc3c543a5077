"""Durable queues on a Cluster and behind Sentinel: slots and primaries change, nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import (
    ClusterConnectionPool,
    ClusterRedisContextFactory,
    DurableMessageQueue,
    MonitoredRedisClusterConnection,
    MonitoredRedisConnection,
    QueueFullError,
    RedisContextFactory,
    TimedOutError,
    cluster_pool_from_config,
    sentinel_pool_from_config,
)

from ..faults.helpers import in_child
from ..support.servers import RecordedSpans, wait_until
from ..support.topologies import Cluster, Node, SentinelSet

STREAM = "{jobs}:messages"


class HandlerError(Exception):
    """Why processing fails here."""


def fail(queue: DurableMessageQueue) -> None:
    with pytest.raises(HandlerError), queue.receive(5):
        raise HandlerError


@pytest.fixture
def make(cluster: Cluster) -> Iterator[Callable[..., MonitoredRedisClusterConnection]]:
    """Make the client ``foo`` of the Cluster."""
    pools: list[ClusterConnectionPool] = []

    def make(**settings: str) -> MonitoredRedisClusterConnection:
        own = {f"foo.{key}": value for key, value in settings.items()}
        pools.append(cluster_pool_from_config({"foo.url": cluster.url, **own}, "foo."))
        return ClusterRedisContextFactory(pools[-1], "foo").make_object_for_context("foo", None)

    yield make
    for pool in pools:
        pool.disconnect()


@pytest.fixture
def queue(make: Callable[..., MonitoredRedisClusterConnection]) -> DurableMessageQueue:
    client = make(socket_timeout="1 second")
    return client.durable_queue("jobs", max_attempts=2, max_length=5, backoff=None)


def other_node(cluster: Cluster) -> tuple[int, Node, Node]:
    """The queue's slot, the node that has it, and one that it may move to."""
    source = cluster.node_of(STREAM)
    target = next(node for node in cluster.primaries() if node is not source)
    return cluster.slot_of(STREAM), source, target


def test_a_queue_works_on_a_cluster(queue: DurableMessageQueue) -> None:
    queue.put_many(["a", "b"])
    queue.put("c")
    with pytest.raises(QueueFullError):
        queue.put_many(["d", "e", "f"])
    assert queue.get(5) == b"a"
    fail(queue)
    fail(queue)
    assert (queue.stats().length, queue.stats().dead) == (1, 1)
    assert queue.replay() == 1
    assert (queue.get(5), queue.get(5)) == (b"c", b"b")
    with pytest.raises(TimedOutError):
        queue.get(1.5)
    queue.unlink()


def test_a_plain_client_of_a_cluster_will_do(
    make: Callable[..., MonitoredRedisClusterConnection],
) -> None:
    queue = DurableMessageQueue("jobs", make().connection_pool.cluster())
    queue.put("job")
    assert queue.get(5) == b"job"


def test_a_command_is_one_span_with_the_nodes_address(
    queue: DurableMessageQueue, cluster: Cluster, spans: RecordedSpans
) -> None:
    queue.client.durable_queue("jobs").put("job")
    span = spans.one("foo.XADD")
    assert spans.parent_of(span) is spans.one("send jobs")
    assert (span.attributes or {})["server.port"] == cluster.node_of(STREAM).port


def test_a_queue_follows_its_slot(queue: DurableMessageQueue, cluster: Cluster) -> None:
    queue.put_many(["a", "b", "c"])
    with queue.receive(5) as message:
        cluster.migrate_slot(*other_node(cluster))
        message.extend()
    fail(queue)
    fail(queue)
    assert queue.get(5) == b"c"
    assert [letter.body for letter in queue.dead_letters()] == [b"b"]


def test_a_queue_works_while_its_slot_moves(queue: DurableMessageQueue, cluster: Cluster) -> None:
    slot, source, target = other_node(cluster)
    queue.put_many(["a", "b"])
    cluster.begin_migration(slot, source, target)
    assert queue.get(5) == b"a"
    cluster.move_keys(slot, source, target)
    queue.put("c")
    assert (queue.get(5), queue.get(5)) == (b"b", b"c")
    cluster.finish_migration(slot, source, target)
    queue.put("d")
    assert queue.get(5) == b"d"


def test_a_consumer_that_waits_while_the_slot_moves_gets_the_next_message(
    queue: DurableMessageQueue, cluster: Cluster
) -> None:
    slot, source, target = other_node(cluster)
    queue.put("first")
    queue.get(5)
    got: list[bytes] = []
    waiting = threading.Thread(target=lambda: got.append(queue.get(30)), daemon=True)
    waiting.start()
    wait_until(lambda: source.client.info("clients")["blocked_clients"])
    cluster.migrate_slot(slot, source, target)
    queue.client.durable_queue("jobs").put("job")
    waiting.join(30)
    assert got == [b"job"]


def test_a_forked_process_has_connections_of_its_own(queue: DurableMessageQueue) -> None:
    queue.put("job")
    consumer = queue.consumer

    def receive() -> tuple[bytes, bool]:
        return queue.get(5), queue.consumer == consumer

    assert in_child(receive) == (b"job", False)
    queue.put("another")
    assert queue.get(5) == b"another"


# Behind Sentinel


@pytest.fixture
def foo(sentinels: SentinelSet) -> Iterator[MonitoredRedisConnection]:
    pool = sentinel_pool_from_config({"foo.url": sentinels.url}, "foo.")
    yield RedisContextFactory(pool, "foo").make_object_for_context("foo", None)
    pool.disconnect()


def test_a_queue_survives_a_failover(foo: MonitoredRedisConnection, sentinels: SentinelSet) -> None:
    queue = foo.durable_queue("jobs")
    queue.put_many(["a", "b"])
    sentinels.primary().client.wait(1, 5000)
    got: list[Any] = []

    def receive_all() -> None:
        while len(got) < 3:
            with queue.receive() as message:
                got.append(message.body)

    old = sentinels.failover()
    sentinels.wait_for_new_primary(old.port)
    receiving = threading.Thread(target=receive_all, daemon=True)
    receiving.start()

    def put() -> bool:
        try:
            queue.put("c")
        except redis.RedisError:
            return False
        return True

    wait_until(put, 20)
    receiving.join(30)
    assert got == [b"a", b"b", b"c"]


def test_a_consumer_keeps_its_message_after_a_failover(
    foo: MonitoredRedisConnection, sentinels: SentinelSet
) -> None:
    queue = foo.durable_queue("jobs")
    queue.put("job")
    with queue.receive(5) as message:
        sentinels.primary().client.wait(1, 5000)
        old = sentinels.failover()
        sentinels.wait_for_new_primary(old.port)
        wait_until(lambda: _extended(message), 20)
    assert queue.stats().length == 0


def _extended(message: Any) -> bool:
    try:
        message.extend()
    except redis.RedisError:
        return False
    return True
