"""A command goes to the node of its key, and its only span names the node that answered."""

from __future__ import annotations

import threading

import pytest
import redis
from opentelemetry.trace import INVALID_SPAN, SpanKind, StatusCode, get_tracer

from pyramid_baseplate_redis import (
    ClusterRedisContextFactory,
    MonitoredRedisClusterConnection,
    cluster_pool_from_config,
)

from ..support.servers import RecordedSpans
from ..support.topologies import Cluster
from .conftest import MakeClusterClient, another, losing_replies, server_of


def test_a_command_has_one_span_with_the_node_that_answered(
    client: MonitoredRedisClusterConnection, cluster: Cluster, spans: RecordedSpans
) -> None:
    client.set("foo", "bar")
    (span,) = spans.all
    assert (span.name, span.kind) == ("foo.SET", SpanKind.CLIENT)
    assert span.attributes == {
        "db.system.name": "redis",
        "db.namespace": "0",
        "db.operation.name": "SET",
        "db.client.connection.pool.name": "foo",
        "server.address": "127.0.0.1",
        "server.port": cluster.node_of("foo").port,
        "network.peer.address": "127.0.0.1",
        "network.peer.port": cluster.node_of("foo").port,
    }


def test_the_first_command_of_a_process_has_one_span(
    cluster: Cluster, make: MakeClusterClient, spans: RecordedSpans
) -> None:
    make(cluster).set("foo", "bar")
    assert spans.names == ["foo.SET"]
    assert server_of(spans.all[0]) == ("127.0.0.1", cluster.node_of("foo").port)


def test_a_span_is_a_child_of_the_requests(
    client: MonitoredRedisClusterConnection, spans: RecordedSpans
) -> None:
    server_span = get_tracer("test").start_span("request")
    client.bound_to(server_span).get("foo")
    (span,) = spans.all
    assert span.parent == server_span.get_span_context()


def test_a_command_after_a_moved_slot_has_one_span_that_counts_the_redirection(
    client: MonitoredRedisClusterConnection, cluster: Cluster, spans: RecordedSpans
) -> None:
    client.set("foo", "bar")
    source, slot = cluster.node_of("foo"), cluster.slot_of("foo")
    target = another(cluster, source)
    cluster.migrate_slot(slot, source, target)
    spans.clear()
    assert client.get("foo") == b"bar"
    assert client.get("foo") == b"bar"
    redirected, direct = spans.all
    assert redirected.attributes["redis.client.operation.redirections"] == 1
    assert server_of(redirected) == server_of(direct) == ("127.0.0.1", target.port)
    assert redirected.status.status_code is StatusCode.UNSET
    assert "redis.client.operation.redirections" not in direct.attributes


def test_redirections_of_all_clients_together_have_the_layout_asked_for_anew(
    client: MonitoredRedisClusterConnection, cluster: Cluster, spans: RecordedSpans
) -> None:
    source = cluster.node_of("foo")
    slots = [cluster.slot_of(f"foo:{number}") for number in range(100)]
    keys = [f"foo:{n}" for n, slot in enumerate(slots) if cluster.owner_of(slot) is source][:6]
    target = another(cluster, source)
    for key in keys:
        cluster.migrate_slot(cluster.slot_of(key), source, target)
    for key in keys:
        client.bound_to(INVALID_SPAN).get(key)  # each is a request's
    # redis-py asks at the fifth, and the sixth is known then.
    counts = [span.attributes.get("redis.client.operation.redirections", 0) for span in spans.all]
    assert counts[-6:] == [1, 1, 1, 1, 1, 0]
    for key in keys:
        cluster.migrate_slot(cluster.slot_of(key), target, source)


def test_the_span_names_the_node_though_another_is_asked_for_the_layout(
    cluster: Cluster, spans: RecordedSpans
) -> None:
    pool = cluster_pool_from_config({"foo.url": cluster.url}, "foo.", reinitialize_steps=1)
    client = ClusterRedisContextFactory(pool, "foo").make_object_for_context("foo", None)
    client.set("foo", "bar")
    source = cluster.node_of("foo")
    cluster.migrate_slot(cluster.slot_of("foo"), source, another(cluster, source))
    spans.clear()
    assert client.get("foo") == b"bar"
    (span,) = spans.all
    assert server_of(span) == ("127.0.0.1", cluster.node_of("foo").port)
    assert span.attributes["redis.client.operation.redirections"] == 1
    pool.disconnect()


