"""Clients of a Cluster, keys on each of its nodes, and replies that are lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis.cluster import RedisCluster

from pyramid_baseplate_redis import (
    ClusterConnectionPool,
    ClusterRedisContextFactory,
    MonitoredRedisClusterConnection,
    cluster_pool_from_config,
)

from ..support.topologies import Cluster, Node

MakeClusterClient = Callable[..., MonitoredRedisClusterConnection]
SECRET = "correct-horse-battery"


@pytest.fixture
def make() -> Iterator[MakeClusterClient]:
    """Make the client ``foo`` of a Cluster, with the settings given."""
    pools: list[ClusterConnectionPool] = []

    def make(cluster: Cluster | str, **settings: str) -> MonitoredRedisClusterConnection:
        url = cluster if isinstance(cluster, str) else cluster.url
        own = {f"foo.{key}": value for key, value in settings.items()}
        pools.append(cluster_pool_from_config({"foo.url": url, **own}, "foo."))
        return ClusterRedisContextFactory(pools[-1], "foo").make_object_for_context("foo", None)

    yield make
    for pool in pools:
        pool.disconnect()


@pytest.fixture
def client(cluster: Cluster, make: MakeClusterClient) -> MonitoredRedisClusterConnection:
    made = make(cluster)
    made.ping(target_nodes=RedisCluster.PRIMARIES)  # the layout is known
    return made


def another(cluster: Cluster, source: Node) -> Node:
    """A primary to migrate slots to."""
    return next(node for node in cluster.primaries() if node is not source)


def one_key_each(cluster: Cluster) -> list[str]:
    """A key on each primary; tests move slots for good."""
    found: dict[int, str] = {}
    names = (f"key:{number}" for number in range(1000))
    while len(found) < len(cluster.primaries()):
        name = next(names)
        found.setdefault(cluster.node_of(name).port, name)
    return list(found.values())


def server_of(span: Any) -> tuple[Any, Any]:
    return span.attributes.get("server.address"), span.attributes.get("server.port")


def losing_replies(
    client: MonitoredRedisClusterConnection, node: Node, monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """Lose that many of a node's replies; each behind the command's execution."""
    from pyramid_baseplate_redis.pool.connection import PooledConnection

    left = [1] * 50

    def losing(read: Callable[..., Any]) -> Callable[..., Any]:
        def lose(connection: Any, *args: Any, **kwargs: Any) -> Any:
            response = read(connection, *args, **kwargs)
            if left and connection.is_node and connection._ready and connection.port == node.port:
                left.pop()
                connection.disconnect()
                raise redis.ConnectionError("the reply was lost")
            return response

        return lose

    for name in ("read_response", "_read", "read_all"):
        monkeypatch.setattr(PooledConnection, name, losing(getattr(PooledConnection, name)))
    return left
