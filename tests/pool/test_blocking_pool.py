"""The pool's leases: who may give a connection back, when it is closed, what is told of it."""

from __future__ import annotations

import gc
import math
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import (
    BlockingConnectionPool,
    ForkedConnectionError,
    MonitoredRedisConnection,
    PoolReleaseError,
    PoolTimeoutError,
    is_retryable,
    pool_from_config,
)

from ..support.servers import Server, wait_until


@pytest.fixture
def make_pool(valkey: Server) -> Any:
    pools = []

    def make(url: str | None = None, **settings: str) -> BlockingConnectionPool:
        own = {f"foo.{key}": value for key, value in settings.items()}
        pool = pool_from_config({"foo.url": url or valkey.url, **own}, "foo.")
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.disconnect()


MakePool = Callable[..., BlockingConnectionPool]


def identity(connection: Any) -> int:
    """The server's number for a connection."""
    connection.send_command("CLIENT", "ID")
    number = connection.read_response()
    assert isinstance(number, int)
    return number


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


def test_the_same_connection_is_equal_for_those_who_had_it(make_pool: MakePool) -> None:
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


def test_to_release_again_what_somebody_else_has_by_now_is_refused(make_pool: MakePool) -> None:
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


def test_to_use_what_was_released_is_refused(make_pool: MakePool) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    pool.release(connection)
    with pytest.raises(PoolReleaseError, match="used after it had been released"):
        connection.send_command("PING")
    with pytest.raises(PoolReleaseError, match="used after it had been released"):
        connection.read_response()


def test_to_close_what_was_released_harms_nobody(make_pool: MakePool) -> None:
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


def state_of_next(pool: BlockingConnectionPool) -> tuple[int, Any]:
    """The number of the connection that is used next, and what it answers."""
    connection = pool.get_connection()
    number = identity(connection)
    connection.send_command("ECHO", "mine")
    reply = connection.read_response()
    pool.release(connection)
    return number, reply


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


# Leaks


def held_for_long(pool: BlockingConnectionPool) -> Any:
    return pool.get_connection()


