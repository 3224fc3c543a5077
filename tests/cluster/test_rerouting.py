"""A node that can't be reached: what wasn't sent to it goes to the one that has taken over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from port_for import get_port
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException

from pyramid_baseplate_redis import (
    MonitoredRedisClusterConnection,
    cluster_pool_from_config,
    is_retryable,
)

from ..support.servers import RecordedSpans
from ..support.topologies import Cluster

MakeClusterClient = Callable[..., MonitoredRedisClusterConnection]
REFUSED = "Connection refused"


@pytest.fixture
def make(cluster: Cluster) -> Iterator[MakeClusterClient]:
    """Make the client ``foo`` of the Cluster, with the settings given."""
    pools = []

    def make(**settings: str) -> MonitoredRedisClusterConnection:
        own = {f"foo.{key}": value for key, value in settings.items()}
        pools.append(cluster_pool_from_config({"foo.url": cluster.url, **own}, "foo."))
        client = MonitoredRedisClusterConnection("foo", None, pools[-1])
        client.get("foo")
        return client

    yield make
    for pool in pools:
        assert pool.stats.in_use == 0
        pool.disconnect()


@pytest.fixture
def client(make: MakeClusterClient) -> MonitoredRedisClusterConnection:
    return make()


def put_dead_node(client: RedisCluster, key: str) -> ClusterNode:
    """Have the client's layout name a dead node for a key, as after a failover that it missed."""
    manager = client.nodes_manager
    left = client.get_node_from_key(key)
    assert left is not None
    dead = ClusterNode("127.0.0.1", get_port({}), "primary")
    manager.slots_cache = {
        slot: [dead if node == left else node for node in nodes]
        for slot, nodes in manager.slots_cache.items()
    }
    others = {name: node for name, node in manager.nodes_cache.items() if node != left}
    manager.nodes_cache = {dead.name: dead, **others}
    manager.default_node = dead
    return dead


