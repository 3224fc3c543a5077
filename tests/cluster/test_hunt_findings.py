"""Mistakes that the hunt on a Cluster has found; see tests/faults/hunt.py."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import (
    ClusterConnectionPool,
    MonitoredRedisClusterConnection,
    cluster_pool_from_config,
)
from pyramid_baseplate_redis.exceptions import ForkedConnectionError

from ..faults.helpers import in_child
from ..faults.proxy import Proxy
from ..support.servers import wait_until
from ..support.topologies import Cluster
from .conftest import another


@pytest.fixture
def remapped(cluster: Cluster) -> Iterator[ClusterConnectionPool]:
    """A pool that reaches each node by another port than the one that the nodes name."""
    with ExitStack() as stack:
        ways = {node.port: stack.enter_context(Proxy(node.port)).port for node in cluster.nodes}
        url = "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in ways.values())
        pool = cluster_pool_from_config(
            {"foo.url": url}, "foo.", address_remap=lambda at: (at[0], ways.get(at[1], at[1]))
        )
        yield pool
        assert {each.connection_kwargs["port"] for each in pool.pools} <= {*ways.values()}
        pool.disconnect()


def test_address_remap_holds_for_the_node_that_ask_names(
    cluster: Cluster, remapped: ClusterConnectionPool
) -> None:
    client = MonitoredRedisClusterConnection("foo", None, remapped)
    client.get("foo")
    source = cluster.node_of("foo")
    cluster.begin_migration(cluster.slot_of("foo"), source, another(cluster, source))
    assert client.set("{foo}new", "value")
    assert client.pipeline().get("{foo}new").execute() == [b"value"]


def test_address_remap_holds_for_the_node_that_moved_names(
    cluster: Cluster, remapped: ClusterConnectionPool
) -> None:
    client = MonitoredRedisClusterConnection("foo", None, remapped)
    client.set("foo", "value")
    source = cluster.node_of("foo")
    cluster.migrate_slot(cluster.slot_of("foo"), source, another(cluster, source))
    assert client.get("foo") == b"value"
    assert client.pipeline(transaction=True).get("foo").execute() == [b"value"]


def test_ask_may_name_a_node_that_is_not_in_the_layout_yet(
    cluster: Cluster, client: MonitoredRedisClusterConnection
) -> None:
    source = cluster.node_of("foo")
    target = another(cluster, source)
    del client.nodes_manager.nodes_cache[target.address]
    cluster.begin_migration(cluster.slot_of("foo"), source, target)
    assert client.set("{foo}new", "value")
    assert client.get("{foo}new") == b"value"
    assert client.get_node(node_name="127.0.0.1:1") is None  # no command is redirected to it


def test_a_child_may_not_execute_the_transaction_of_its_parent(
    client: MonitoredRedisClusterConnection,
) -> None:
    manager = client.nodes_manager
    pipeline = client.pipeline(transaction=True)
    pipeline.watch("foo")
    pipeline.multi()
    pipeline.set("foo", "bar").get("foo")

    # Another thread of the parent refreshes the layout when it forks.
    refreshed, release = threading.Event(), threading.Event()

    def refresh() -> None:
        with manager._lock, manager._initialization_lock:
            refreshed.set()
            release.wait(30)

    thread = threading.Thread(target=refresh)
    thread.start()
    refreshed.wait()
    try:
        error = in_child(pipeline.execute, seconds=5)
    finally:
        release.set()
        thread.join()
    assert isinstance(error, ForkedConnectionError)
    assert pipeline.execute() == [True, b"bar"]
    wait_until(lambda: client.connection_pool.stats.in_use == 0)


def _executes(pipeline: Any) -> None:
    pipeline.multi()
    pipeline.set("foo", "overwritten").execute()


def _reads(pipeline: Any) -> None:
    pipeline.get("foo")


@pytest.mark.parametrize("go_on", [_executes, _reads])
def test_a_transaction_whose_slot_moved_away_is_refused(
    cluster: Cluster, client: MonitoredRedisClusterConnection, go_on: Callable[[Any], None]
) -> None:
    # Another caller of the process has refreshed the layout meanwhile.
    pipeline = client.pipeline(transaction=True)
    pipeline.watch("foo")
    source = cluster.node_of("foo")
    cluster.migrate_slot(cluster.slot_of("foo"), source, another(cluster, source))
    client.set("foo", "of another caller")
    client.nodes_manager.initialize()
    with pytest.raises(redis.WatchError):
        go_on(pipeline)
    pipeline.reset()
    assert client.get("foo") == b"of another caller"
    assert client.connection_pool.stats.in_use == 0


def test_a_child_drops_a_subscriber_while_a_thread_of_its_parent_dispatches_an_event(
    client: MonitoredRedisClusterConnection,
) -> None:
    dispatcher = client.nodes_manager._event_dispatcher
    subscribers = [client.pubsub()]
    dispatches, goes_on = threading.Event(), threading.Event()

    def dispatch() -> None:
        with dispatcher._lock:
            dispatches.set()
            goes_on.wait(10)

    def drop_subscriber() -> int:
        subscribers.clear()
        return gc.collect()

    thread = threading.Thread(target=dispatch)
    thread.start()
    dispatches.wait(10)
    try:
        assert in_child(drop_subscriber, seconds=5) >= 0
    finally:
        goes_on.set()
        thread.join()
