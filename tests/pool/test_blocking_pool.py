"""The pool's leases: who may give a connection back, and when it is closed."""

from __future__ import annotations

import gc
import math
import threading
from dataclasses import asdict
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pyramid_baseplate_redis import (
    BlockingConnectionPool,
    MonitoredRedisConnection,
    PoolReleaseError,
    PoolTimeoutError,
)

from ..support.servers import Server
from .conftest import MakePool, identity, state_of_next

# Figures


def test_the_figures_of_a_new_pool_are_zero(make_pool: MakePool) -> None:
    figures = asdict(make_pool(max_connections="7").stats)
    assert figures.pop("max") == 7
    assert set(figures.values()) == {0}


def test_the_figures_tell_idle_connections_from_those_in_use(make_pool: MakePool) -> None:
    pool = make_pool()
    held, other = pool.get_connection(), pool.get_connection()
    pool.release(other)
    figures = pool.stats
    assert (figures.open, figures.idle, figures.in_use) == (2, 1, 1)
    pool.release(held)


def test_the_figures_count_what_happened(make_pool: MakePool) -> None:
    pool = make_pool(max_connections="1", pool_timeout="10 ms")
    held = pool.get_connection()
    with pytest.raises(PoolTimeoutError):
        pool.get_connection()
    held.disconnect()
    pool.release(held)
    figures = pool.stats
    assert (figures.waits, figures.timeouts, figures.creations, figures.discards) == (1, 1, 1, 1)


# Giving back


def test_a_connection_is_used_again(make_pool: MakePool) -> None:
    pool = make_pool()
    first = pool.get_connection()
    number = identity(first)
    pool.release(first)
    second = pool.get_connection()
    assert identity(second) == number
    pool.release(second)


def test_the_same_connection_is_equal_for_all_its_holders(make_pool: MakePool) -> None:
    pool = make_pool()
    first = pool.get_connection()
    pool.release(first)
    second, other = pool.get_connection(), pool.get_connection()
    assert first == second
    assert hash(first) == hash(second)
    assert first != other
    pool.release(second)
    pool.release(other)


def test_to_release_twice_is_refused(make_pool: MakePool) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    pool.release(connection)
    with pytest.raises(PoolReleaseError, match=r"^foo: .* released before"):
        pool.release(connection)
    assert (pool.stats.idle, pool.stats.in_use) == (1, 0)


def test_to_release_again_what_another_caller_has_by_now_is_refused(make_pool: MakePool) -> None:
    pool = make_pool()
    mine = pool.get_connection()
    pool.release(mine)
    others = pool.get_connection()
    with pytest.raises(PoolReleaseError):
        pool.release(mine)
    third = pool.get_connection()
    assert identity(others) != identity(third)
    pool.release(others)
    pool.release(third)


def test_a_thread_that_releases_late_leaves_the_next_callers_connection_alone(
    make_pool: MakePool,
) -> None:
    class Late:
        """The connection in the slower of two threads, which has just read its ``__dict__``."""

    pool = make_pool(max_connections="1")
    connection = pool.get_connection()
    slot, late = connection.slot, Late()
    late.__dict__ = connection.__dict__
    pool.release(connection)
    again = pool.get_connection()

    assert slot.check_in(late) is None
    pool.release(again)


