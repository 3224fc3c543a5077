"""Connections that another process checked out; here, this process claims to be another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pyramid_baseplate_redis import ForkedConnectionError

from .conftest import MakePool, identity


@pytest.fixture
def fork(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function after whose call this process has another number."""
    return lambda: monkeypatch.setattr("os.getpid", lambda: 1)


def test_it_connects_again_for_a_command(make_pool: MakePool, fork: Callable[[], None]) -> None:
    connection = make_pool().get_connection()
    number = identity(connection)
    fork()

    assert identity(connection) != number
    assert connection.pid == 1


def test_it_is_of_no_pool_then(make_pool: MakePool, fork: Callable[[], None]) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    fork()
    identity(connection)
    pool.release(connection)

    assert not connection.is_connected
    assert pool.stats.open == 0


@pytest.mark.parametrize("command", [("WATCH", "key"), ("SELECT", 3)])
def test_it_is_refused_if_its_state_would_be_lost(
    make_pool: MakePool, fork: Callable[[], None], command: tuple[Any, ...]
) -> None:
    connection = make_pool().get_connection()
    connection.send_command(*command)
    connection.read_response()
    fork()

    with pytest.raises(ForkedConnectionError, match="was checked out by process"):
        connection.send_command("PING")


def test_its_reply_is_not_read(make_pool: MakePool, fork: Callable[[], None]) -> None:
    connection = make_pool().get_connection()
    connection.send_command("PING")
    fork()

    with pytest.raises(ForkedConnectionError):
        connection.read_response()


@pytest.mark.parametrize("step", ["reconnect", "check_health"])
def test_a_copy_of_a_greenlet_that_waits_sends_nothing(
    make_pool: MakePool, fork: Callable[[], None], step: str
) -> None:
    connection = make_pool(health_check_interval="1 minute").get_connection()
    if step == "reconnect":
        connection.disconnect()
    setattr(connection, step, fork)

    with pytest.raises(ForkedConnectionError):
        connection.send_command("PING")
    assert not connection.owes_replies
