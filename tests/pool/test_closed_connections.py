"""Connections that the pool closes: their slots are free at once, and their objects are dead."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import BlockingConnectionPool, PoolReleaseError

from ..support.servers import Server, free_port, wait_until
from .conftest import MakePool, state_of_next


def return_unread(pool: BlockingConnectionPool, connection: Any) -> None:
    """Return a connection whose last reply has not been read, so that the pool closes it."""
    connection.send_command("PING")
    pool.release(connection)


def test_a_slot_is_free_although_something_refers_to_it(make_pool: MakePool) -> None:
    pool = make_pool(max_connections="1", pool_timeout="100 ms")
    connection = pool.get_connection()
    kept = connection.slot
    return_unread(pool, connection)

    pool.release(pool.get_connection())
    assert kept not in pool.pool.slots()


def test_a_slot_is_free_although_the_error_of_its_connection_is_kept() -> None:
    pool = BlockingConnectionPool(
        host="127.0.0.1", port=free_port(), max_connections=1, timeout=0.1
    )
    kept = []
    for _ in range(2):
        with pytest.raises(redis.ConnectionError, match="refused") as caught:
            pool.get_connection()
        kept.append(caught.value)

    assert (pool.stats.open, pool.stats.creations, pool.stats.discards) == (0, 2, 2)


def test_a_waiting_caller_gets_the_slot_at_once(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyramid_baseplate_redis.pool.fair_queue.POLL_SECONDS", 60)
    pool = make_pool(max_connections="1")
    connection = pool.get_connection()
    got: list[Any] = []
    caller = threading.Thread(target=lambda: got.append(pool.get_connection()), daemon=True)
    caller.start()
    wait_until(lambda: pool.stats.waiting)
    return_unread(pool, connection)

    caller.join(4)
    assert got
    pool.release(got[0])


def test_a_caller_that_comes_while_all_are_closed_gets_a_slot(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyramid_baseplate_redis.pool.fair_queue.POLL_SECONDS", 60)
    pool = make_pool(max_connections="1")
    pool.release(pool.get_connection())
    got: list[Any] = []
    caller = threading.Thread(target=lambda: got.append(pool.get_connection()), daemon=True)
    close = pool._close_idle

    def close_slowly(*args: Any) -> None:
        caller.start()
        wait_until(lambda: pool.stats.waiting)
        close(*args)

    monkeypatch.setattr(pool, "_close_idle", close_slowly)
    pool.disconnect()

    caller.join(4)
    assert got
    pool.release(got[0])


def test_an_idle_connection_that_the_server_has_closed_is_not_used(
    make_pool: MakePool, valkey: Server
) -> None:
    pool = make_pool()
    number, _ = state_of_next(pool)
    with redis.Redis(port=valkey.port) as admin:
        admin.client_kill_filter(_id=str(number))

    assert state_of_next(pool)[0] != number


def test_the_object_of_a_closed_connection_is_dead(make_pool: MakePool) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    return_unread(pool, connection)

    with pytest.raises(PoolReleaseError, match="used after it had been released"):
        connection.send_command("PING")
    with pytest.raises(PoolReleaseError, match="released before"):
        pool.release(connection)


def test_the_object_of_a_closed_connection_keeps_its_address(make_pool: MakePool) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    return_unread(pool, connection)

    keywords = pool.connection_kwargs
    assert (connection.host, connection.port, connection.db) == (
        keywords["host"], keywords["port"], keywords["db"],
    )  # fmt: skip


def test_the_object_of_a_connection_for_redis_pys_way_is_dead_after_its_return(
    make_pool: MakePool,
) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    connection.is_direct = False
    pool.release(connection)

    assert pool.stats.idle == 1
    with pytest.raises(PoolReleaseError, match="used after it had been released"):
        connection.send_command("PING")


def test_the_object_of_a_kept_connection_to_a_node_has_its_address(make_pool: MakePool) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    connection.is_node = True
    pool.release(connection)

    assert connection.port == pool.connection_kwargs["port"]


def test_the_object_of_a_kept_connection_to_no_node_has_no_address(make_pool: MakePool) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    pool.release(connection)

    with pytest.raises(PoolReleaseError):
        _ = connection.port


def test_objects_of_different_connections_differ_from_other_things(make_pool: MakePool) -> None:
    pool = make_pool()
    connection = pool.get_connection()

    assert connection != object()
    pool.release(connection)


def test_redis_py_closes_the_idle_connections_only(make_pool: MakePool) -> None:
    pool = make_pool()
    in_use, idle = pool.get_connection(), pool.get_connection()
    pool.release(idle)
    pool.disconnect_free_connections()

    assert in_use.is_connected
    assert (pool.stats.open, pool.stats.idle) == (1, 0)
    pool.release(in_use)


@pytest.mark.parametrize(("address", "closed"), [("127.0.0.1", True), ("10.0.0.1", False)])
def test_redis_py_closes_the_idle_connections_to_an_address_that_moves(
    make_pool: MakePool, address: str, closed: bool
) -> None:
    pool = make_pool()
    pool.release(pool.get_connection())
    pool.disconnect_free_connections(moving_address_src=address)

    (idle,) = pool._get_free_connections()
    assert idle.is_connected is not closed


def test_closing_all_counts_each_closed_connection_once(make_pool: MakePool) -> None:
    pool = make_pool()
    for connection in [pool.get_connection() for _ in range(3)]:
        pool.release(connection)
    pool.disconnect()

    assert (pool.stats.open, pool.stats.creations, pool.stats.discards) == (0, 3, 3)