def test_a_connection_is_closed_before_its_slot_is_free(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(max_connections="1")
    connection = pool.get_connection()
    connection.send_command("PING")  # its reply stays unread
    close = type(connection).disconnect
    free: list[int] = []

    def disconnect(closed: Any, *args: Any, **kwargs: Any) -> None:
        close(closed, *args, **kwargs)
        free.append(pool.pool.qsize())

    monkeypatch.setattr(type(connection), "disconnect", disconnect)
    pool.release(connection)

    assert free[0] == 0
    assert pool.pool.qsize() == 1


def test_to_use_what_was_released_is_refused(make_pool: MakePool) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    pool.release(connection)
    with pytest.raises(PoolReleaseError, match="used after it had been released"):
        connection.send_command("PING")
    with pytest.raises(PoolReleaseError, match="used after it had been released"):
        connection.read_response()


def test_to_close_what_was_released_is_harmless(make_pool: MakePool) -> None:
    pool = make_pool()
    mine = pool.get_connection()
    pool.release(mine)
    others = pool.get_connection()
    number = identity(others)
    mine.disconnect()
    del mine
    assert identity(others) == number
    pool.release(others)


def test_a_released_connection_can_be_shown(make_pool: MakePool) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    pool.release(connection)
    assert repr(connection) == "<Connection (released)>"


def test_to_release_to_another_pool_is_refused(make_pool: MakePool) -> None:
    pool, other = make_pool(), make_pool()
    connection = pool.get_connection()
    with pytest.raises(PoolReleaseError, match="belongs to another pool"):
        other.release(connection)
    assert (other.stats.open, pool.stats.in_use) == (0, 1)
    pool.release(connection)


def test_a_connection_that_was_dropped_frees_its_slot(make_pool: MakePool) -> None:
    pool = make_pool(max_connections="1", pool_timeout="100 ms")
    connection = pool.get_connection()
    del connection
    pool.release(pool.get_connection())


def test_a_pipeline_that_was_dropped_in_a_cycle_frees_its_slot(make_pool: MakePool) -> None:
    pool = make_pool(max_connections="1", pool_timeout="100 ms")
    pipeline = MonitoredRedisConnection("foo", None, pool).pipeline()
    pipeline.watch("key")
    pipeline.itself = pipeline  # type: ignore[attr-defined]
    del pipeline
    gc.collect()
    assert pool.stats.in_use == 0
    pool.release(pool.get_connection())
    assert pool.stats.open == 1


# Clean or closed


@pytest.mark.parametrize(
    "commands",
    [
        [("ECHO", "unread")],
        [("WATCH", "key")],
        [("MULTI",)],
        [("SELECT", 3)],
        [("watch", "key")],
        [(b"MULTI",)],
        [("SUBSCRIBE", "news")],
        [("CLIENT REPLY", "OFF")],
    ],
)
def test_a_connection_that_isnt_as_it_was_is_closed(
    make_pool: MakePool, commands: list[tuple[Any, ...]]
) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    number = identity(connection)
    for command in commands:
        connection.send_command(*command)
        if command not in [("ECHO", "unread"), ("CLIENT REPLY", "OFF")]:
            connection.read_response(push_request=True)
    pool.release(connection)
    following, reply = state_of_next(pool)
    assert (following != number, reply) == (True, b"mine")


@pytest.mark.parametrize(
    "commands",
    [
        [("WATCH", "key"), ("UNWATCH",)],
        [("WATCH", "key"), ("MULTI",), ("EXEC",)],
        [("MULTI",), ("DISCARD",)],
        [("GET", "key")],
    ],
)
def test_a_connection_that_is_as_it_was_is_kept(
    make_pool: MakePool, commands: list[tuple[Any, ...]]
) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    number = identity(connection)
    for command in commands:
        connection.send_command(*command)
        connection.read_response()
    pool.release(connection)
    assert state_of_next(pool) == (number, b"mine")


def test_an_error_of_the_server_is_a_reply(make_pool: MakePool) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    number = identity(connection)
    connection.send_command("NONSENSE")
    with pytest.raises(redis.ResponseError):
        connection.read_response()
    pool.release(connection)
    assert state_of_next(pool) == (number, b"mine")


class _Interrupted(BaseException):
    pass


def test_an_interrupted_handshake_is_never_taken_for_a_connection(
    make_pool: MakePool, valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(valkey.url.replace("/0", "/3"), max_connections="1")
    connect = redis.Connection.send_command

    def interrupted(self: Any, *args: Any, **kwargs: Any) -> None:
        if args[0] == "SELECT":
            raise _Interrupted
        self.send_packed_command(self.pack_command(*args), check_health=False)

    monkeypatch.setattr(
        "pyramid_baseplate_redis.pool.connection.PooledConnection.send_command", interrupted
    )
    with pytest.raises(_Interrupted):
        pool.get_connection()
    monkeypatch.undo()
    assert redis.Redis(connection_pool=pool).client_info()["db"] == 3
    assert connect is redis.Connection.send_command


# redis-py's own ways to it


def test_another_queue_class_is_refused() -> None:
    with pytest.raises(TypeError, match="queue_class"):
        BlockingConnectionPool(queue_class=list)


def test_a_subclass_may_make_its_own_connections(valkey: Server) -> None:
    class Own(BlockingConnectionPool):
        def make_connection(self) -> Any:
            made = super().make_connection()
            made.mine = True
            return made

    pool = Own(host="127.0.0.1", port=valkey.port)
    connection = pool.get_connection()
    assert connection.mine
    pool.release(connection)
    assert redis.Redis(connection_pool=pool).ping()
    pool.disconnect()


def test_a_connection_that_connects_again_has_redis_pys_retries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = BlockingConnectionPool(retry=Retry(NoBackoff(), 2))
    connection = pool.make_connection()
    attempts = []

    def refused() -> None:
        attempts.append(1)
        raise redis.ConnectionError("refused")

    monkeypatch.setattr(connection, "_connect", refused)
    with pytest.raises(redis.ConnectionError, match="refused"):
        connection.reconnect()
    assert len(attempts) == 3


def test_callers_wait_while_redis_py_handles_a_move_of_the_server(make_pool: MakePool) -> None:
    pool = make_pool()
    served = threading.Event()

    def take() -> None:
        pool.release(pool.get_connection())
        served.set()

    with pool._get_pool_lock():  # redis-py holds it while it changes the connections
        pool._in_maintenance = True
        threading.Thread(target=take, daemon=True).start()
        assert not served.wait(0.05)
    assert served.wait(10)


def test_callers_do_not_wait_for_redis_pys_lock_otherwise(make_pool: MakePool) -> None:
    pool = make_pool()
    served = threading.Event()

    def take() -> None:
        pool.get_connection()
        served.set()

    with pool._get_pool_lock():
        threading.Thread(target=take, daemon=True).start()
        assert served.wait(10)


def test_a_closed_pool_has_no_connections(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.release(pool.get_connection())
    pool.close()
    assert pool.stats.open == 0


def test_closing_a_pool_closes_what_is_in_use_too(make_pool: MakePool) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    pool.disconnect()
    assert not connection.is_connected
    pool.release(connection)


def test_closing_the_idle_connections_spares_those_in_use(make_pool: MakePool) -> None:
    pool = make_pool()
    connection, other = pool.get_connection(), pool.get_connection()
    pool.release(other)
    pool.disconnect(inuse_connections=False)
    assert connection.is_connected
    assert pool.stats.open == 1
    pool.release(connection)


def test_redis_pys_count_of_connections_is_the_pools(make_pool: MakePool) -> None:
    pool = make_pool()
    connection, other = pool.get_connection(), pool.get_connection()
    pool.release(other)
    assert [count for count, _ in pool.get_connection_count()] == [1, 1]
    pool.release(connection)


def test_a_new_token_is_used_by_idle_connections_when_they_are_used_next(
    make_pool: MakePool,
) -> None:
    pool = make_pool()
    number, _ = state_of_next(pool)
    pool.re_auth_callback(object())
    assert state_of_next(pool)[0] != number


def test_a_connection_whose_time_was_over_is_replaced_once(make_pool: MakePool) -> None:
    pool = make_pool(max_lifetime="0 seconds")
    connection = pool.get_connection()
    number, slot = identity(connection), connection.slot
    pool.release(connection)
    slot.closes_at = -math.inf
    replaced = state_of_next(pool)[0]
    assert replaced != number
    assert state_of_next(pool)[0] == replaced
