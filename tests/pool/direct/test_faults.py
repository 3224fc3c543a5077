"""A command meets a fault: the direct way raises what redis-py's does, and keeps no connection."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import MonitoredRedisConnection, pool_from_config

from .scripted_server import RESET, ScriptedServer

Client = MonitoredRedisConnection


class Interrupted(BaseException):
    """Raised by a signal handler."""


def after_check_out(do: Callable[[Any], None]) -> Callable[[Client], Any]:
    """Return a call of GET in which ``do`` happens between its check-out and sending."""

    def call(client: Client) -> Any:
        pool: Any = client.connection_pool
        check_out = pool.get_connection

        def get_connection() -> Any:
            del pool.get_connection
            connection = check_out()
            do(connection)
            return connection

        pool.get_connection = get_connection
        return client.get("key")

    return call


@pytest.mark.parametrize("reset", [False, True])
def test_the_server_closes_the_connection_after_the_check_out(
    compared: Any, server: ScriptedServer, reset: bool
) -> None:
    def close(connection: Any) -> None:
        server.close_connections(reset)
        time.sleep(0.05)

    compared([b"+OK\r\n"], after_check_out(close))


def test_another_thread_shuts_the_socket_down_after_the_check_out(compared: Any) -> None:
    compared([b"+OK\r\n"], after_check_out(lambda connection: connection.shutdown_socket()))


def test_another_thread_closes_the_connection_after_the_check_out(compared: Any) -> None:
    found = compared([b"+OK\r\n"], after_check_out(lambda each: each.disconnect()), direct=False)

    assert found["returned"] == (bytes, b"OK")


def test_a_fork_after_the_check_out(compared: Any) -> None:
    def fork(connection: Any) -> None:
        connection.pid = os.getppid()  # as the child process sees it

    found = compared([b"+OK\r\n"], after_check_out(fork))

    assert found["returned"] == (bytes, b"OK")


def test_a_connection_that_was_released_after_the_check_out(compared: Any) -> None:
    def call(client: Client) -> Any:
        return after_check_out(client.connection_pool.release)(client)

    found = compared([b"+OK\r\n"], call, direct=False)

    assert "released" in str(found["raised"][0])


@pytest.mark.parametrize("size", [10, 8_000_000])
def test_the_server_stops_reading(compared: Any, server: ScriptedServer, size: int) -> None:
    server.reads = False
    compared([], lambda client: client.execute_command("GET", "key", b"x" * size))


def test_the_server_resets_the_connection_while_the_command_is_sent(
    compared: Any, server: ScriptedServer
) -> None:
    server.reads = False
    server.reset_after = 0.1
    compared([], lambda client: client.execute_command("GET", "key", b"x" * 8_000_000))


@pytest.mark.parametrize(
    "error",
    [Interrupted(), KeyboardInterrupt(), RuntimeError("x"), OSError(5, "I/O"), OSError("odd"),
     TimeoutError("from a handler"), BlockingIOError(11, "again"), BrokenPipeError(32, "pipe")],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("step", ["sendall", "recv_into"])
def test_the_socket_or_a_signal_handler_raises(
    compared: Any, error: BaseException, step: str
) -> None:
    """Whatever the system calls raise, and a handler that runs within them."""

    class Socket:
        def __init__(self, connection: Any) -> None:
            self._real = connection._sock

        def __getattr__(self, name: str) -> Any:
            if name == step:
                raise error
            return getattr(self._real, name)

    def replace(connection: Any) -> None:
        connection._sock = connection._parser._sock = Socket(connection)

    compared([b"+OK\r\n"], after_check_out(replace))


def test_a_callback_raises(compared: Any) -> None:
    def call(client: Client) -> Any:
        client.set_response_callback("GET", lambda reply: 1 // 0)
        return client.get("key")

    compared([b"+OK\r\n"], call)


def test_the_server_resets_the_connection_after_an_error_reply(compared: Any) -> None:
    def call(client: Client) -> Any:
        with pytest.raises(Exception, match="no"):
            client.get("key")
        time.sleep(0.05)
        return client.get("key")

    compared([b"-ERR no\r\n", RESET], call)


def test_a_reader_that_keeps_the_connection_after_a_timeout_reads_the_reply_later(
    server: ScriptedServer,
) -> None:
    """A subscriber reads like this."""
    pool = pool_from_config({"foo.url": server.url}, "foo.", socket_timeout=0.1)
    connection = pool.get_connection()
    server.script = [0.2, b"+OK\r\n"]
    connection.send_command("GET", "key")
    with pytest.raises(redis.TimeoutError):
        connection.read_response(disconnect_on_error=False)
    time.sleep(0.15)
    assert connection.read_response(disconnect_on_error=False) == b"OK"
    pool.release(connection)
    pool.disconnect()
