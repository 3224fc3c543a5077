"""A list queue whose slot moves to another node of the Cluster while a consumer waits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis.cluster import RedisCluster

from pyramid_baseplate_redis import (
    MessageQueue,
    MonitoredRedisClusterConnection,
    TimedOutError,
    cluster_pool_from_config,
)

from ..support.servers import RecordedSpans, wait_until
from ..support.topologies import Cluster, Node


@pytest.fixture
def client(cluster: Cluster) -> Iterator[MonitoredRedisClusterConnection]:
    pool = cluster_pool_from_config({"foo.url": cluster.url}, "foo.")
    client = MonitoredRedisClusterConnection("foo", None, pool)
    yield client
    assert pool.stats.in_use == 0
    pool.disconnect()


def move(cluster: Cluster) -> tuple[int, Node, Node]:
    """Return the queue's slot, the node that has it, and one to which it may move."""
    source = cluster.node_of("jobs")
    target = next(node for node in cluster.primaries() if node is not source)
    return cluster.slot_of("jobs"), source, target


def wait_until_blocked(node: Node) -> None:
    wait_until(lambda: node.client.info("clients")["blocked_clients"])


@pytest.mark.parametrize("monitored", [True, False], ids=["monitored", "plain"])
def test_a_waiting_consumer_follows_its_slot(
    client: MonitoredRedisClusterConnection, cluster: Cluster, monitored: bool
) -> None:
    slot, source, target = move(cluster)
    with RedisCluster.from_url(source.url) as plain, ThreadPoolExecutor(1) as threads:
        queue = MessageQueue("jobs", client if monitored else plain)
        waiting = threads.submit(queue.get, 20)
        wait_until_blocked(source)
        cluster.migrate_slot(slot, source, target)
        client.message_queue("jobs").put("message")
        assert waiting.result(20) == b"message"


def test_a_consumer_waits_at_the_node_to_which_its_slot_is_moving(
    client: MonitoredRedisClusterConnection, cluster: Cluster, spans: RecordedSpans
) -> None:
    slot, source, target = move(cluster)
    cluster.begin_migration(slot, source, target)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.message_queue("jobs").get, 20)
        wait_until_blocked(target)
        client.message_queue("jobs").put("message")
        assert waiting.result(20) == b"message"
    cluster.finish_migration(slot, source, target)
    assert sorted(spans.names) == ["foo.BLPOP", "foo.RPUSH"]


@pytest.mark.slow("waits for 3 seconds")
def test_a_redirection_does_not_make_the_wait_longer(
    client: MonitoredRedisClusterConnection, cluster: Cluster
) -> None:
    slot, source, target = move(cluster)
    started = time.monotonic()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.message_queue("jobs").get, 3)
        wait_until_blocked(source)
        time.sleep(2)
        cluster.migrate_slot(slot, source, target)
        with pytest.raises(TimedOutError):
            waiting.result(10)
    assert 2.9 < time.monotonic() - started < 4.5
