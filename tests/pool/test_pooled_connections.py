"""Connections of the pool: health checks, timeouts, and what other code asks them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.connection import DefaultParser
from redis.retry import Retry

from pyramid_baseplate_redis.pool.connection import PooledConnection, _peer_of, pooled_class
from pyramid_baseplate_redis.pool.credentials import clear_credentials
from pyramid_baseplate_redis.runtime.deadline import Deadline, called

from ..support.servers import Server
from .conftest import MakePool


def test_a_connection_that_has_never_connected_is_for_no_caller(make_pool: MakePool) -> None:
    connection = make_pool().make_connection()

    assert not connection.is_settled
    assert not connection.is_reusable()


def test_an_applications_own_parser_is_used() -> None:
    class Own(DefaultParser):
        pass

    connection = pooled_class(redis.Connection)(parser_class=Own)

    assert type(connection._parser) is Own


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


# Interruptions by other threads


def test_a_socket_that_is_shut_down_ends_the_holders_read(make_pool: MakePool) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    connection.shutdown_socket()

    with pytest.raises(redis.ConnectionError):
        connection.read_response()
    pool.release(connection)


def test_to_shut_down_a_socket_that_is_gone_does_nothing(make_pool: MakePool) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    pool.release(connection)
    connection.shutdown_socket()

    assert redis.Redis(connection_pool=pool).ping()


# Commands


@pytest.mark.parametrize(
    ("commands", "one"),
    [
        ([("INCR", "a")], True),
        ([("INCR", "a"), ("INCR", "b")], False),
        ([("MULTI",), ("INCR", "a"), ("INCR", "b"), ("EXEC",)], True),
        ([("INCR", "a"), ("MULTI",), ("INCR", "b"), ("EXEC",)], True),
        ([("WATCH", "a"), ("INCR", "b")], False),
    ],
)
def test_commands_that_are_executed_as_a_whole_are_one(
    make_pool: MakePool, commands: list[tuple[str, ...]], one: bool
) -> None:
    connection = make_pool().make_connection()
    connection.pack_commands(commands)

    assert connection.is_one_command is one


def test_a_single_command_is_one(make_pool: MakePool) -> None:
    connection = make_pool().make_connection()
    connection.pack_commands([("INCR", "a"), ("INCR", "b")])
    connection.pack_command("INCR", "a")

    assert connection.is_one_command


# The server's address


def named(name: Any) -> Any:
    """Return an object like a socket whose other end has this name."""

    def getpeername() -> Any:
        if isinstance(name, Exception):
            raise name
        return name

    return SimpleNamespace(getpeername=getpeername)


@pytest.mark.parametrize(
    ("opened", "peer"),
    [
        (named(("10.0.0.1", 6379)), ("10.0.0.1", 6379)),
        (named(("::1", 6379, 0, 0)), ("::1", 6379)),
        (named("/run/redis.sock"), None),
        (named(OSError("closed")), None),
        (None, None),
    ],
)
def test_the_peer_of_a_socket_is_a_host_and_a_port(opened: Any, peer: Any) -> None:
    assert _peer_of(opened) == peer


# Classes


def test_a_class_of_redis_py_gets_one_class_of_the_pool() -> None:
    made = pooled_class(redis.Connection)

    assert issubclass(made, PooledConnection)
    assert pooled_class(redis.Connection) is made
    assert pooled_class(made) is made


@pytest.mark.parametrize("other", [socket.socket, lambda **keywords: None])
def test_another_class_or_function_is_left_as_it_is(other: Any) -> None:
    assert pooled_class(other) is other


# redis-py's methods for all connections


def test_new_retries_are_those_of_all_connections(make_pool: MakePool) -> None:
    pool = make_pool()
    in_use, idle = pool.get_connection(), pool.get_connection()
    pool.release(idle)
    retry = Retry(NoBackoff(), 2)
    pool.set_retry(retry)

    assert in_use.retry is retry
    assert [pool.get_connection().retry for _ in range(2)] == [retry, retry]
    assert not pool.is_plain


def test_a_new_token_is_used_by_the_connections_in_use_too(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens: list[Any] = []
    monkeypatch.setattr(
        PooledConnection, "set_re_auth_token", lambda self, token: tokens.append(token)
    )
    pool, token = make_pool(), object()
    connection = pool.get_connection()
    pool.re_auth_callback(token)

    assert tokens == [token]
    pool.release(connection)


# Passwords in tracebacks


def failed(context: BaseException | None = None) -> BaseException:
    """Return an error, raised in a function that has a password among its variables."""

    def log_in() -> None:
        password = "of-the-server"  # noqa: F841
        raise redis.ConnectionError

    try:
        log_in()
    except redis.ConnectionError as error:
        error.__context__ = context
        return error
    raise AssertionError


def passwords_in(error: BaseException) -> list[str]:
    traceback, found = error.__traceback__, []
    while traceback is not None:
        found += [name for name in traceback.tb_frame.f_locals if name == "password"]
        traceback = traceback.tb_next
    return found


def test_the_variables_of_an_error_and_of_its_contexts_are_cleared() -> None:
    first = failed()
    error = failed(first)
    clear_credentials(error, None)

    assert passwords_in(error) == passwords_in(first) == []


def test_the_variables_of_an_error_that_was_being_handled_before_stay() -> None:
    before = failed()
    handled = failed(before)
    error = failed(handled)
    clear_credentials(error, handled)

    assert passwords_in(error) == []
    assert passwords_in(handled) == passwords_in(before) == ["password"]
