"""Connections of the application's own class, which derives from none of redis-py's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import BlockingConnectionPool
from pyramid_baseplate_redis.runtime.deadline import READING, Deadline, called

from ..support.servers import Server


class OwnConnection:
    """Sends and reads as redis-py's connection does, and has no more than what the pool needs."""

    def __init__(self, **keywords: Any) -> None:
        self._plain = redis.Connection(**keywords)
        self.connects = 0
        self.must_reconnect = False
        self.error: Exception | None = None
        self.pid = self._plain.pid

    def connect(self) -> None:
        self.connects += 1
        self._plain.connect()

    def disconnect(self, *args: Any) -> None:
        self._plain.disconnect(*args)

    def should_reconnect(self) -> bool:
        return self.must_reconnect

    def can_read(self, timeout: float = 0) -> bool:
        if self.error is not None:
            raise self.error
        return bool(self._plain.can_read(timeout))

    @property
    def is_open(self) -> bool:
        return self._plain._sock is not None


class KnowsItsState(OwnConnection):
    """Has ``is_connected``, as redis-py's connections do."""

    @property
    def is_connected(self) -> bool:
        return self.is_open


@pytest.fixture
def make_pool(valkey: Server) -> Iterator[Any]:
    pools = []

    def make(made: type[OwnConnection] = KnowsItsState, **options: Any) -> BlockingConnectionPool:
        pool = BlockingConnectionPool(
            host="127.0.0.1",
            port=valkey.port,
            connection_class=lambda **keywords: made(**keywords),
            **options,
        )
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.disconnect()


@pytest.mark.parametrize("made", [OwnConnection, KnowsItsState])
def test_it_is_used_again(make_pool: Any, made: type[OwnConnection]) -> None:
    pool = make_pool(made)
    connection = pool.get_connection()
    pool.release(connection)

    assert pool.get_connection() is connection
    assert pool.stats.creations == 1
    pool.release(connection)


def test_it_stays_connected_if_it_knows_that_it_is(make_pool: Any) -> None:
    pool = make_pool(KnowsItsState)
    connection = pool.get_connection()
    pool.release(connection)
    pool.release(pool.get_connection())

    assert connection.connects == 1


def test_it_connects_at_each_check_out_otherwise(make_pool: Any) -> None:
    pool = make_pool(OwnConnection)
    connection = pool.get_connection()
    pool.release(connection)
    pool.release(pool.get_connection())

    assert connection.connects == 2


@pytest.mark.parametrize("made", [OwnConnection, KnowsItsState])
def test_it_is_closed_at_its_return_if_it_has_to_connect_again(
    make_pool: Any, made: type[OwnConnection]
) -> None:
    pool = make_pool(made)
    connection = pool.get_connection()
    connection.must_reconnect = True
    pool.release(connection)

    assert not connection.is_open
    assert (pool.stats.open, pool.stats.discards) == (0, 1)


def test_it_is_closed_at_its_return_if_it_is_not_connected(make_pool: Any) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    connection.disconnect()
    pool.release(connection)

    assert pool.stats.open == 0


def test_it_is_replaced_at_its_check_out_if_it_has_to_connect_again(make_pool: Any) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    pool.release(connection)
    connection.must_reconnect = True
    pool.release(pool.get_connection())

    assert connection.connects == 2


def test_it_is_replaced_at_its_check_out_if_there_is_something_to_read(make_pool: Any) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    pool.release(connection)
    connection._plain.send_command("PING")
    while not connection.can_read():
        time.sleep(0.001)
    pool.release(pool.get_connection())

    assert connection.connects == 2
    assert (pool.stats.creations, pool.stats.discards) == (2, 1)


@pytest.mark.parametrize("error", [redis.ConnectionError(), redis.TimeoutError(), OSError()])
def test_it_is_replaced_at_its_check_out_if_it_cannot_be_read(
    make_pool: Any, error: Exception
) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    pool.release(connection)
    connection.error = error
    pool.release(pool.get_connection())

    assert connection.connects == 2


def test_it_is_replaced_at_its_check_out_after_its_lifetime(make_pool: Any) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    slot = connection.slot
    pool.release(connection)
    slot.expire()
    pool.release(pool.get_connection())

    assert connection.connects == 2
    assert not slot.is_expired


@pytest.mark.parametrize("made", [OwnConnection, KnowsItsState])
def test_the_holder_keeps_it_when_its_server_has_become_a_replica(
    make_pool: Any, made: type[OwnConnection]
) -> None:
    pool = make_pool(made)
    connection = pool.get_connection()
    connection.slot.expire()
    pool.leave_replica(connection)

    assert connection.is_open
    assert connection.slot.is_expired
    pool.release(connection)
    assert not connection.is_open


def test_a_call_may_have_sent_something_from_its_check_out_on(make_pool: Any) -> None:
    pool, deadline = make_pool(), Deadline(time.monotonic() + 10)
    connection = called(deadline, pool.get_connection)

    assert deadline.phase == READING
    pool.release(connection)
