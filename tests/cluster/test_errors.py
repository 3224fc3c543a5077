"""A Cluster's errors: redis-py's, with a hint, without a secret, and retried where that is safe."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import redis
from opentelemetry.trace import INVALID_SPAN
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import ClusterDownError, RedisClusterException

from pyramid_baseplate_redis import MonitoredRedisClusterConnection, PoolTimeoutError, is_retryable

from ..support.servers import RecordedSpans
from ..support.topologies import Cluster
from .conftest import SECRET, MakeClusterClient, another, losing_replies


@pytest.mark.parametrize("how", ["command", "transaction"])
def test_keys_in_two_slots_fail_with_a_hint(
    client: MonitoredRedisClusterConnection, how: str
) -> None:
    pipeline = client.pipeline(transaction=True).set("a", 1).set("b", 1)
    execute = pipeline.execute if how == "transaction" else lambda: client.mget("a", "b")
    with pytest.raises(
        RedisClusterException, match=r'common hash tag: "\{user:1\}:name"'
    ) as caught:
        execute()
    assert is_retryable(caught.value) is False


def test_a_script_whose_keys_are_in_two_slots_fails_with_a_hint(
    client: MonitoredRedisClusterConnection,
) -> None:
    with pytest.raises(RedisClusterException, match="common hash tag"):
        client.eval("return 1", 2, "a", "b")


def test_keys_that_are_watched_in_two_slots_fail_with_a_hint(
    client: MonitoredRedisClusterConnection,
) -> None:
    with client.pipeline(transaction=True) as pipeline:
        pipeline.watch("foo")
        with pytest.raises(RedisClusterException, match="hash tag"):
            pipeline.watch("bar")


def test_a_transactions_command_with_keys_in_two_slots_fails_with_a_hint(
    client: MonitoredRedisClusterConnection,
) -> None:
    with pytest.raises(RedisClusterException, match="hash tag"):
        client.pipeline(transaction=True).execute_command("RENAME", "foo", "bar")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no notes")
@pytest.mark.parametrize(
    "fail",
    [
        lambda client: client.lpush("foo", "item"),
        lambda client: client.pipeline(transaction=False).lpush("foo", "item").execute(),
        lambda client: client.pipeline(transaction=True).lpush("foo", "item").execute(),
    ],
    ids=["command", "pipeline", "transaction"],
)
def test_an_error_of_a_reply_has_a_note_with_the_client_and_the_node(
    cluster: Cluster, client: MonitoredRedisClusterConnection, fail: Callable[[Any], Any]
) -> None:
    client.set("foo", "text")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE") as caught:
        fail(client)
    node = client.get_node_from_key("foo")
    assert caught.value.__notes__ == [  # type: ignore[attr-defined]
        f"{client.context_name}: the server {node.host}:{node.port} replied with this error"
    ]


@pytest.mark.parametrize(
    "send",
    [
        lambda client: client.execute_command("HELLO", "3", "AUTH", "user", SECRET),
        lambda client: client.execute_command("EVAL", SECRET),
        lambda client: client.pipeline().config_set("requirepass", SECRET).execute(),
        lambda client: client.pipeline(transaction=True).execute_command("HELLO", "3", SECRET),
    ],
)
def test_an_error_that_quotes_a_command_shows_no_secret(
    client: MonitoredRedisClusterConnection, send: Callable[[Any], Any]
) -> None:
    with pytest.raises(RedisClusterException) as raised:
        send(client)
    assert SECRET not in str(raised.value)


def test_a_cluster_that_does_not_answer_is_reported_by_name_and_without_a_secret(
    make: MakeClusterClient,
) -> None:
    client = make(f"redis+cluster://:{SECRET}@127.0.0.1:1,127.0.0.1:2")
    with pytest.raises(RedisClusterException, match=r"foo: .*127\.0\.0\.1:[12]") as caught:
        client.get("a")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (ClusterDownError("CLUSTERDOWN The cluster is down"), True),
        (redis.exceptions.TryAgainError("TRYAGAIN"), True),
        (redis.exceptions.SlotNotCoveredError("slot"), True),
        (redis.exceptions.ClusterError("TTL exhausted."), True),
        (RedisClusterException("Redis Cluster cannot be connected. Please ..."), None),
        (RedisClusterException("MGET - all keys must map to the same key slot"), False),
    ],
)
def test_which_of_a_clusters_errors_are_retryable(error: Exception, retryable: bool | None) -> None:
    assert is_retryable(error) is retryable


@pytest.mark.parametrize("method", ["mset", "mset_nonatomic"])
def test_several_keys_of_a_slot_that_moves_are_refused_as_by_redis_py(
    client: MonitoredRedisClusterConnection, cluster: Cluster, method: str
) -> None:
    source, slot = cluster.node_of("{foo}1"), cluster.slot_of("{foo}1")
    target = another(cluster, source)
    plain = RedisCluster(startup_nodes=[ClusterNode(source.host, source.port)])
    cluster.begin_migration(slot, source, target)
    raised = []
    for asked in (plain, client):
        with pytest.raises(redis.exceptions.ClusterError, match="TTL exhausted") as caught:
            getattr(asked, method)({"{foo}1": "a", "{foo}2": "b"})
        raised.append(caught.value)
    cluster.finish_migration(slot, source, target)
    assert str(raised[1]) == str(raised[0])
    assert is_retryable(raised[1]) is True
    assert client.mget("{foo}1", "{foo}2") == [None, None]
    getattr(client, method)({"{foo}1": "a", "{foo}2": "b"})
    assert client.mget("{foo}1", "{foo}2") == [b"a", b"b"]


def test_an_empty_pool_of_a_node_says_so(cluster: Cluster, make: MakeClusterClient) -> None:
    client = make(cluster, max_connections="1", pool_timeout="20 milliseconds")
    pipeline = client.pipeline(transaction=True)
    pipeline.watch("foo")
    with pytest.raises(PoolTimeoutError, match=f"all 1 to 127.0.0.1:{cluster.node_of('foo').port}"):
        client.get("foo")
    pipeline.reset()
    assert client.get("foo") is None


def test_what_a_node_may_have_executed_is_not_sent_again(
    client: MonitoredRedisClusterConnection, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.get("foo")
    lost = losing_replies(client, cluster.node_of("foo"), monkeypatch)
    with pytest.raises(redis.ConnectionError):
        client.incr("foo")
    lost.clear()
    assert client.get("foo") == b"1"


def test_what_a_node_may_have_executed_of_a_pipeline_is_not_sent_again(
    client: MonitoredRedisClusterConnection, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.get("foo")
    lost = losing_replies(client, cluster.node_of("foo"), monkeypatch)
    with pytest.raises(redis.ConnectionError):
        client.pipeline().incr("foo").incr("foo").execute()
    lost.clear()
    assert client.get("foo") == b"2"


def test_reads_are_tried_again_where_the_settings_say_so(
    cluster: Cluster, make: MakeClusterClient, monkeypatch: pytest.MonkeyPatch, spans: RecordedSpans
) -> None:
    client = make(cluster, retries="3")
    client.set("foo", "bar")
    lost = losing_replies(client, cluster.node_of("foo"), monkeypatch)
    lost[:] = lost[:1]
    spans.clear()
    assert client.get("foo") == b"bar"
    (span,) = spans.all
    assert span.attributes["redis.client.operation.retry_attempts"] == 1


def test_a_transaction_that_only_reads_is_tried_again_as_a_whole(
    cluster: Cluster, make: MakeClusterClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make(cluster, retries="3")
    client.mset_nonatomic({"{foo}1": "a", "{foo}2": "b"})
    lost = losing_replies(client, cluster.node_of("{foo}1"), monkeypatch)
    lost[:] = lost[:1]
    pipeline = client.pipeline(transaction=True)
    assert pipeline.get("{foo}1").get("{foo}2").execute() == [b"a", b"b"]


def test_an_interrupted_transaction_reads_no_reply_that_isnt_its_own(
    client: MonitoredRedisClusterConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.set("foo", "bar")
    pipeline = client.pipeline(transaction=True)
    pipeline.watch("foo")

    class Interrupted(BaseException):
        pass

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.connection, "read_response", interrupted)
        with pytest.raises(Interrupted):
            pipeline.get("foo")
    with pytest.raises(redis.WatchError, match="interrupted"):
        pipeline.get("foo")
    assert client.connection_pool.stats.in_use == 0


def test_a_cursor_goes_where_the_aggregate_went(client: MonitoredRedisClusterConnection) -> None:
    with pytest.raises(RedisClusterException, match="without FT"):
        client.execute_command("FT.CURSOR", "READ", "index", 1)
    for command in (("FT.AGGREGATE", "index", "*"), ("FT.CURSOR", "READ", "index", 1)):
        with pytest.raises(redis.ResponseError, match="unknown command"):  # without the module
            client.bound_to(INVALID_SPAN).execute_command(*command)


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.hgetall("h"),
        lambda client: client.zrange("z", 0, -1, withscores=True),
        lambda client: client.execute_command("get", "a"),
        lambda client: client.execute_command(b"GET", "a"),
        lambda client: client.hscan("h"),
        lambda client: client.object("encoding", "a"),
        lambda client: client.get(1),
        lambda client: client.sort("l"),
        lambda client: client.xadd("stream", {"a": 1}, id="1-1"),
        lambda client: client.eval("return KEYS[1]", 1, "a"),
        lambda client: client.mget("a"),
        lambda client: client.cluster_keyslot("a"),
        lambda client: client.ping(),
        lambda client: client.set("a", 1, get=True),
        lambda client: client.lpop("l", 2),
        lambda client: client.exists("a", "b"),
        lambda client: client.type("a"),
        lambda client: client.execute_command("GET"),
        lambda client: client.execute_command("NOSUCH", "a"),
    ],
)
def test_results_and_errors_are_redis_pys(
    client: MonitoredRedisClusterConnection, cluster: Cluster, ask: Callable[[Any], Any]
) -> None:
    def asked(asked_client: Any) -> Any:
        for node in cluster.primaries():
            node.client.flushall()
        asked_client.mset_nonatomic({"a": 1, "b": 2})
        asked_client.hset("h", "field", "value")
        asked_client.zadd("z", {"one": 1})
        asked_client.rpush("l", 3, 1, 2)
        try:
            return ask(asked_client)
        except Exception as error:
            return type(error), str(error)

    nodes = [ClusterNode(node.host, node.port) for node in cluster.nodes]
    with RedisCluster(startup_nodes=nodes) as plain:
        assert asked(client) == asked(plain)
