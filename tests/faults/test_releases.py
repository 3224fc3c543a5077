"""Connections released twice, elsewhere or never: an error that nobody else notices."""

from __future__ import annotations

import gc
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import PoolReleaseError, PoolTimeoutError

from ..support.servers import Server, running_server
from .everywhere import everywhere
from .helpers import (
    Client,
    Crowd,
    ask,
    check,
    check_all_slots_are_back,
    client_of,
    figures_are_at_rest,
    in_threads,
    unique,
)


def ask_on(connection: Any) -> None:
    text = unique()
    connection.send_command("ECHO", text)
    check(connection.read_response(), text.encode())


def test_a_connection_that_is_released_twice_is_an_error(valkey: Server) -> None:
    with client_of(valkey) as client:
        connection = client.connection_pool.get_connection()
        client.connection_pool.release(connection)
        with pytest.raises(PoolReleaseError, match=r"^foo: this connection was released before"):
            client.connection_pool.release(connection)


def test_a_connection_that_is_released_twice_is_given_to_one_caller(valkey: Server) -> None:
    with client_of(valkey, max_connections="2") as client:
        pool = client.connection_pool
        connection = pool.get_connection()
        pool.release(connection)
        with suppress(PoolReleaseError):
            pool.release(connection)
        first, second = pool.get_connection(), pool.get_connection()
        assert first != second
        pool.release(first)
        pool.release(second)


def test_a_caller_keeps_a_connection_that_its_former_holder_releases_again(
    valkey: Server,
) -> None:
    with client_of(valkey, max_connections="1", pool_timeout="50 ms") as client:
        pool = client.connection_pool
        by_a = pool.get_connection()
        pool.release(by_a)
        by_b = pool.get_connection()
        assert by_a == by_b  # the same connection

        with pytest.raises(PoolReleaseError):
            pool.release(by_a)

        with pytest.raises(PoolTimeoutError):
            pool.get_connection()  # for c
        ask_on(by_b)
        pool.release(by_b)
        check_all_slots_are_back(client, valkey)


@pytest.mark.parametrize(
    "use",
    [
        lambda connection: connection.send_command("ECHO", "not a's any more"),
        lambda connection: connection.send_packed_command(b"*1\r\n$4\r\nPING\r\n"),
        lambda connection: connection.read_response(),
    ],
    ids=["send_command", "send_packed_command", "read_response"],
)
def test_a_connection_that_was_released_cannot_be_used(valkey: Server, use: Any) -> None:
    with client_of(valkey, max_connections="1") as client:
        pool = client.connection_pool
        by_a = pool.get_connection()
        pool.release(by_a)
        by_b = pool.get_connection()
        text = unique()
        by_b.send_command("ECHO", text)  # and the reply is on its way

        with pytest.raises(PoolReleaseError):
            use(by_a)

        check(by_b.read_response(), text.encode())
        pool.release(by_b)


def test_to_close_a_connection_that_was_released_closes_no_other_callers(valkey: Server) -> None:
    with client_of(valkey, max_connections="1") as client:
        pool = client.connection_pool
        by_a = pool.get_connection()
        pool.release(by_a)
        by_b = pool.get_connection()

        by_a.disconnect()
        del by_a
        gc.collect()

        assert by_b.is_connected
        ask_on(by_b)
        pool.release(by_b)


@everywhere
def test_a_crowd_that_releases_twice_gets_no_reply_of_another(tmp_path: Path) -> None:
    def release_twice(client: Client) -> None:
        pool = client.connection_pool
        connection = pool.get_connection()
        ask_on(connection)
        pool.release(connection)
        for misuse in (pool.release, lambda it: it.send_command("ECHO", "not mine")):
            with pytest.raises(PoolReleaseError):
                misuse(connection)

    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, max_connections="4") as client,
    ):
        with Crowd(20, lambda: release_twice(client), expect=()) as crowd:
            crowd.wait_for_answers(1000)
        check_all_slots_are_back(client, server)


def test_a_connection_that_is_released_to_another_pool_is_an_error(valkey: Server) -> None:
    with client_of(valkey) as client, client_of(valkey) as other:
        connection = client.connection_pool.get_connection()
        with pytest.raises(PoolReleaseError, match=r"^foo: this .* belongs to another pool"):
            other.connection_pool.release(connection)
        client.connection_pool.release(connection)


