"""A forked child has connections of its own and cannot use its parent's."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable

import pytest
import redis

from pyramid_baseplate_redis import (
    ForkedConnectionError,
    MonitoredRedisConnection,
    PoolReleaseError,
)

from ..support.servers import wait_until
from .conftest import MakePool, identity, state_of_next


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


def test_the_figures_of_a_child_do_not_count_its_parents_connections(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.release(pool.get_connection())

    def child() -> None:
        assert (pool.stats.open, pool.stats.idle, pool.stats.creations) == (0, 0, 0)

    assert in_child(child) == 0
    assert (pool.stats.open, pool.stats.idle, pool.stats.creations) == (1, 1, 1)
    pool.reset()
    assert (pool.stats.open, pool.stats.creations) == (0, 1)  # what has happened is still counted


def test_a_child_that_closes_a_pool_leaves_its_parents_connections_alone(
    make_pool: MakePool,
) -> None:
    pool = make_pool()
    held = pool.get_connection()
    number = identity(held)

    def child() -> None:
        pool.disconnect()
        assert held.is_connected  # not even this process's copy is closed
        assert (pool.pid, pool.stats.discards) == (os.getpid(), 0)

    assert in_child(child) == 0
    assert identity(held) == number


def test_a_child_cant_release_what_its_parent_took(make_pool: MakePool) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    number = identity(connection)

    def child() -> None:
        with pytest.raises(PoolReleaseError, match="Release it in process "):
            pool.release(connection)
        assert pool.stats.open == 0
        assert not connection.is_connected  # or the server would see it after the parent closed it

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
