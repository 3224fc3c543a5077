"""A Cluster's transactions: their results are a single server's, whatever the protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import MonitoredRedisClusterConnection, cluster_pool_from_config

from ..support.topologies import Cluster

MakeClusterClient = Callable[..., MonitoredRedisClusterConnection]


@pytest.fixture
def make(cluster: Cluster) -> Iterator[MakeClusterClient]:
    """Make the client ``foo`` of the Cluster, with redis-py's keyword arguments."""
    pools = []

    def make(**kwargs: Any) -> MonitoredRedisClusterConnection:
        pools.append(cluster_pool_from_config({"foo.url": cluster.url}, "foo.", **kwargs))
        return MonitoredRedisClusterConnection("foo", None, pools[-1])

    yield make
    for pool in pools:
        pool.disconnect()


def write(pipeline: Any) -> None:
    pipeline.set("{k}text", "value")
    pipeline.set("{k}text", "other", get=True)
    pipeline.set("{k}text", "other", nx=True)
    pipeline.incrbyfloat("{k}float", 1.5)
    pipeline.expire("{k}float", 100)
    pipeline.persist("{k}float")
    pipeline.setbit("{k}bits", 1, 1)
    pipeline.hset("{k}hash", mapping={"a": 1, "b": 2})
    pipeline.hsetnx("{k}hash", "a", 1)
    pipeline.hincrbyfloat("{k}hash", "a", 1)
    pipeline.sadd("{k}set", "one")
    pipeline.zadd("{k}sorted", {"one": 1, "two": 2.5})
    pipeline.zincrby("{k}sorted", 1, "one")
    pipeline.zadd("{k}sorted", {"one": 1}, incr=True)
    pipeline.rpush("{k}list", 1, 2, 3)
    pipeline.ltrim("{k}list", 0, 5)
    pipeline.lset("{k}list", 0, "x")
    pipeline.xadd("{k}stream", {"field": "value"}, id="1-1")
    pipeline.xgroup_create("{k}stream", "group", "0")
    pipeline.xreadgroup("group", "consumer", {"{k}stream": ">"})
    pipeline.geoadd("{k}geo", (13.4, 52.5, "berlin", 2.35, 48.85, "paris"))
    pipeline.pfadd("{k}log", "one")
    pipeline.copy("{k}text", "{k}copy")
    pipeline.hset("{k}hash", "c", 3)


def read(pipeline: Any) -> None:
    pipeline.get("{k}text")
    pipeline.get("{k}none")
    pipeline.exists("{k}text")
    pipeline.type("{k}text")
    pipeline.getbit("{k}bits", 1)
    pipeline.ttl("{k}text")
    pipeline.hgetall("{k}hash")
    pipeline.hget("{k}hash", "a")
    pipeline.hkeys("{k}hash")
    pipeline.hexists("{k}hash", "a")
    pipeline.hscan("{k}hash")
    pipeline.hrandfield("{k}hash", 3, withvalues=True)
    pipeline.smembers("{k}set")
    pipeline.sismember("{k}set", "one")
    pipeline.smismember("{k}set", ["one", "two"])
    pipeline.sscan("{k}set")
    pipeline.srandmember("{k}set", 1)
    pipeline.zrange("{k}sorted", 0, -1)
    pipeline.zrange("{k}sorted", 0, -1, withscores=True)
    pipeline.zrange("{k}sorted", 0, -1, withscores=True, score_cast_func=str)
    pipeline.zrevrange("{k}sorted", 0, -1, withscores=True)
    pipeline.zrangebyscore("{k}sorted", 0, 9, withscores=True)
    pipeline.zscore("{k}sorted", "two")
    pipeline.zmscore("{k}sorted", ["one", "none"])
    pipeline.zscan("{k}sorted")
    pipeline.zrank("{k}sorted", "two")
    pipeline.zrandmember("{k}sorted", 2, withscores=True)
    pipeline.lrange("{k}list", 0, -1)
    pipeline.lpos("{k}list", "2")
    pipeline.xrange("{k}stream")
    pipeline.xread({"{k}stream": "0"})
    pipeline.xlen("{k}stream")
    pipeline.xinfo_groups("{k}stream")
    pipeline.xinfo_stream("{k}stream")
    pipeline.xpending("{k}stream", "group")
    pipeline.geopos("{k}geo", "berlin", "none")
    pipeline.geodist("{k}geo", "berlin", "paris")
    pipeline.geohash("{k}geo", "berlin")
    pipeline.geosearch(
        "{k}geo", member="berlin", radius=2000, unit="km", withdist=True, withcoord=True, sort="ASC"
    )
    pipeline.object("encoding", "{k}text")
    pipeline.execute_command("EVAL", "return {1, 'two', {3}}", 1, "{k}text")
    pipeline.execute_command("MGET", "{k}text", "{k}none")
    pipeline.execute_command("hgetall", "{k}hash")
    pipeline.zpopmin("{k}sorted")
    pipeline.blpop("{k}list", timeout=1)
    pipeline.bzpopmin("{k}sorted", timeout=1)
    pipeline.xautoclaim("{k}stream", "group", "other", 0)
    pipeline.delete("{k}text", "{k}none")