def test_the_span_of_a_failure_names_the_node_that_failed(
    client: MonitoredRedisClusterConnection,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    spans: RecordedSpans,
) -> None:
    client.get("foo")
    node = cluster.node_of("foo")
    spans.clear()
    losing_replies(client, node, monkeypatch)
    with pytest.raises(redis.ConnectionError):
        client.get("foo")
    (span,) = spans.all
    assert server_of(span) == ("127.0.0.1", node.port)


def test_the_span_names_the_node_though_another_was_asked_where_the_keys_are(
    client: MonitoredRedisClusterConnection, cluster: Cluster, spans: RecordedSpans
) -> None:
    names = [f"stream:{number}" for number in range(20)]
    for name in names:
        client.xread({name: "0"})  # redis-py asks its default node: COMMAND GETKEYS
    servers = [server_of(span) for span in spans.all]
    assert servers == [("127.0.0.1", cluster.node_of(name).port) for name in names]


def test_a_command_that_is_asked_elsewhere_has_one_span_that_counts_the_redirection(
    client: MonitoredRedisClusterConnection, cluster: Cluster, spans: RecordedSpans
) -> None:
    client.mset({"{foo}1": "a", "{foo}2": "b"})
    source, slot = cluster.node_of("{foo}1"), cluster.slot_of("{foo}1")
    target = another(cluster, source)
    cluster.begin_migration(slot, source, target)
    cluster.move_keys(slot, source, target, "{foo}1")
    spans.clear()
    assert client.get("{foo}1") == b"a"
    (span,) = spans.all
    assert span.attributes["redis.client.operation.redirections"] == 1
    assert server_of(span) == ("127.0.0.1", target.port)


def test_tries_while_keys_are_on_two_nodes_are_inside_the_span(
    client: MonitoredRedisClusterConnection, cluster: Cluster, spans: RecordedSpans
) -> None:
    client.mset({"{foo}1": "a", "{foo}2": "b"})
    source, slot = cluster.node_of("{foo}1"), cluster.slot_of("{foo}1")
    target = another(cluster, source)
    cluster.begin_migration(slot, source, target)
    cluster.move_keys(slot, source, target, "{foo}1")
    finish = threading.Timer(0.1, cluster.finish_migration, (slot, source, target))
    finish.start()
    spans.clear()
    try:
        assert client.mget("{foo}1", "{foo}2") == [b"a", b"b"]
    finally:
        finish.join()
    (span,) = spans.all
    assert span.attributes["redis.client.operation.redirections"] > 1
    assert span.status.status_code is StatusCode.UNSET


def test_a_servers_error_is_on_the_span_with_the_node(
    client: MonitoredRedisClusterConnection, cluster: Cluster, spans: RecordedSpans
) -> None:
    client.set("foo", "text")
    spans.clear()
    with pytest.raises(redis.ResponseError):
        client.lpush("foo", 1)
    (span,) = spans.all
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["db.response.status_code"] == "WRONGTYPE"
    assert server_of(span) == ("127.0.0.1", cluster.node_of("foo").port)


@pytest.mark.parametrize("balancing", ["round_robin_replicas", "random_replica"])
def test_reads_from_replicas_tell_the_replica(
    cluster: Cluster, make: MakeClusterClient, spans: RecordedSpans, balancing: str
) -> None:
    client = make(cluster, read_from_replicas="true", load_balancing=balancing)
    client.set("never moved", "bar")
    primary = cluster.node_of("never moved")
    (replica,) = cluster.replicas(primary)
    primary.client.wait(1, 1000)
    spans.clear()
    assert client.get("never moved") == b"bar"
    assert server_of(spans.all[0]) == ("127.0.0.1", replica.port)


def test_reads_go_to_the_primary_by_default(
    client: MonitoredRedisClusterConnection, cluster: Cluster, spans: RecordedSpans
) -> None:
    for _ in range(5):
        client.get("foo")
    assert {span.attributes["server.port"] for span in spans.all} == {cluster.node_of("foo").port}
