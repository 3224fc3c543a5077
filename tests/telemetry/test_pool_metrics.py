"""The metrics of pools and their connections, as a metric reader collects them."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import PoolTimeoutError, RedisClient

from ..faults.helpers import connections_at, in_child, in_threads
from ..support.metrics import BUCKETS, CREATE_TIME, USE_TIME, WAIT_TIME, Collected, Connect
from ..support.servers import Server, wait_until
from ..support.topologies import Cluster

pytestmark = pytest.mark.usefixtures("provider")


def test_the_figures_of_a_clients_pool_are_collected(valkey: Server, connect: Connect) -> None:
    client = connect(valkey.url, max_connections="2", pool_timeout="0 seconds")
    pool = client.connection_pool
    held, other = pool.get_connection(), pool.get_connection()
    with pytest.raises(PoolTimeoutError):
        pool.get_connection()
    pool.release(other)
    assert Collected().stats(client.context_name) == {
        "count idle": (1, "{connection}"),
        "count used": (1, "{connection}"),
        "max": (2, "{connection}"),
        "pending_requests": (0, "{request}"),
        "timeouts": (1, "{timeout}"),
    }
    pool.release(held)


def test_callers_that_wait_for_a_connection_are_counted(valkey: Server, connect: Connect) -> None:
    client = connect(valkey.url, max_connections="1", pool_timeout="20 seconds")
    held = client.connection_pool.get_connection()
    waiting = threading.Thread(target=client.get, args=("key",))
    waiting.start()
    wait_until(lambda: client.connection_pool.stats.waiting == 1)
    assert Collected().stats(client.context_name)["pending_requests"] == (1, "{request}")
    client.connection_pool.release(held)
    waiting.join()
    assert Collected().stats(client.context_name)["pending_requests"] == (0, "{request}")


def test_the_wait_for_a_connection_is_recorded(valkey: Server, connect: Connect) -> None:
    client = connect(valkey.url, max_connections="1", pool_timeout="20 seconds")
    held = client.connection_pool.get_connection()
    waiting = threading.Thread(target=client.get, args=("key",))
    waiting.start()
    time.sleep(0.2)
    client.connection_pool.release(held)
    waiting.join()
    point = Collected().one(WAIT_TIME, client.context_name)
    assert point.attributes == {"db.client.connection.pool.name": client.context_name}
    assert (point.value, point.unit, point.bounds) == (2, "s", BUCKETS)
    assert point.seconds >= 0.1


def test_the_use_of_a_connection_is_recorded(valkey: Server, connect: Connect) -> None:
    client = connect(valkey.url)
    held = client.connection_pool.get_connection()
    time.sleep(0.2)
    client.connection_pool.release(held)
    point = Collected().one(USE_TIME, client.context_name)
    assert point.attributes == {"db.client.connection.pool.name": client.context_name}
    assert (point.value, point.unit, point.bounds) == (1, "s", BUCKETS)
    assert point.seconds >= 0.15


def test_a_connection_that_is_made_is_recorded_once(valkey: Server, connect: Connect) -> None:
    client = connect(valkey.url)
    client.get("key")
    client.get("key")
    point = Collected().one(CREATE_TIME, client.context_name)
    assert point.attributes == {"db.client.connection.pool.name": client.context_name}
    assert (point.value, point.unit, point.bounds) == (1, "s", BUCKETS)


def test_a_connection_that_was_lost_and_is_made_anew_is_recorded(
    mortal: Server, connect: Connect
) -> None:
    client = connect(mortal.url)
    client.get("key")
    mortal.kill()
    mortal.restart()
    client.get("key")
    assert Collected().one(CREATE_TIME, client.context_name).value == 2


def test_a_connection_that_cant_be_made_is_not_recorded(mortal: Server, connect: Connect) -> None:
    client = connect(mortal.url)
    mortal.kill()
    with pytest.raises(redis.ConnectionError):
        client.get("key")
    assert Collected().of(CREATE_TIME, client.context_name) == []
    assert Collected().of(WAIT_TIME, client.context_name) == []


def test_the_figures_are_the_servers_after_errors_under_threads(
    valkey: Server, connect: Connect
) -> None:
    client = connect(valkey.url, client_name="metered", max_connections="4")

    def work() -> None:
        for number in range(30):
            with suppress(redis.RedisError):
                if number % 3 == 0:
                    client.execute_command("GET")
                elif number % 3 == 1:
                    client.client_kill_filter(skipme=False, laddr=f"127.0.0.1:{valkey.port}")
                else:
                    client.get("key")

    in_threads(*[work] * 8)
    pool = client.connection_pool
    taken = [pool.get_connection() for _ in range(3)]
    for connection in taken:
        pool.release(connection)
    figures = Collected().stats(client.context_name)
    assert figures["count used"] == (0, "{connection}")
    assert figures["count idle"][0] == pool.stats.open
    wait_until(lambda: connections_at(valkey, pool) == pool.stats.open)


def test_the_figures_of_a_forked_process_are_its_own(valkey: Server, connect: Connect) -> None:
    client = connect(valkey.url, client_name="parent")
    pool = client.connection_pool
    held = [pool.get_connection() for _ in range(3)]
    pool.release(held.pop())

    def seen() -> tuple[Any, Any, Any, int]:
        before = Collected().stats(client.context_name)
        client.client_setname(f"child-{os.getpid()}")
        names = [each["name"] for each in client.client_list()]
        after = Collected().stats(client.context_name)
        return (
            [before[key][0] for key in ("count idle", "count used")],
            [after[key][0] for key in ("count idle", "count used")],
            pool.stats.creations,
            names.count(f"child-{os.getpid()}"),
        )

    assert in_child(seen) == ([0, 0], [1, 0], 1, 1)
    mine = Collected().stats(client.context_name)
    assert (mine["count idle"][0], mine["count used"][0]) == (1, 2)
    assert connections_at(valkey, pool) == 3
    for connection in held:
        pool.release(connection)


def test_the_nodes_of_a_cluster_are_taken_together(cluster: Cluster, connect: Connect) -> None:
    client = connect(cluster.url)
    for number in range(50):
        client.get(f"key{number}")
    collected = Collected()
    assert collected.stats(client.context_name)["count idle"][0] == len(cluster.primaries())
    assert collected.one(USE_TIME, client.context_name).value >= 50


def test_a_pool_has_the_name_that_its_spans_have() -> None:
    factory = RedisClient("cache-pool").parse("foo", {"foo.url": "redis://localhost"})
    assert Collected().stats("cache-pool")["max"] == (50, "{connection}")
    del factory


def test_a_pool_that_is_gone_is_no_longer_collected() -> None:
    RedisClient().parse("gone", {"gone.url": "redis://localhost"})
    assert Collected().stats("gone") == {}
