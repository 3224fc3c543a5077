"""A connection of the pool waits for a limited time, and checks its server's health."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import PoolTimeoutError
from pyramid_baseplate_redis.runtime.deadline import (
    PACKING,
    READING,
    SENDING,
    WAITING,
    Deadline,
    called,
)

from ..support.servers import Server
from .conftest import MakePool

# Health checks


@pytest.fixture
def pings(valkey: Server) -> Any:
    """Return the number of PINGs that the server has got."""
    with redis.Redis(port=valkey.port) as admin:
        yield lambda: admin.info("commandstats").get("cmdstat_ping", {}).get("calls", 0)


def held(make_pool: MakePool, is_due: bool) -> Any:
    """Check out a connection whose health check is due, or has just been made."""
    connection = make_pool(health_check_interval="1 minute").get_connection()
    connection.next_health_check = time.monotonic() + (-1 if is_due else 60)
    return connection


@pytest.mark.parametrize("is_due", [True, False])
def test_an_idle_connection_is_checked_before_a_command_if_that_is_due(
    make_pool: MakePool, pings: Callable[[], int], is_due: bool
) -> None:
    connection, before = held(make_pool, is_due), pings()
    connection.send_command("ECHO", "mine")

    assert connection.read_response() == b"mine"
    assert pings() - before == is_due


def test_an_idle_connection_is_checked_before_a_pipeline(
    make_pool: MakePool, pings: Callable[[], int]
) -> None:
    connection, before = held(make_pool, is_due=True), pings()
    connection.send_packed_command(connection.pack_commands([("ECHO", "mine")]))

    assert connection.read_response() == b"mine"
    assert pings() - before == 1


def test_a_command_may_be_sent_without_a_check(
    make_pool: MakePool, pings: Callable[[], int]
) -> None:
    connection, before = held(make_pool, is_due=True), pings()
    connection.send_command("ECHO", "mine", check_health=False)

    assert connection.read_response() == b"mine"
    assert pings() == before


# Timeouts


def test_the_deadline_of_the_call_that_connects_is_not_the_next_calls(make_pool: MakePool) -> None:
    pool = make_pool(socket_timeout="30 seconds")
    connection = called(Deadline(time.monotonic() + 5), pool.get_connection)

    assert connection._sock.gettimeout() == 30
    assert connection._parser._socket_timeout == 30
    pool.release(connection)


def test_the_deadline_of_the_call_that_sends_is_not_the_next_calls(make_pool: MakePool) -> None:
    pool = make_pool(socket_timeout="30 seconds")
    connection = pool.get_connection()
    called(Deadline(time.monotonic() + 5), lambda: connection.send_command("PING"))

    assert connection._sock.gettimeout() == 30
    assert connection.read_response() == b"PONG"
    pool.release(connection)


def test_a_call_packs_its_command_after_the_check_out(make_pool: MakePool) -> None:
    pool, deadline = make_pool(), Deadline(time.monotonic() + 5)
    connection = called(deadline, pool.get_connection)

    assert deadline.phase == PACKING
    pool.release(connection)


def test_a_call_that_needs_another_connection_waits_again(make_pool: MakePool) -> None:
    pool, deadline = make_pool(max_connections="1"), Deadline(time.monotonic() + 0.05)
    connection = pool.get_connection()
    deadline.enter(READING)
    with pytest.raises(PoolTimeoutError):
        called(deadline, pool.get_connection)

    assert deadline.phase == WAITING
    pool.release(connection)


def test_a_call_knows_that_it_has_begun_to_send(make_pool: MakePool) -> None:
    pool, deadline = make_pool(), Deadline(time.monotonic() + 5)
    connection = pool.get_connection()
    called(deadline, lambda: connection.send_command("PING"))

    assert deadline.phase == SENDING
    assert connection.read_response() == b"PONG"
    pool.release(connection)


def test_the_deadline_of_a_call_ends_what_a_server_does_not_read(make_pool: MakePool) -> None:
    connection = make_pool(socket_timeout="30 seconds").get_connection()
    near, far = socket.socketpair()
    connection._sock.close()
    connection._sock = near
    started = time.monotonic()
    with far, pytest.raises(redis.TimeoutError):
        called(
            Deadline(started + 0.05),
            lambda: connection.send_packed_command([b"x" * 10_000_000], check_health=False),
        )

    assert time.monotonic() - started < 2


def test_to_look_for_data_does_not_wait(make_pool: MakePool) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    started = time.monotonic()

    assert not connection.can_read()
    assert time.monotonic() - started < 0.9
    pool.release(connection)


def test_to_look_for_data_on_a_broken_socket_is_redis_pys_error(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(timeout: float) -> bool:
        raise OSError("broken")

    connection = make_pool().get_connection()
    monkeypatch.setattr(connection._parser, "can_read", fail)

    with pytest.raises(redis.ConnectionError):
        connection.can_read()
