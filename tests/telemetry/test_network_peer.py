"""Spans name the peer of the connection: its IP address and port."""

from __future__ import annotations

from typing import Any

import pytest

from pyramid_baseplate_redis import MonitoredRedisConnection, RedisClient
from pyramid_baseplate_redis.pool import connection
from pyramid_baseplate_redis.telemetry.call_details import Peers

from ..support.servers import MakeClient, RecordedSpans, Server, attributes
from ..support.topologies import Cluster, SentinelSet


def peer_of(span: Any) -> tuple[Any, Any]:
    found = attributes(span)
    return found.get("network.peer.address"), found.get("network.peer.port")


def use(client: MonitoredRedisConnection) -> None:
    client.get("key")
    client.pipeline("pair").get("a").get("b").execute()
    client.message_queue("jobs").put("job")
    client.message_queue("jobs").get(5)


@pytest.mark.parametrize("again", [False, True], ids=["first", "later"])
def test_commands_and_pipelines_name_the_peer(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans, again: bool
) -> None:
    client = make_client(f"redis://localhost:{valkey.port}")
    for _ in range(1 + again):
        spans.clear()
        client.connection_pool.disconnect()
        use(client)
    assert {peer_of(span)[1] for span in spans.all} == {valkey.port}
    assert {peer_of(span)[0] for span in spans.all} <= {"127.0.0.1", "::1"}
    assert {attributes(span)["server.address"] for span in spans.all} == {"localhost"}


@pytest.mark.parametrize("command", ["GET", "pipeline"])
def test_the_command_that_connects_names_the_peer(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans, command: str
) -> None:
    client = make_client(valkey)
    if command == "GET":
        client.get("key")
    else:
        client.pipeline().get("a").get("b").execute()
    assert peer_of(spans.all[0]) == ("127.0.0.1", valkey.port)


def test_after_a_move_each_span_names_its_own_peer(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = iter([("10.0.0.1", 1), ("10.0.0.2", 2)])
    monkeypatch.setattr(connection, "_peer_of", lambda opened: next(addresses))
    client = make_client(valkey)
    client.get("key")
    held = client.connection_pool.get_connection()
    client.get("key")  # a second connection
    client.pipeline().get("a").get("b").execute()
    client.connection_pool.release(held)
    client.get("key")  # the first one again
    found = [peer_of(span) for span in spans.all]
    assert found == [("10.0.0.1", 1), ("10.0.0.2", 2), ("10.0.0.2", 2), ("10.0.0.1", 1)]


def test_a_unix_socket_has_no_peer(spans: RecordedSpans, tmp_path: Any) -> None:
    factory = RedisClient().parse("foo", {"foo.url": "embedded://"})
    factory.make_object_for_context("foo", None).get("key")
    factory.connection_pool.disconnect()
    assert peer_of(spans.one("foo.GET")) == (None, None)


def test_a_node_of_a_cluster_is_named_as_peer(cluster: Cluster, spans: RecordedSpans) -> None:
    factory = RedisClient().parse("foo", {"foo.url": cluster.url})
    client = factory.make_object_for_context("foo", None)
    for _ in range(2):
        client.get("key")
    client.pipeline("one").set("{foo}1", 1).set("{foo}2", 2).execute()
    factory.connection_pool.disconnect()
    for span in spans.named("foo.GET"):
        assert peer_of(span) == ("127.0.0.1", cluster.node_of("key").port)
    assert peer_of(spans.one("foo.pipeline_one")) == ("127.0.0.1", cluster.node_of("{foo}1").port)


def test_a_pipeline_to_several_nodes_names_none(cluster: Cluster, spans: RecordedSpans) -> None:
    factory = RedisClient().parse("foo", {"foo.url": cluster.url})
    pipeline = factory.make_object_for_context("foo", None).pipeline("many")
    for number in range(12):
        pipeline.set(f"key:{number}", number)
    pipeline.execute()
    factory.connection_pool.disconnect()
    assert peer_of(spans.one("foo.pipeline_many")) == (None, None)


def test_the_primary_of_a_sentinel_is_named_as_peer(
    sentinels: SentinelSet, spans: RecordedSpans
) -> None:
    factory = RedisClient().parse("foo", {"foo.url": sentinels.url})
    client = factory.make_object_for_context("foo", None)
    for _ in range(2):
        client.get("key")
    factory.connection_pool.disconnect()
    for span in spans.named("foo.GET"):
        assert peer_of(span) == ("127.0.0.1", sentinels.primary().port)


def test_a_second_address_is_never_forgotten() -> None:
    peers = Peers()
    for address, only in [("a", ("a", 1)), ("a", ("a", 1)), ("b", None), ("a", None)]:
        peers.add((address, 1))
        assert peers.only == only
    assert peers.are_several
