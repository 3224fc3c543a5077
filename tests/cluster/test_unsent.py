"""Failures of a Cluster's nodes: which may be retried, and which attempts the span counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis.cluster import RedisCluster

from pyramid_baseplate_redis import (
    MonitoredRedisClusterConnection,
    cluster_pool_from_config,
    is_retryable,
)
from pyramid_baseplate_redis.pool.connection import PooledConnection

from ..support.servers import RecordedSpans
from ..support.topologies import Cluster
from .test_rerouting import keep_layout, put_dead_node

RETRIES = "redis.client.operation.retry_attempts"


@pytest.fixture
def client(cluster: Cluster) -> Iterator[MonitoredRedisClusterConnection]:
    pool = cluster_pool_from_config({"foo.url": cluster.url}, "foo.")
    client = MonitoredRedisClusterConnection("foo", None, pool)
    client.ping(target_nodes=RedisCluster.PRIMARIES)
    yield client
    assert pool.stats.in_use == 0
    pool.disconnect()


def key_elsewhere(cluster: Cluster) -> str:
    """A key that is not on the node of ``foo``."""
    port = cluster.node_of("foo").port
    return next(key for key in ("a", "b", "c", "d", "e") if cluster.node_of(key).port != port)


def refuse(monkeypatch: pytest.MonkeyPatch, *ports: int) -> None:
    """Have connections to these nodes fail before anything is sent."""

    def failing(send: Callable[..., None]) -> Callable[..., None]:
        def fail(connection: Any, *args: Any, **kwargs: Any) -> None:
            if connection.port in ports:
                error = redis.ConnectionError("refused")
                error.unsent = True  # type: ignore[attr-defined]  # as PooledConnection marks it
                raise error
            send(connection, *args, **kwargs)

        return fail

    for name in ("send_packed_command", "_send"):
        monkeypatch.setattr(PooledConnection, name, failing(getattr(PooledConnection, name)))


@pytest.mark.parametrize("raises", [True, False])
def test_a_pipeline_that_another_node_has_executed_in_part_is_not_retryable(
    client: MonitoredRedisClusterConnection,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    raises: bool,
) -> None:
    other = key_elsewhere(cluster)
    with monkeypatch.context() as patch:
        refuse(patch, cluster.node_of("foo").port)
        pipeline = client.pipeline().incr("foo").incr(other)
        if raises:
            with pytest.raises(redis.ConnectionError, match="refused") as caught:
                pipeline.execute()
            error: Any = caught.value
        else:
            error, _ = pipeline.execute(raise_on_error=False)
    assert is_retryable(error) is None
    assert client.get(other) == b"1"


def test_a_pipeline_whose_other_part_is_redirected_is_not_retryable(
    client: MonitoredRedisClusterConnection, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = key_elsewhere(cluster)
    right = client.get_node_from_key(other)
    refused = client.get_node_from_key("foo")
    wrong = next(node for node in client.get_primaries() if node not in (right, refused))
    client.nodes_manager.slots_cache[cluster.slot_of(other)] = [wrong]
    with monkeypatch.context() as patch:
        refuse(patch, cluster.node_of("foo").port)
        with pytest.raises(redis.ConnectionError, match="refused") as caught:
            client.pipeline().incr("foo").incr(other).execute()
    assert is_retryable(caught.value) is None
    assert client.get(other) == b"1"


def test_a_pipeline_of_which_nothing_was_sent_is_retryable(
    client: MonitoredRedisClusterConnection, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = key_elsewhere(cluster)
    refuse(monkeypatch, *(node.port for node in cluster.primaries()))
    with pytest.raises(redis.ConnectionError, match="refused") as caught:
        client.pipeline().incr("foo").incr(other).execute()
    assert is_retryable(caught.value) is True


@pytest.mark.parametrize("is_pipeline", [False, True])
def test_a_second_attempt_that_asks_no_other_node_is_not_counted(
    client: MonitoredRedisClusterConnection,
    monkeypatch: pytest.MonkeyPatch,
    spans: RecordedSpans,
    is_pipeline: bool,
) -> None:
    put_dead_node(client, "foo")
    keep_layout(client, monkeypatch)
    spans.clear()
    with pytest.raises(redis.ConnectionError):
        client.pipeline().incr("foo").execute() if is_pipeline else client.incr("foo")
    (span,) = spans.all
    assert RETRIES not in span.attributes
