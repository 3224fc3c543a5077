"""A Cluster's commands go to their node directly, with the results and errors of redis-py's way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis.cluster import RedisCluster
from redis.exceptions import SlotNotCoveredError

from pyramid_baseplate_redis import MonitoredRedisClusterConnection
from pyramid_baseplate_redis.pool.direct import connection as direct_connection

from ..pool.direct.both_ways import chain, described
from ..support.topologies import Cluster
from .conftest import MakeClusterClient, another

Client = MonitoredRedisClusterConnection


def outcome(call: Callable[[Client], Any], client: Client) -> Any:
    try:
        return described(call(client))
    except Exception as error:
        return chain(error)


@pytest.fixture
def compared(
    cluster: Cluster, make: MakeClusterClient, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Do the same with a client of each way, and return what it returns or raises."""

    def compared(call: Callable[[Client], Any], change: Callable[[], Any], **settings: str) -> Any:
        outcomes = []
        ask = direct_connection.DirectConnection.ask
        for is_direct in (True, False):
            with monkeypatch.context() as patch:
                asked = []

                def noted(self: Any, *args: Any, asked: list[Any] = asked, **kwargs: Any) -> Any:
                    asked.append(args)
                    return ask(self, *args, **kwargs)

                patch.setattr(direct_connection.DirectConnection, "ask", noted)
                if not is_direct:
                    patch.setattr(direct_connection, "qualifies", lambda *args: False)
                client = make(cluster, **settings)
                client.delete("{direct}")
                asked.clear()
                change()
                outcomes.append((outcome(call, client), client.connection_pool.stats))
                assert bool(asked) is is_direct
        assert outcomes[0] == outcomes[1]
        return outcomes[0][0]

    return compared


CALLS: dict[str, Callable[[Client], Any]] = {
    "nil": lambda client: client.get("{direct}"),
    "set": lambda client: [client.set("{direct}", "x", ex=5), client.get("{direct}")],
    "number": lambda client: [client.incr("{direct}", 5), client.ttl("{direct}")],
    "hash": lambda client: [
        client.hset("{direct}", mapping={"a": 1, "b": 2}), client.hgetall("{direct}")
    ],
    "set of members": lambda client: [client.sadd("{direct}", "a"), client.smembers("{direct}")],
    "sorted set": lambda client: [
        client.zadd("{direct}", {"a": 1.5}), client.zrange("{direct}", 0, -1, withscores=True)
    ],
    "wrong type": lambda client: [client.set("{direct}", "x"), client.lpush("{direct}", "y")],
    "wrong argument": lambda client: client.set("{direct}", None),
    "bytes": lambda client: [client.set(b"{direct}", b"\xff"), client.get(b"{direct}")],
}  # fmt: skip


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("settings", [{}, {"decode_responses": "true"}, {"retries": "2"}], ids=str)
def test_a_command(compared: Any, call: Callable[[Client], Any], settings: dict[str, str]) -> None:
    compared(call, lambda: None, **settings)


def test_a_slot_that_has_moved(compared: Any, cluster: Cluster) -> None:
    def move() -> None:
        source = cluster.node_of("{direct}")
        cluster.migrate_slot(cluster.slot_of("{direct}"), source, another(cluster, source))

    found = compared(lambda client: client.set("{direct}", "x"), move)

    assert found == (bool, True)


KEYS = ["key", "{tag}key", "a{tag}b", "{}key", "é", b"key", b"\xff", bytearray(b"key"),
        memoryview(b"key"), 7, 1.5, None, True]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
def test_the_slot_of_a_key(cluster: Cluster, make: MakeClusterClient, key: Any) -> None:
    client = make(cluster)
    found = outcome(lambda client: client.keyslot(key), client)
    assert found == outcome(lambda client: RedisCluster.keyslot(client, key), client)


def test_a_slot_that_no_node_has(cluster: Cluster, make: MakeClusterClient) -> None:
    client = make(cluster)
    client.get("{direct}")
    slots: dict[int, Any] = client.nodes_manager.slots_cache
    for nodes in ([], None):
        slots[cluster.slot_of("{direct}")] = nodes
        with pytest.raises(SlotNotCoveredError):
            client._execute_directly(("GET", "{direct}"))
