"""Errors of a pool and its connections: their messages, and which ones are retryable."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import (
    ForkedConnectionError,
    MonitoredRedisConnection,
    PoolTimeoutError,
    is_retryable,
)

from ..support.servers import Server
from .conftest import MakePool, state_of_next


def test_an_exhausted_pool_names_the_client_the_wait_and_what_to_change(
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
def test_it_is_unknown_whether_a_transaction_was_executed_whose_reply_was_lost(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch, cause: Exception
) -> None:
    # A TimeoutError may be a signal's handler's; redis-py takes it for the socket's.
    pipeline = MonitoredRedisConnection("foo", None, make_pool()).pipeline()
    pipeline.watch("key")
    pipeline.multi()
    pipeline.set("key", "value")

    def lost(*args: Any, **kwargs: Any) -> None:
        raise cause

    monkeypatch.setattr(type(pipeline.connection), "read_all", lost)
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
