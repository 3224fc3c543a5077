"""Message queues and locks in a Cluster."""

from __future__ import annotations

import threading

import pytest

from pyramid_baseplate_redis import MessageQueue, MonitoredRedisClusterConnection, TimedOutError

from ..support.servers import RecordedSpans
from ..support.topologies import Cluster
from .conftest import MakeClusterClient, another, server_of


def test_a_message_queue_works(
    client: MonitoredRedisClusterConnection, spans: RecordedSpans
) -> None:
    queue = client.message_queue("jobs")
    queue.put("first")
    queue.put(b"second")
    assert (queue.get(), queue.get(timeout=0)) == (b"first", b"second")
    assert spans.names == ["foo.RPUSH", "foo.RPUSH", "foo.BLPOP", "foo.LPOP"]
    with pytest.raises(TimedOutError):
        queue.get(timeout=1)


def test_to_make_a_queue_opens_nothing(make: MakeClusterClient) -> None:
    client = make("redis+cluster://127.0.0.1:1")
    client.message_queue("jobs")
    MessageQueue("jobs", client)


def test_the_first_message_of_a_process_comes_from_the_queues_node(
    cluster: Cluster, make: MakeClusterClient, spans: RecordedSpans
) -> None:
    client = make(cluster)
    node = cluster.node_of("jobs")
    node.client.rpush("jobs", "message")
    assert client.message_queue("jobs").get(timeout=5) == b"message"
    (span,) = spans.all
    assert server_of(span) == ("127.0.0.1", node.port)


def test_a_message_is_bytes_whatever_the_client_decodes(
    cluster: Cluster, make: MakeClusterClient
) -> None:
    queue = make(cluster, decode_responses="true").message_queue("jobs")
    queue.put(b"\xff")
    assert queue.get() == b"\xff"


def test_a_queue_may_wait_for_longer_than_the_socket_timeout(
    cluster: Cluster, make: MakeClusterClient
) -> None:
    client = make(cluster, socket_timeout="1 second")
    queue = client.message_queue("jobs")
    late = threading.Timer(2.5, cluster.node_of("jobs").client.rpush, ("jobs", "late"))
    late.start()
    assert queue.get(timeout=10) == b"late"
    late.join()


def test_a_queue_follows_its_slot(
    client: MonitoredRedisClusterConnection, cluster: Cluster
) -> None:
    queue = client.message_queue("jobs")
    queue.put("moves")
    source, slot = cluster.node_of("jobs"), cluster.slot_of("jobs")
    cluster.migrate_slot(slot, source, another(cluster, source))
    assert queue.get(timeout=2) == b"moves"


def test_a_queue_takes_a_plain_client_of_a_cluster(
    client: MonitoredRedisClusterConnection,
) -> None:
    queue = MessageQueue("jobs", client.connection_pool.cluster())
    queue.put("message")
    assert queue.get(timeout=2) == b"message"


def test_a_lock_works(client: MonitoredRedisClusterConnection) -> None:
    with client.lock("nightly", timeout=5):
        assert not client.lock("nightly", timeout=5, blocking=False).acquire()
    assert client.lock("nightly", timeout=5, blocking=False).acquire()


def test_a_durable_queue_has_delayed_and_unique_messages(
    client: MonitoredRedisClusterConnection,
) -> None:
    queue = client.durable_queue("jobs")
    first = queue.put("later", delay=0.2, unique="invoice {17}")
    assert queue.put("again", unique="invoice {17}") == first
    assert queue.stats().delayed == 1
    with queue.receive(5) as message:
        assert (message.id, message.body) == (first, b"later")
        assert queue.put("again", unique="invoice {17}") == first
    assert queue.put("again", unique="invoice {17}") != first
    queue.put("more", delay=60)
    queue.unlink()
    stats = queue.stats()
    assert (stats.length, stats.delayed) == (0, 0)
    assert client.keys("{jobs}*", target_nodes=client.ALL_NODES) == []