def test_a_connection_held_for_long_is_told_of_with_where_it_was_taken(
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


def test_a_connection_held_for_long_is_told_of_once(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(leak_warning="50 ms")
    connection = pool.get_connection()
    time.sleep(0.4)
    pool.release(connection)
    assert len(caplog.records) == 1


def test_connections_that_come_back_in_time_arent_told_of(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(leak_warning="300 ms")
    for _ in range(20):
        connection = pool.get_connection()
        time.sleep(0.02)
        pool.release(connection)
    assert caplog.records == []


# Errors


def test_an_exhausted_pool_says_who_how_long_and_what_to_change(
    make_pool: MakePool, valkey: Server
) -> None:
    pool = make_pool(max_connections="1", pool_timeout="20 ms")
    held = pool.get_connection()
    with pytest.raises(PoolTimeoutError) as caught:
        pool.get_connection()
    assert str(caught.value) == (
        f"foo: No connection available: all 1 to 127.0.0.1:{valkey.port} were in use for 0.02 "
        "seconds. Raise foo.max_connections or foo.pool_timeout, or set foo.leak_warning to log "
        "where connections are held."
    )
    assert isinstance(caught.value, redis.exceptions.MaxConnectionsError)
    pool.release(held)


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (PoolTimeoutError(), True),
        (redis.AuthenticationError(), False),
        (ForkedConnectionError(), False),
        (redis.BusyLoadingError(), True),
        (redis.WatchError(), True),
        (redis.ReadOnlyError(), True),
        (redis.exceptions.OutOfMemoryError(), True),
        (redis.ConnectionError("closed"), None),
        (redis.TimeoutError("frozen"), None),
        (redis.ResponseError("NOREPLICAS not enough"), True),
        (redis.ResponseError("UNBLOCKED client unblocked"), True),
        (redis.ResponseError("WRONGTYPE of value"), False),
        (redis.exceptions.NoPermissionError("NOPERM"), False),
        (redis.DataError(), False),
        (ValueError(), False),
    ],
)
def test_which_errors_are_retryable(error: Exception, retryable: bool | None) -> None:
    assert is_retryable(error) is retryable


@pytest.mark.parametrize("cause", [redis.ConnectionError(), redis.TimeoutError(), TimeoutError()])
def test_nobody_knows_whether_a_transaction_was_executed_whose_reply_was_lost(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch, cause: Exception
) -> None:
    # A TimeoutError may be a signal's handler's; redis-py takes it for the socket's.
    pipeline = MonitoredRedisConnection("foo", None, make_pool()).pipeline()
    pipeline.watch("key")
    pipeline.multi()
    pipeline.set("key", "value")

    def lost(*args: Any, **kwargs: Any) -> None:
        raise cause

    monkeypatch.setattr(pipeline.connection, "read_response", lost)
    with pytest.raises(redis.WatchError) as caught:
        pipeline.execute()
    assert is_retryable(caught.value) is None


def test_an_error_before_anything_was_sent_is_retryable(make_pool: MakePool) -> None:
    with pytest.raises(redis.ConnectionError) as caught:
        make_pool("redis://127.0.0.1:1").get_connection()
    assert is_retryable(caught.value) is True


def test_an_error_tells_client_and_server_once(make_pool: MakePool) -> None:
    with pytest.raises(redis.ConnectionError) as caught:
        make_pool("redis://127.0.0.1:1").get_connection()
    assert str(caught.value) == "foo: Error 111 connecting to 127.0.0.1:1. Connection refused."


def test_what_is_idle_is_closed_when_redis_py_wants_it_closed(make_pool: MakePool) -> None:
    pool = make_pool()
    state_of_next(pool)
    pool.disconnect_free_connections()
    assert (pool.stats.open, pool.stats.discards) == (0, 1)


# Forks


def in_child(do: Callable[[], None]) -> int:
    """Run something in a forked process; 0 if it raised nothing."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            do()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_has_connections_of_its_own(make_pool: MakePool) -> None:
    pool = make_pool()
    number, _ = state_of_next(pool)

    def child() -> None:
        assert state_of_next(pool)[0] != number
        assert pool.stats.open == 1

    assert in_child(child) == 0
    assert state_of_next(pool)[0] == number


def test_a_child_cant_release_what_its_parent_took(make_pool: MakePool) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    number = identity(connection)

    def child() -> None:
        with pytest.raises(PoolReleaseError, match="Release it in process "):
            pool.release(connection)
        assert pool.stats.open == 0

    assert in_child(child) == 0
    assert identity(connection) == number
    pool.release(connection)


def test_a_child_that_leaves_a_watching_pipeline_sends_nothing(make_pool: MakePool) -> None:
    client = MonitoredRedisConnection("foo", None, make_pool())
    with client.pipeline() as pipeline:
        pipeline.watch("key")

        def child() -> None:
            with pytest.raises(redis.WatchError, match="ForkedConnectionError"):
                pipeline.get("key")
            pipeline.reset()

        assert in_child(child) == 0
        pipeline.multi()
        pipeline.set("key", "value")
        assert pipeline.execute() == [True]


def test_a_client_with_its_own_connection_gets_a_new_one_in_a_child(make_pool: MakePool) -> None:
    client = MonitoredRedisConnection("foo", None, make_pool()).client()
    number = client.client_id()

    def child() -> None:
        assert client.client_id() != number

    assert in_child(child) == 0
    assert client.client_id() == number
    client.close()


def test_a_child_cant_listen_with_its_parents_subscriber(make_pool: MakePool) -> None:
    client = MonitoredRedisConnection("foo", None, make_pool())
    with client.pubsub() as subscriber:
        subscriber.subscribe("news")
        wait_until(lambda: subscriber.get_message(timeout=1))

        def child() -> None:
            with pytest.raises(ForkedConnectionError, match="checked out by process"):
                subscriber.subscribe("other")
            subscriber.close()

        assert in_child(child) == 0
        client.publish("news", "hello")
        message = subscriber.get_message(timeout=5)
        assert message is not None
        assert message["data"] == b"hello"


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
