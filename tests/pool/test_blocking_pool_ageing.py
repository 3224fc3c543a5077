"""Connections that are idle for long, old, or held for long."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import BlockingConnectionPool
from pyramid_baseplate_redis.pool.connection import PooledConnection

from ..support.servers import Server, wait_until
from .conftest import MakePool, identity, state_of_next

# Ageing


def test_spare_connections_are_closed_after_max_idle_time(
    make_pool: MakePool, valkey: Server
) -> None:
    pool = make_pool(max_idle_time="200 ms", client_name="ageing")
    for connection in [pool.get_connection() for _ in range(3)]:
        pool.release(connection)

    def one_is_left_in_use() -> bool:
        pool.release(pool.get_connection())
        return pool.stats.open == 1

    wait_until(one_is_left_in_use)
    wait_until(lambda: pool.stats.open == 0)
    with redis.Redis(port=valkey.port) as admin:
        wait_until(lambda: "ageing" not in [c["name"] for c in admin.client_list()])


def test_the_idle_connection_that_was_used_last_is_used_next(make_pool: MakePool) -> None:
    pool = make_pool()
    first, second = pool.get_connection(), pool.get_connection()
    number = identity(second)
    pool.release(first)
    pool.release(second)
    assert state_of_next(pool)[0] == number


def test_a_connection_is_replaced_after_max_lifetime(make_pool: MakePool) -> None:
    pool = make_pool(max_lifetime="100 ms")
    first, _ = state_of_next(pool)
    time.sleep(0.11)
    assert state_of_next(pool)[0] != first


def test_a_connection_that_outlived_its_time_isnt_kept(make_pool: MakePool) -> None:
    pool = make_pool(max_lifetime="50 ms")
    connection = pool.get_connection()
    time.sleep(0.06)
    pool.release(connection)
    assert pool.stats.open == 0


@pytest.mark.parametrize("error", [redis.ConnectionError, redis.TimeoutError, OSError])
def test_an_idle_connection_that_cannot_be_read_is_replaced(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    connection.is_direct = False  # as a connection on which redis-py's own commands are sent
    number = identity(connection)
    pool.release(connection)

    def fail(self: Any, timeout: float = 0) -> bool:
        raise error

    monkeypatch.setattr(PooledConnection, "can_read", fail)
    monkeypatch.setattr(PooledConnection, "is_quiet", lambda self: False)

    assert state_of_next(pool)[0] != number
    assert pool.stats.discards == 1


def test_lifetimes_differ_by_up_to_a_tenth(make_pool: MakePool) -> None:
    pool = make_pool(max_lifetime="100 seconds")
    now = time.monotonic()
    connections = [pool.get_connection() for _ in range(20)]
    lives = [connection.slot.closes_at - now for connection in connections]
    assert min(lives) >= 90
    assert max(lives) <= 101
    assert max(lives) - min(lives) > 1
    for connection in connections:
        pool.release(connection)


def test_without_ageing_there_is_no_thread(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*args: Any) -> bool:
        raise AssertionError("a thread was started")

    monkeypatch.setattr("pyramid_baseplate_redis.pool.blocking_pool.start_background", start)
    pool = make_pool(max_idle_time="0 s", leak_warning="0 s")
    pool.release(pool.get_connection())


def test_callers_that_come_at_once_start_one_thread(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(max_idle_time="1 s")
    starts: list[Any] = []

    def start(*args: Any) -> bool:
        starts.append(args)
        if len(starts) == 1:
            pool.release(pool.get_connection())  # another caller
        return True

    monkeypatch.setattr("pyramid_baseplate_redis.pool.blocking_pool.start_background", start)
    pool.release(pool.get_connection())

    assert len(starts) == 1


@pytest.mark.parametrize("opened", [[0, 1], [0, 0, 1, 1]], ids=["early", "late"])
def test_the_thread_stays_for_a_caller_that_comes_while_it_ends(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch, opened: list[int]
) -> None:
    monkeypatch.setattr(
        "pyramid_baseplate_redis.pool.blocking_pool.start_background", lambda *args: True
    )
    pool = make_pool(max_idle_time="1 s")
    connection = pool.get_connection()
    numbers = iter(opened)
    monkeypatch.setattr(type(pool.pool), "open", property(lambda queue: next(numbers)))

    assert pool.keep_house()
    assert pool._has_background
    monkeypatch.undo()
    pool.release(connection)


def test_a_connection_that_was_used_just_now_is_kept(make_pool: MakePool) -> None:
    pool = make_pool(max_idle_time="1 minute")
    pool.release(pool.get_connection())

    assert pool.keep_house()
    assert pool.stats.idle == 1


def test_the_thread_ends_when_no_connection_is_open(make_pool: MakePool) -> None:
    pool = make_pool(max_idle_time="1 minute")

    assert pool.keep_house() is False


@pytest.mark.parametrize("has_started", [True, False], ids=["has started one", "starts one"])
def test_the_thread_ends_if_a_caller_starts_another_one(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch, has_started: bool
) -> None:
    pool = make_pool(max_idle_time="1 minute")
    connection = pool.get_connection()

    def taken() -> Any:
        pool._has_background = has_started
        return object() if has_started else None  # None: the caller has the claim

    monkeypatch.setattr(pool._starting, "take", taken)

    assert not pool._is_relied_on()
    pool.release(connection)


def test_a_caller_that_comes_while_an_idle_connection_is_closed_gets_its_slot(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyramid_baseplate_redis.pool.fair_queue.POLL_SECONDS", 60)
    monkeypatch.setattr(
        "pyramid_baseplate_redis.pool.blocking_pool.start_background", lambda *args: True
    )
    pool = make_pool(max_connections="1", max_idle_time="1 ms")
    connection = pool.get_connection()
    pool.release(connection)
    got: list[Any] = []
    caller = threading.Thread(target=lambda: got.append(pool.get_connection()), daemon=True)
    close = pool._close_idle

    def close_slowly(*args: Any) -> None:
        caller.start()
        wait_until(lambda: pool.stats.waiting)
        close(*args)

    monkeypatch.setattr(pool, "_close_idle", close_slowly)
    time.sleep(0.01)
    pool.keep_house()

    caller.join(5)
    assert got
    pool.release(got[0])


# Leaks


def held_for_long(pool: BlockingConnectionPool) -> Any:
    return pool.get_connection()


def test_a_connection_held_for_long_is_reported_with_where_it_was_taken(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(leak_warning="50 ms")
    connection = held_for_long(pool)
    wait_until(lambda: caplog.records)
    message = caplog.records[0].getMessage()
    assert message.startswith("foo: connection held for 0.")
    assert "in held_for_long" in message
    assert "pyramid_baseplate_redis" not in message
    pool.release(connection)


def test_a_connection_held_for_long_is_reported_once(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(leak_warning="50 ms")
    connection = pool.get_connection()
    time.sleep(0.4)
    pool.release(connection)
    assert len(caplog.records) == 1


def test_connections_that_come_back_in_time_arent_reported(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(leak_warning="300 ms")
    for _ in range(20):
        connection = pool.get_connection()
        time.sleep(0.02)
        pool.release(connection)
    assert caplog.records == []
