"""The Clusters and Sentinel sets that other tests stand on are what they say, to plain redis-py."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import AskError, MovedError
from redis.retry import Retry
from redis.sentinel import Sentinel

from ..support.topologies import Cluster, Node, SentinelSet

pytestmark = pytest.mark.slow("starts Clusters and Sentinel sets, and waits for failovers")


def another(cluster: Cluster, source: Node) -> Node:
    """A primary to migrate slots to."""
    return next(node for node in cluster.primaries() if node is not source)


def test_a_cluster_has_three_primaries_with_a_replica_each(cluster: Cluster) -> None:
    primaries = cluster.primaries()
    assert len(primaries) == 3
    assert sorted(len(cluster.replicas(primary)) for primary in primaries) == [1, 1, 1]
    assert len(cluster.replicas()) == 3


def test_a_cluster_takes_keys_wherever_they_belong(cluster: Cluster) -> None:
    nodes = [ClusterNode(node.host, node.port) for node in cluster.nodes]
    with RedisCluster(startup_nodes=nodes) as client:
        for number in range(20):
            client.set(f"key:{number}", number)
    for number in range(20):
        assert cluster.node_of(f"key:{number}").client.get(f"key:{number}") == str(number)


def test_a_cluster_is_emptied_for_each_test(cluster: Cluster) -> None:
    assert [node.client.dbsize() for node in cluster.nodes] == [0] * 6


def test_a_replica_takes_over_from_a_killed_primary_which_comes_back_as_one(
    cluster: Cluster,
) -> None:
    old = cluster.node_of("foo")
    (heir,) = cluster.replicas(old)
    old.client.set("foo", "kept")
    assert old.client.wait(1, 1000) == 1
    old.kill()
    cluster.wait_for_new_primary(old)
    assert cluster.node_of("foo") is heir
    assert heir.client.get("foo") == "kept"
    old.restart()
    cluster.wait_until_healthy()
    assert old in cluster.replicas(heir)


def test_a_replica_takes_over_from_a_frozen_primary(cluster: Cluster) -> None:
    old = cluster.node_of("foo")
    old.freeze()
    cluster.wait_for_new_primary(old)
    assert cluster.node_of("foo") is not old
    old.thaw()
    cluster.wait_until_healthy()
    assert old in cluster.replicas()


def test_a_cluster_is_mended_for_each_test(cluster: Cluster) -> None:
    source, slot = cluster.node_of("foo"), cluster.slot_of("foo")
    cluster.begin_migration(slot, source, another(cluster, source))
    cluster.replicas()[0].kill()
    cluster.replicas()[0].freeze()
    cluster.tidy()
    assert cluster.is_healthy()
    assert source.client.get("foo") is None


def test_a_slot_that_moved_is_answered_with_moved(cluster: Cluster) -> None:
    source, slot = cluster.node_of("foo"), cluster.slot_of("foo")
    target = another(cluster, source)
    source.client.set("foo", "moves")
    cluster.migrate_slot(slot, source, target)
    with pytest.raises(MovedError) as moved:
        source.client.get("foo")
    assert (moved.value.slot_id, moved.value.port) == (slot, target.port)
    assert cluster.node_of("foo") is target
    assert target.client.get("foo") == "moves"


def test_keys_left_behind_are_lost(cluster: Cluster) -> None:
    source, slot = cluster.node_of("foo"), cluster.slot_of("foo")
    target = another(cluster, source)
    source.client.set("foo", "is left")
    cluster.migrate_slot(slot, source, target, keys_left=True)
    assert target.client.get("foo") is None
    cluster.wait_until(lambda: source.client.dbsize() == 0, "deleted at the source")


def test_a_slot_that_moves_is_answered_with_ask(cluster: Cluster) -> None:
    source, slot = cluster.node_of("{foo}1"), cluster.slot_of("{foo}1")
    target = another(cluster, source)
    source.client.mset({"{foo}1": "a", "{foo}2": "b"})
    cluster.begin_migration(slot, source, target)
    cluster.move_keys(slot, source, target, "{foo}1")
    assert source.client.get("{foo}2") == "b"
    with pytest.raises(AskError) as ask:
        source.client.get("{foo}1")
    assert (ask.value.slot_id, ask.value.port) == (slot, target.port)
    with pytest.raises(redis.exceptions.TryAgainError):
        source.client.mget("{foo}1", "{foo}2")
    cluster.finish_migration(slot, source, target)
    assert target.client.mget("{foo}1", "{foo}2") == ["a", "b"]


def discovered(sentinels: SentinelSet) -> Sentinel:
    return Sentinel([(node.host, node.port) for node in sentinels.sentinels], 2)


def test_sentinels_know_the_primary_and_its_replica(sentinels: SentinelSet) -> None:
    known = discovered(sentinels)
    assert known.discover_master("mymaster") == ("127.0.0.1", sentinels.primary().port)
    assert known.discover_slaves("mymaster") == [("127.0.0.1", sentinels.replica().port)]
    sentinels.primary().client.set("foo", "bar")
    assert sentinels.primary().client.wait(1, 1000) == 1
    assert sentinels.replica().client.get("foo") == "bar"
    with pytest.raises(redis.ReadOnlyError):
        sentinels.replica().client.set("foo", "bar")


@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_sentinels_promote_the_replica_of_a_primary_that_is_gone(
    sentinels: SentinelSet, fault: str
) -> None:
    old, heir = sentinels.primary(), sentinels.replica()
    old.client.set("foo", "kept")
    assert old.client.wait(1, 1000) == 1
    if fault == "kill":
        assert sentinels.kill_primary() is old
    else:
        old.freeze()
    assert sentinels.wait_for_new_primary(old.port) is heir
    assert heir.client.get("foo") == "kept"
    assert discovered(sentinels).discover_master("mymaster") == ("127.0.0.1", heir.port)


def test_sentinels_promote_the_replica_when_asked_to(sentinels: SentinelSet) -> None:
    heir = sentinels.replica()
    old = sentinels.failover()
    assert sentinels.wait_for_new_primary(old.port) is heir
    assert old.client.info("replication")["role"] == "master"  # still: Sentinels take their time


def test_a_sentinel_set_is_mended_and_emptied_for_each_test(sentinels: SentinelSet) -> None:
    sentinels.primary().client.set("foo", "bar")
    sentinels.wait_for_new_primary(sentinels.kill_primary().port)
    sentinels.sentinels[0].kill()
    sentinels.tidy()
    assert sentinels.is_healthy()
    assert [node.client.dbsize() for node in sentinels.nodes] == [0, 0]


def test_with_passwords_and_a_demand_for_replicas(
    fresh_sentinels: Callable[..., SentinelSet], server_kind: str
) -> None:
    sentinels = fresh_sentinels(
        server_kind,
        username="app",
        password="data",
        sentinel_username="watch",
        sentinel_password="watchers",
        min_replicas_to_write=1,
    )
    assert sentinels.url.startswith("redis+sentinel://app:data@127.0.0.1:")
    for node in sentinels.processes:
        # By itself redis-py tries a refused login again, for 5 s.
        anybody = redis.Redis(port=node.port, retry=Retry(NoBackoff(), 0))
        with anybody, pytest.raises(redis.AuthenticationError):
            anybody.ping()
    sentinels.primary().client.set("foo", "bar")
    old = sentinels.failover()
    sentinels.wait_for_new_primary(old.port)
    with pytest.raises(redis.ResponseError, match="NOREPLICAS"):
        old.client.set("foo", "lost")
    sentinels.tidy()


def test_a_cluster_with_a_password(fresh_cluster: Callable[..., Cluster], server_kind: str) -> None:
    cluster = fresh_cluster(server_kind, username="app", password="secret")
    assert cluster.url.startswith("redis+cluster://app:secret@127.0.0.1:")
    source, slot = cluster.node_of("foo"), cluster.slot_of("foo")
    target = another(cluster, source)
    source.client.set("foo", "moves")
    cluster.migrate_slot(slot, source, target)
    assert target.client.get("foo") == "moves"


def test_what_does_not_happen_is_reported_with_the_logs(cluster: Cluster) -> None:
    with pytest.raises(AssertionError, match=r"(?s)not on fire within 0 s.*--- .*server\.log\n.*"):
        cluster.wait_until(lambda: False, "on fire", 0)
