"""Connections of the pool: what other code asks them, and redis-py's methods for all of them."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.connection import DefaultParser
from redis.retry import Retry

from pyramid_baseplate_redis.pool.connection import PooledConnection, _peer_of, pooled_class

from .conftest import MakePool


def test_a_connection_that_has_never_connected_is_for_no_caller(make_pool: MakePool) -> None:
    connection = make_pool().make_connection()

    assert not connection.is_settled
    assert not connection.is_reusable()


def test_a_connection_whose_handshake_was_interrupted_starts_again(make_pool: MakePool) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    half_open, connection._ready = connection._sock, False

    connection.connect()

    assert half_open.fileno() == -1
    assert connection._sock is not half_open
    pool.release(connection)


def test_an_applications_own_parser_is_used() -> None:
    class Own(DefaultParser):
        pass

    connection = pooled_class(redis.Connection)(parser_class=Own)

    assert type(connection._parser) is Own


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
