"""A Cluster's transactions that watch keys, while slots move and connections are lost."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import redis
from opentelemetry.trace import INVALID_SPAN, StatusCode

from pyramid_baseplate_redis import MonitoredRedisClusterConnection, cluster_pool_from_config

from ..support.servers import RecordedSpans
from ..support.topologies import Cluster
from .conftest import another, losing_replies


def increment(pipeline: Any) -> None:
    value = int(pipeline.get("{foo}n") or 0)
    pipeline.multi()
    pipeline.set("{foo}n", value + 1)
    pipeline.get("{foo}n")


def test_a_transaction_with_watch_has_a_span_for_each_step(
    client: MonitoredRedisClusterConnection, cluster: Cluster, spans: RecordedSpans
) -> None:
    assert client.transaction(increment, "{foo}n", name="increment") == [True, b"1"]
    assert spans.names == ["foo.WATCH", "foo.GET", "foo.pipeline_increment"]
    port = cluster.node_of("{foo}n").port
    assert [span.attributes["server.port"] for span in spans.all] == [port] * 3
    assert spans.all[2].attributes["db.operation.name"] == "MULTI"
    assert spans.all[2].attributes["db.operation.batch.size"] == 2


def test_a_transaction_is_tried_again_until_no_other_client_interferes(
    client: MonitoredRedisClusterConnection,
) -> None:
    other = client.bound_to(INVALID_SPAN)
    interfering = iter([True, False])

    def interfered(pipeline: Any) -> None:
        if next(interfering):
            other.set("{foo}n", 10)
        increment(pipeline)

    client.set("{foo}n", 1)
    assert client.transaction(interfered, "{foo}n") == [True, b"11"]


def test_a_changed_key_is_no_failure_to_the_span(
    client: MonitoredRedisClusterConnection, spans: RecordedSpans
) -> None:
    pipeline = client.pipeline(transaction=True)
    pipeline.watch("foo")
    client.set("foo", "changed")
    pipeline.multi()
    pipeline.set("foo", "mine")
    with pytest.raises(redis.WatchError):
        pipeline.execute()
    assert spans.all[-1].status.status_code is StatusCode.UNSET


def test_a_transaction_follows_a_moved_slot(
    client: MonitoredRedisClusterConnection, cluster: Cluster, spans: RecordedSpans
) -> None:
    client.set("foo", 1)
    source, slot = cluster.node_of("foo"), cluster.slot_of("foo")
    cluster.migrate_slot(slot, source, another(cluster, source))
    spans.clear()
    assert client.pipeline(transaction=True).incr("foo").execute() == [2]
    assert spans.names == ["foo.pipeline"]


def test_a_slot_that_moves_while_a_key_is_watched_is_a_watch_error(
    client: MonitoredRedisClusterConnection, cluster: Cluster
) -> None:
    client.set("foo", 1)
    source = cluster.node_of("foo")
    pipeline = client.pipeline(transaction=True)
    pipeline.watch("foo")
    cluster.migrate_slot(cluster.slot_of("foo"), source, another(cluster, source))
    with pytest.raises(redis.WatchError):  # where it is now, nobody watches it
        pipeline.get("foo")
    assert client.connection_pool.stats.in_use == 0


def test_a_transaction_whose_slot_moves_while_it_reads_is_tried_again(
    client: MonitoredRedisClusterConnection, cluster: Cluster
) -> None:
    client.set("{foo}n", 1)
    moves = [another(cluster, cluster.node_of("{foo}n"))]
    others = [5]

    def interfered(pipeline: Any) -> None:
        if moves:
            source, slot = cluster.node_of("{foo}n"), cluster.slot_of("{foo}n")
            cluster.migrate_slot(slot, source, moves.pop())
        value = int(pipeline.get("{foo}n"))
        if others:
            cluster.node_of("{foo}n").client.set("{foo}n", others.pop())
        pipeline.multi()
        pipeline.set("{foo}n", value + 1)

    client.transaction(interfered, "{foo}n")
    assert client.get("{foo}n") == b"6"


@pytest.mark.parametrize("ends", ["executed", "reset", "refused"])
def test_a_transaction_outlives_a_node_that_leaves_and_comes_back(
    client: MonitoredRedisClusterConnection, cluster: Cluster, ends: str
) -> None:
    client.set("foo", 1)
    pipeline = client.pipeline(transaction=True)
    pipeline.watch("foo")
    left = client.get_node_from_key("foo")
    manager = client.nodes_manager
    manager.nodes_cache = {k: node for k, node in manager.nodes_cache.items() if k != left.name}
    manager.initialize()
    pipeline.multi()
    pipeline.incr("foo")
    if ends == "executed":
        assert pipeline.execute() == [2]
    elif ends == "refused":
        source = cluster.node_of("foo")
        cluster.migrate_slot(cluster.slot_of("foo"), source, another(cluster, source))
        with pytest.raises(redis.WatchError):
            pipeline.execute()
    pipeline.reset()
    assert left.redis_connection.connection_pool.stats.in_use == 0


@pytest.mark.parametrize("moved", [["{foo}1", "{foo}2"], ["{foo}1"]])
def test_a_transaction_waits_while_its_slot_migrates(
    client: MonitoredRedisClusterConnection, cluster: Cluster, moved: list[str]
) -> None:
    for name in ("{foo}1", "{foo}2"):
        client.set(name, name)
    source, slot = cluster.node_of("{foo}1"), cluster.slot_of("{foo}1")
    target = another(cluster, source)
    cluster.begin_migration(slot, source, target)
    cluster.move_keys(slot, source, target, *moved)  # ASK with both, else TRYAGAIN
    later = threading.Timer(0.1, cluster.finish_migration, (slot, source, target))
    later.start()
    pipeline = client.pipeline(transaction=True)
    pipeline.execute_command("MGET", "{foo}1", "{foo}2")
    assert pipeline.execute() == [[b"{foo}1", b"{foo}2"]]
    later.join()


def test_a_transaction_in_a_slot_that_migrates_sends_no_command_elsewhere(
    client: MonitoredRedisClusterConnection, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.set("foo", "bar")
    source, slot = cluster.node_of("foo"), cluster.slot_of("foo")
    target = another(cluster, source)
    cluster.begin_migration(slot, source, target)
    cluster.move_keys(slot, source, target, "foo")
    monkeypatch.setattr("redis.retry.sleep", lambda seconds: None)
    with pytest.raises(redis.exceptions.AskError):
        client.pipeline(transaction=True).get("foo").execute()
    assert client.nodes_manager.get_node_from_slot(slot).port == source.port
    cluster.finish_migration(slot, source, target)


def test_a_transaction_that_is_refused_while_it_watches_is_not_executed_unguarded(
    client: MonitoredRedisClusterConnection, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("{foo}1", "{foo}2"):
        client.set(name, name)
    source, slot = cluster.node_of("{foo}1"), cluster.slot_of("{foo}1")
    target = another(cluster, source)
    cluster.begin_migration(slot, source, target)
    cluster.move_keys(slot, source, target, "{foo}1")
    pipeline = client.pipeline(transaction=True)
    pipeline.watch("{foo}2")
    pipeline.multi()
    pipeline.execute_command("MSET", "{foo}1", "mine", "{foo}2", "mine")
    waits: list[float] = []
    monkeypatch.setattr("redis.retry.sleep", waits.append)
    with pytest.raises(redis.exceptions.TryAgainError):
        pipeline.execute()
    assert not waits
    cluster.finish_migration(slot, source, target)


@pytest.mark.parametrize("loses", ["a reply", "its connection"])
def test_a_transaction_that_lost_its_connection_watches_no_longer(
    client: MonitoredRedisClusterConnection,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    loses: str,
) -> None:
    client.set("foo", 1)
    pipeline = client.pipeline(transaction=True)
    pipeline.watch("foo")
    if loses == "a reply":
        lost = losing_replies(client, cluster.node_of("foo"), monkeypatch)
        with pytest.raises(redis.ConnectionError):
            pipeline.get("foo")
        lost.clear()
    else:
        pipeline.connection.disconnect()
    client.set("foo", "somebody else's")
    pipeline.multi()
    pipeline.set("foo", 2)
    with pytest.raises(redis.WatchError, match="lost"):
        pipeline.execute()
    assert client.get("foo") == b"somebody else's"


def test_a_transaction_gives_its_connection_back(
    client: MonitoredRedisClusterConnection,
) -> None:
    client.transaction(increment, "{foo}n")
    with pytest.raises(ZeroDivisionError):
        client.transaction(lambda pipeline: 1 / 0, "{foo}n")
    assert client.connection_pool.stats.in_use == 0


def test_what_a_request_leaves_open_is_given_back(
    client: MonitoredRedisClusterConnection, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = client.pipeline(transaction=True)
    pipeline.watch("foo")
    subscriber = client.pubsub()
    subscriber.subscribe("channel")
    assert client.connection_pool.stats.in_use == 2
    client.give_back()
    assert client.connection_pool.stats.in_use == 0
    assert "MonitoredRedisClusterPipeline was left open" in caplog.text


def test_a_transaction_watches_on_connections_of_the_applications_own(cluster: Cluster) -> None:
    pool = cluster_pool_from_config(
        {"foo.url": cluster.url},
        "foo.",
        connection_class=lambda **keywords: redis.Connection(**keywords),
    )
    client = MonitoredRedisClusterConnection("foo", None, pool)
    client.set("{foo}n", 4)
    assert client.transaction(increment, "{foo}n", name="increment") == [True, b"5"]
    pool.disconnect()
