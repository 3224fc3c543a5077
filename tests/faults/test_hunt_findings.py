"""What the hunt has found once: each a test that fails at once where the hunt takes its time."""

from __future__ import annotations

import logging
import os
from typing import Any

import pytest

from pyramid_baseplate_redis.exceptions import ForkedConnectionError, PoolReleaseError
from pyramid_baseplate_redis.pool.fair_queue import FairLifoQueue

from ..support.servers import Server
from .helpers import client_of, pool_of


def test_a_message_is_read_without_the_lock_that_all_loggers_share(
    valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An interruption of whoever asks for a logger may leave it locked, in all threads.
    def asked(*args: Any) -> None:
        raise AssertionError("a logger was asked for")

    with client_of(valkey) as client, client.pubsub() as subscriber:
        subscriber.subscribe("news")
        monkeypatch.setattr(logging.Manager, "getLogger", asked)
        assert subscriber.get_message(timeout=5) == {
            "type": "subscribe", "pattern": None, "channel": b"news", "data": 1,
        }  # fmt: skip


@pytest.mark.parametrize("waits", ["connect_check_health", "check_health"])
def test_a_copy_of_a_greenlet_that_waited_while_it_was_forked_sends_nothing(
    valkey: Server, monkeypatch: pytest.MonkeyPatch, waits: str
) -> None:
    # It has the parent's socket: the parent would take the reply for that to its own command.
    pool = pool_of(valkey, health_check_interval="1 s")
    connection = pool.get_connection()
    wait, child = getattr(connection, waits), os.getpid() + 1

    def forked_while_it_waits(*args: Any, **kwargs: Any) -> None:
        wait(*args, **kwargs)
        monkeypatch.setattr(os, "getpid", lambda: child)

    if waits == "connect_check_health":
        connection.disconnect()
    monkeypatch.setattr(connection, waits, forked_while_it_waits)
    with pytest.raises(ForkedConnectionError):
        connection.send_command("SET", "key", "value")
    assert not connection.owes_replies
    monkeypatch.undo()
    pool.disconnect()


def test_a_free_slot_that_an_interrupted_caller_was_handed_is_free_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # It was put among the idle connections, and the pool's housekeeping failed to close it.
    queue = FairLifoQueue(1)
    slot, _, _ = queue.get()

    def interrupted(waiter: Any, deadline: float | None) -> None:
        slot.vacate()
        queue.serve()
        assert waiter.given
        raise KeyboardInterrupt

    monkeypatch.setattr(queue, "_wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        queue.get(timeout=1)
    assert queue.take_all_idle() == []
    assert (queue.open, queue.qsize()) == (0, 1)


def test_a_connection_that_was_closed_when_it_was_released_is_not_used_again(
    valkey: Server,
) -> None:
    # As is each one in use when redis-py refreshes the layout of a Cluster.
    pool = pool_of(valkey)
    connection = pool.get_connection()
    connection.mark_for_reconnect()
    pool.release(connection)
    assert (connection.host, connection.port) == (valkey.host, valkey.port)
    with pytest.raises(PoolReleaseError):
        connection.send_command("PING")
    with pytest.raises(PoolReleaseError):
        pool.release(connection)
    assert pool.stats.open == 0