def keep_layout(client: RedisCluster, monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Have the Cluster answer that the layout is as it was, as before a replica takes over."""
    asked: list[str | None] = []

    def initialize(last_failed_node_name: str | None = None, **kwargs: Any) -> None:
        asked.append(last_failed_node_name)

    monkeypatch.setattr(client.nodes_manager, "initialize", initialize)
    return asked


def lose_layout(client: RedisCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no node answer where the slots are."""

    def initialize(**kwargs: Any) -> None:
        raise RedisClusterException("Redis Cluster cannot be connected.")

    monkeypatch.setattr(client.nodes_manager, "initialize", initialize)


def watch_and_increment(client: Any) -> Any:
    with client.pipeline(transaction=True) as pipeline:
        pipeline.watch("foo")
        pipeline.multi()
        return pipeline.incr("foo").execute()


COMMANDS: dict[str, Callable[[Any], Any]] = {
    "direct": lambda client: client.incr("foo"),
    "by redis-py": lambda client: client.eval("return redis.call('INCR', KEYS[1])", 1, "foo"),
    "without a key": lambda client: client.ping(),
    "split by slot": lambda client: client.delete("foo", "{foo}1", "bar", "other"),
    "pipeline": lambda client: client.pipeline().incr("foo").incr("foo").execute(),
    "pipeline to all": lambda client: client.pipeline().incr("foo").incr("bar").get("a").execute(),
    "transaction": lambda client: client.pipeline(transaction=True).incr("foo").execute(),
    "watch": watch_and_increment,
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_what_was_not_sent_goes_to_the_node_that_has_taken_over(
    client: MonitoredRedisClusterConnection, cluster: Cluster, command: Callable[[Any], Any]
) -> None:
    expected = command(client)
    for node in cluster.primaries():
        node.client.flushall()
    put_dead_node(client, "foo")
    assert repr(command(client)) in (repr(expected), "0")  # nothing is left to be deleted


@pytest.mark.parametrize("name", ["direct", "by redis-py", "pipeline", "transaction"])
def test_its_one_span_counts_the_second_attempt_and_names_the_node_that_answered(
    client: MonitoredRedisClusterConnection, cluster: Cluster, spans: RecordedSpans, name: str
) -> None:
    put_dead_node(client, "foo")
    spans.clear()
    COMMANDS[name](client)
    (span,) = spans.all
    assert span.attributes["server.port"] == cluster.node_of("foo").port
    assert span.attributes["redis.client.operation.retry_attempts"] == 1


@pytest.mark.parametrize("name", ["direct", "by redis-py", "pipeline", "transaction", "watch"])
def test_a_dead_node_that_the_layout_still_names_is_asked_once(
    client: MonitoredRedisClusterConnection, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    dead = put_dead_node(client, "foo")
    asked = keep_layout(client, monkeypatch)
    with pytest.raises(redis.ConnectionError, match=REFUSED) as caught:
        COMMANDS[name](client)
    assert is_retryable(caught.value) is True
    assert asked == [dead.name]
    assert dead.redis_connection.connection_pool.stats.creations == 1


def test_a_command_without_a_key_goes_to_another_node_as_in_redis_py(
    client: MonitoredRedisClusterConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_dead_node(client, "foo")
    keep_layout(client, monkeypatch)
    assert client.ping() is True


def test_a_command_for_a_certain_node_goes_nowhere_else(
    client: MonitoredRedisClusterConnection,
) -> None:
    dead = put_dead_node(client, "foo")
    with pytest.raises(redis.ConnectionError, match=REFUSED):
        client.ping(target_nodes=dead)


def test_a_command_to_all_primaries_is_not_repeated_where_one_has_executed_it(
    client: MonitoredRedisClusterConnection, cluster: Cluster
) -> None:
    dead = put_dead_node(client, "foo")
    manager = client.nodes_manager
    manager.nodes_cache = {
        name: node for name, node in manager.nodes_cache.items() if node != dead
    } | {dead.name: dead}  # redis-py comes to it last
    for node in cluster.primaries():
        node.client.config_resetstat()
    with pytest.raises(redis.ConnectionError, match=REFUSED):
        client.flushall()
    stats = [node.client.info("commandstats") for node in cluster.primaries()]
    assert sorted("cmdstat_flushall" in each for each in stats) == [False, True, True]


def test_what_is_watched_is_not_executed_by_a_node_that_does_not_watch_it(
    client: MonitoredRedisClusterConnection,
) -> None:
    pipeline = client.pipeline(transaction=True)
    pipeline.watch("foo")
    put_dead_node(client, "foo")
    pipeline.connection.disconnect()
    pipeline.multi()
    pipeline.incr("foo")
    with pytest.raises(redis.WatchError):
        pipeline.execute()
    assert client.get("foo") is None


def test_a_node_behind_an_open_breaker_is_left_for_the_one_that_has_taken_over(
    make: MakeClusterClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make(breaker_failures="1")
    put_dead_node(client, "foo")
    with monkeypatch.context() as patch:
        keep_layout(client, patch)
        with pytest.raises(redis.ConnectionError, match=REFUSED):
            client.incr("foo")
    assert client.incr("foo") == 1


# redis-py gives back a connection twice


@pytest.mark.parametrize("dead_key", ["foo", "bar"])
def test_a_pipeline_to_a_node_that_cannot_be_reached_fails_with_the_connections_error(
    client: MonitoredRedisClusterConnection, monkeypatch: pytest.MonkeyPatch, dead_key: str
) -> None:
    put_dead_node(client, dead_key)
    lose_layout(client, monkeypatch)
    with pytest.raises(redis.ConnectionError, match=REFUSED) as caught:
        client.pipeline().incr("foo").incr("bar").incr("a").execute()
    assert is_retryable(caught.value) is True
    assert client.connection_pool.stats.in_use == 0


def test_an_interruption_of_a_pipeline_while_the_layout_is_asked_for_is_itself(
    client: MonitoredRedisClusterConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(**kwargs: Any) -> None:
        raise KeyboardInterrupt

    put_dead_node(client, "foo")
    monkeypatch.setattr(client.nodes_manager, "initialize", interrupted)
    with pytest.raises(KeyboardInterrupt):
        client.pipeline().incr("foo").incr("bar").incr("a").execute()
    assert client.connection_pool.stats.in_use == 0


def test_a_pipeline_asks_for_the_layout_after_redirections_while_an_error_is_handled(
    client: MonitoredRedisClusterConnection, cluster: Cluster
) -> None:
    client.reinitialize_counter = 4  # redis-py asks after each fifth
    right = client.get_node_from_key("foo")
    wrong = next(node for node in client.get_primaries() if node != right)
    client.nodes_manager.slots_cache[cluster.slot_of("foo")] = [wrong]
    epoch = client.nodes_manager._epoch
    try:
        raise redis.ConnectionError
    except redis.ConnectionError:
        assert client.pipeline().incr("foo").execute() == [1]
    assert client.nodes_manager._epoch > epoch


def test_a_redirection_to_a_node_that_cannot_be_reached_fails_with_the_connections_error(
    client: MonitoredRedisClusterConnection, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager, slot = client.nodes_manager, cluster.slot_of("foo")
    right = client.get_node_from_key("foo")
    assert right is not None
    wrong = next(node for node in client.get_primaries() if node != right)
    manager.slots_cache[slot] = [wrong]
    dead = ClusterNode(right.host, get_port({}), "primary")
    monkeypatch.setattr(
        manager, "move_slot", lambda error: manager.slots_cache.update({slot: [dead]})
    )
    keep_layout(client, monkeypatch)
    with pytest.raises(redis.ConnectionError, match=REFUSED):
        client.incr("foo")


def publishes(cluster: Cluster) -> int:
    """Count the PUBLISH commands that the primaries have executed."""
    stats = [node.client.info("commandstats") for node in cluster.primaries()]
    return sum(each["cmdstat_publish"]["calls"] for each in stats if "cmdstat_publish" in each)


def test_a_part_that_a_node_has_executed_is_not_repeated_by_retries(
    cluster: Cluster, make: MakeClusterClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make(retries="2")
    dead = put_dead_node(client, "foo")
    keep_layout(client, monkeypatch)
    nodes = client.nodes_manager.nodes_cache
    nodes[dead.name] = nodes.pop(dead.name)  # it is asked last
    for node in cluster.primaries():
        node.client.config_resetstat()
    with pytest.raises(redis.ConnectionError) as caught:
        client.execute_command("PUBLISH", "news", "x", target_nodes=RedisCluster.PRIMARIES)
    assert publishes(cluster) == len(cluster.primaries()) - 1
    assert is_retryable(caught.value) is None