def test_a_connection_that_was_released_to_another_pool_is_still_its_own_pools(
    valkey: Server,
) -> None:
    with client_of(valkey, max_connections="1") as client, client_of(valkey) as other:
        connection = client.connection_pool.get_connection()
        with suppress(PoolReleaseError):
            other.connection_pool.release(connection)
        ask_on(connection)
        client.connection_pool.release(connection)
        check_all_slots_are_back(client, valkey)


def test_the_other_pool_sends_no_command_to_the_wrong_server(
    valkey: Server, tmp_path: Path
) -> None:
    with (
        running_server("valkey", tmp_path) as elsewhere,
        client_of(valkey, max_connections="1") as client,
        client_of(elsewhere) as other,
    ):
        client.set("where", "here")
        other.set("where", "elsewhere")
        connection = client.connection_pool.get_connection()
        with suppress(PoolReleaseError):
            other.connection_pool.release(connection)
        replies = in_threads(*[lambda: other.get("where")] * 10)
        assert replies == [b"elsewhere"] * 10
        client.connection_pool.release(connection)
        assert client.get("where") == b"here"


def test_a_connection_that_no_pool_made_is_not_taken(valkey: Server) -> None:
    with client_of(valkey) as client:
        with pytest.raises(PoolReleaseError):
            client.connection_pool.release(redis.Connection(port=valkey.port))
        assert client.connection_pool.stats.open == 0


def test_a_connection_that_was_not_released_is_closed_and_its_slot_is_back(valkey: Server) -> None:
    with client_of(valkey, max_connections="1", pool_timeout="50 ms") as client:
        client.connection_pool.get_connection()  # dropped on the floor
        ask(client)
        check_all_slots_are_back(client, valkey)


# Pipelines and the like in a cycle: what a request leaves is given back at its end, see
# test_request_end.py; outside a request the garbage collector finds it.


def leave_pipeline(client: Client) -> None:
    pipeline: Any = client.pipeline("left")
    pipeline.watch("key")
    pipeline.itself = pipeline


def leave_subscriber(client: Client) -> None:
    subscriber: Any = client.pubsub()
    subscriber.subscribe("news")
    subscriber.itself = subscriber


def leave_client(client: Client) -> None:
    own: Any = client.client()
    own.ping()
    own.itself = own


def leave_monitor(client: Client) -> None:
    monitor: Any = client.monitor().__enter__()
    monitor.itself = monitor


LEFT = {
    "a watching pipeline": leave_pipeline,
    "a subscriber": leave_subscriber,
    "a connection of its own": leave_client,
    "a monitor": leave_monitor,
}


@everywhere
@pytest.mark.parametrize("left", LEFT)
def test_what_is_dropped_in_a_cycle_is_back_when_the_garbage_is_collected(
    tmp_path: Path, left: str
) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, max_connections="16", pool_timeout="50 ms") as client,
    ):
        gc.disable()
        for _ in range(16):
            LEFT[left](client)
        with pytest.raises(PoolTimeoutError):
            client.ping()
        gc.enable()
        gc.collect()
        assert figures_are_at_rest(client.connection_pool)
        check_all_slots_are_back(client, server)


@pytest.mark.slow("loads a pool for seconds")
@everywhere
def test_a_crowd_that_drops_everything_in_cycles_never_gets_stuck(tmp_path: Path) -> None:
    # The garbage collector runs whenever it likes, in the midst of the pool's own code as well.
    def drop(client: Client) -> None:
        try:
            leave_pipeline(client)
            leave_client(client)
            ask(client)
        except PoolTimeoutError:
            gc.collect()  # where all wait, nobody makes the garbage that starts it

    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, max_connections="32", pool_timeout="50 ms") as client,
    ):
        thresholds = gc.get_threshold()
        gc.set_threshold(50, 2, 2)
        try:
            with Crowd(8, lambda: drop(client), expect=()) as crowd:
                crowd.wait_for_answers(300, seconds=30)
        finally:
            gc.set_threshold(*thresholds)
        gc.collect()
        check_all_slots_are_back(client, server)
