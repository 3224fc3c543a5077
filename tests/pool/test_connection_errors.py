"""Errors of connections: of connecting, of other threads, and of the nodes of a Cluster."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pyramid_baseplate_redis import BlockingConnectionPool
from pyramid_baseplate_redis.pool.credentials import clear_credentials
from pyramid_baseplate_redis.telemetry.call_details import pop_call_details

from ..support.servers import free_port
from .conftest import MakePool

# Errors of connecting


def test_a_command_whose_connection_is_refused_each_time_is_unsent() -> None:
    pool = BlockingConnectionPool(port=free_port(), retry=Retry(NoBackoff(), 1))
    with pytest.raises(redis.ConnectionError) as caught:
        pool.get_connection()

    assert getattr(caught.value, "unsent", False)


def test_a_command_after_a_failed_one_is_unsent_if_it_cannot_connect(make_pool: MakePool) -> None:
    connection = make_pool().get_connection()
    connection.shutdown_socket()
    with pytest.raises(redis.ConnectionError, match="writing"):
        connection.send_command("PING")
    connection.port = free_port()
    with pytest.raises(redis.ConnectionError, match="refused") as caught:
        connection.send_command("PING")

    assert getattr(caught.value, "unsent", False)


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


# Redirections by nodes of a Cluster


def node_of(make_pool: MakePool, is_node: bool = True) -> Any:
    connection = make_pool().make_connection()
    if is_node:
        connection.is_node = True
    connection.address_remap = lambda address: ("mapped", address[1] + 1)
    pop_call_details()
    return connection


@pytest.mark.parametrize("error_class", [redis.exceptions.MovedError, redis.exceptions.AskError])
def test_a_redirection_by_a_node_is_counted(
    make_pool: MakePool, error_class: type[redis.exceptions.AskError]
) -> None:
    node_of(make_pool)._note_error(error_class("1 10.0.0.1:6379"))

    details = pop_call_details()
    assert details is not None
    assert details.redirections == 1


def test_a_redirection_by_another_server_is_not_counted(make_pool: MakePool) -> None:
    connection = node_of(make_pool, is_node=False)
    connection._note_error(redis.exceptions.MovedError("1 10.0.0.1:6379"))

    assert pop_call_details() is None


def test_another_error_of_a_node_is_no_redirection(make_pool: MakePool) -> None:
    node_of(make_pool)._note_error(redis.ResponseError("WRONGTYPE"))

    assert pop_call_details() is None


@pytest.mark.parametrize("error_class", [redis.exceptions.MovedError, redis.exceptions.AskError])
def test_the_address_of_a_redirection_is_mapped(
    make_pool: MakePool, error_class: type[redis.exceptions.AskError]
) -> None:
    error = error_class("1 10.0.0.1:6379")
    node_of(make_pool)._note_error(error)

    assert (error.node_addr, error.host, error.port) == (("mapped", 6380), "mapped", 6380)


def test_an_address_is_left_as_it_is_without_a_mapping(make_pool: MakePool) -> None:
    connection, ask = node_of(make_pool), redis.exceptions.AskError("1 10.0.0.1:6379")
    connection.address_remap = None
    connection._note_error(ask)

    assert (ask.host, ask.port) == ("10.0.0.1", 6379)


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