# What decides how redis-py shapes replies.
SHAPES: list[dict[str, Any]] = [
    {},
    {"protocol": 2},
    {"protocol": 3},
    {"protocol": 3, "decode_responses": True},
    {"legacy_responses": False},
]


def single_server(cluster: Cluster, **kwargs: Any) -> redis.Redis:
    """Plain redis-py on the node that has the keys, as if it were a single server."""
    return redis.Redis(port=cluster.node_of("{k}").port, **kwargs)


def executed(client: Any, *queues: Callable[[Any], None]) -> list[str]:
    """Show the results of a transaction for each queue, types included."""
    shown = []
    for queue in queues:
        pipeline = client.pipeline(transaction=True)
        queue(pipeline)
        shown += [repr(result) for result in pipeline.execute()]
    return shown


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_its_results_are_those_of_a_single_server(
    cluster: Cluster, make: MakeClusterClient, shape: dict[str, Any]
) -> None:
    with single_server(cluster, **shape) as plain:
        expected = executed(plain, write, read)
        plain.flushall()
    assert executed(make(**shape), write, read) == expected


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_is_read_while_watching_is_what_a_single_server_returns(
    cluster: Cluster, make: MakeClusterClient, shape: dict[str, Any]
) -> None:
    def watched(client: Any) -> list[str]:
        executed(client, write)
        with client.pipeline(transaction=True) as pipeline:
            pipeline.watch("{k}hash")
            return [
                repr(pipeline.hgetall("{k}hash")),
                repr(pipeline.zrange("{k}sorted", 0, -1, withscores=True)),
                repr(pipeline.smembers("{k}set")),
                repr(pipeline.hsetnx("{k}hash", "a", 1)),
            ]

    with single_server(cluster, **shape) as plain:
        expected = watched(plain)
        plain.flushall()
    assert watched(make(**shape)) == expected


def test_a_value_that_is_no_text_fails_as_on_a_single_server(
    cluster: Cluster, make: MakeClusterClient
) -> None:
    def dumped(client: Any) -> bytes:
        client.set("{k}", "value")
        outside: bytes = client.dump("{k}")
        with pytest.raises(UnicodeDecodeError):  # redis-py forgets NEVER_DECODE in transactions
            client.pipeline(transaction=True).dump("{k}").execute()
        return outside

    with single_server(cluster, decode_responses=True) as plain:
        assert dumped(make(decode_responses=True)) == dumped(plain)


def test_errors_stand_among_the_parsed_results(make: MakeClusterClient) -> None:
    pipeline = make().pipeline(transaction=True)
    pipeline.set("{k}", "text").hgetall("{k}").set("{k}", "other")
    first, error, last = pipeline.execute(raise_on_error=False)
    assert (first, type(error), last) == (True, redis.ResponseError, True)
    assert "WRONGTYPE" in str(error)


def queued(client: MonitoredRedisClusterConnection) -> Any:
    return client.pipeline(transaction=True).hgetall("{k}").execute()[0]


def watched(client: MonitoredRedisClusterConnection) -> Any:
    with client.pipeline(transaction=True) as pipeline:
        pipeline.watch("{k}")
        return pipeline.hgetall("{k}")


@pytest.mark.parametrize("ask", [queued, watched])
def test_a_callback_of_the_clients_own_gets_what_it_gets_outside_of_a_transaction(
    make: MakeClusterClient, ask: Callable[[Any], Any]
) -> None:
    client = make()
    client.hset("{k}", "field", "value")
    client.set_response_callback("HGETALL", lambda reply, **options: ("own", reply, options))
    assert ask(client) == client.hgetall("{k}") == ("own", {b"field": b"value"}, {})


@pytest.mark.parametrize("transaction", [True, False])
def test_a_callback_of_a_pipelines_own_is_no_other_pipelines(
    make: MakeClusterClient, transaction: bool
) -> None:
    client = make()
    client.set("{k}", "value")
    pipeline = client.pipeline(transaction=transaction)
    pipeline.set_response_callback("GET", lambda reply, **options: "own")
    assert pipeline.get("{k}").execute() == ["own"]
    assert client.pipeline(transaction=transaction).get("{k}").execute() == [b"value"]
    assert client.get("{k}") == b"value"
