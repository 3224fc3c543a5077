"""How a queue's commands are sent on one connection."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from redis.utils import SENTINEL

from pyramid_baseplate_redis.queues.raw_commands import RawCommands

from .fakes import Connection

MOVED = redis.exceptions.MovedError("1 127.0.0.1:7000")
ERROR = redis.ResponseError("WRONGTYPE")
GET, SET = ("GET", "a"), ("SET", "a", "b")


class DirectConnection(Connection):
    """A connection of this package, which sends some commands without redis-py's code."""

    is_direct = True

    def __init__(self, *replies: Any) -> None:
        super().__init__(*replies)
        self.direct: list[Any] = []

    def ask(self, command: Any, *, decode: bool, timeout: Any) -> Any:
        self.direct.append((command, decode, timeout))
        if isinstance(self.replies[0], Exception):
            raise self.replies.pop(0)
        return self.replies.pop(0)

    def ask_all(self, commands: Any, states: Any, *, decode: bool) -> Any:
        self.direct.append((commands, states, decode))
        return self.replies.pop(0)


# Sending


def test_commands_are_sent_together_and_their_replies_returned() -> None:
    connection = Connection(b"b", b"OK")
    assert RawCommands(connection)(GET, SET) == [b"b", b"OK"]
    assert (connection.sent, connection.timeouts) == ([GET, SET], ["usual", "usual"])
    assert connection.disconnected == 0


def test_an_error_is_raised_after_all_replies_were_read() -> None:
    connection = Connection(ERROR, b"OK")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        RawCommands(connection)(GET, SET)
    assert (connection.replies, connection.disconnected) == ([], 0)


def test_errors_may_be_returned() -> None:
    assert RawCommands(Connection(ERROR, b"OK"))(GET, SET, errors=True) == [ERROR, b"OK"]


@pytest.mark.parametrize("replies", [(MOVED, b"OK"), (b"b", MOVED)], ids=repr)
def test_a_redirection_is_raised_with_the_errors_of_others_returned(replies: Any) -> None:
    with pytest.raises(redis.exceptions.MovedError):
        RawCommands(Connection(*replies))(GET, SET, errors=True)


def test_only_the_redirection_of_the_first_command_is_raised_if_later_ones_are_wanted() -> None:
    options = {"errors": True, "later_redirections": True}
    assert RawCommands(Connection(b"b", MOVED))(GET, SET, **options) == [b"b", MOVED]
    with pytest.raises(redis.exceptions.MovedError):
        RawCommands(Connection(MOVED, b"OK"))(GET, SET, **options)


@pytest.mark.parametrize(("usual", "expected"), [(3.0, 5.0), (0.0, 2.0), (None, 7.0)])
def test_a_blocking_command_may_take_its_time_beyond_the_socket_timeout(
    usual: float | None, expected: float
) -> None:
    connection = Connection(None, socket_timeout=usual)
    RawCommands(connection)(("BLPOP", "a", 2), block=2.0)
    assert connection.timeouts == [expected]


@pytest.mark.parametrize("error", [redis.ConnectionError("gone"), KeyboardInterrupt()], ids=repr)
def test_a_connection_with_an_unread_reply_is_closed(error: BaseException) -> None:
    connection = Connection(b"b", error)
    with pytest.raises(type(error)):
        RawCommands(connection)(GET, SET)
    assert connection.disconnected == 1


def test_shutting_down_closes_the_connection() -> None:
    connection = Connection()
    RawCommands(connection).shutdown_socket()
    assert connection.disconnected == 1


# ASKING


def test_each_command_to_a_node_that_a_slot_moves_to_follows_asking() -> None:
    connection = Connection(b"OK", b"b", b"OK", b"OK2")
    assert RawCommands(connection, asking=True)(GET, SET) == [b"b", b"OK2"]
    assert connection.sent == [("ASKING",), GET, ("ASKING",), SET]


def test_a_transaction_follows_asking_once() -> None:
    connection = Connection(b"OK", b"OK", b"QUEUED", [b"b"])
    assert RawCommands(connection, asking=True).transaction(GET) == [b"b"]
    assert connection.sent == [("ASKING",), ("MULTI",), GET, ("EXEC",)]


# Transactions


def test_a_transaction_returns_the_replies_of_exec() -> None:
    connection = Connection(b"OK", b"QUEUED", b"QUEUED", [b"b", b"OK"])
    assert RawCommands(connection).transaction(GET, SET) == [b"b", b"OK"]
    assert connection.sent == [("MULTI",), GET, SET, ("EXEC",)]


def test_a_changed_key_is_a_watch_error() -> None:
    with pytest.raises(redis.WatchError):
        RawCommands(Connection(b"OK", b"QUEUED", None)).transaction(GET)


def test_an_empty_transaction_is_no_watch_error() -> None:
    assert RawCommands(Connection(b"OK", [])).transaction() == []


def test_an_error_of_a_command_in_a_transaction_is_raised() -> None:
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        RawCommands(Connection(b"OK", b"QUEUED", b"QUEUED", [b"b", ERROR])).transaction(GET, SET)


# Direct connections


def test_a_command_is_sent_directly_where_that_is_possible() -> None:
    connection = DirectConnection(b"b")
    assert RawCommands(connection)(GET) == [b"b"]
    assert connection.direct == [(GET, False, SENTINEL)]


@pytest.mark.parametrize("name", ["BLPOP", "XREADGROUP"])
def test_a_blocking_command_is_sent_directly_with_its_timeout(name: str) -> None:
    connection = DirectConnection(None)
    RawCommands(connection)((name, "a"), block=2.0)
    assert connection.direct == [((name, "a"), False, 5.0)]


def test_an_error_of_a_direct_command_may_be_returned() -> None:
    assert RawCommands(DirectConnection(ERROR))(GET, errors=True) == [ERROR]


def test_several_commands_are_sent_directly() -> None:
    connection = DirectConnection([b"b", b"OK"])
    assert RawCommands(connection)(GET, SET) == [b"b", b"OK"]
    assert connection.direct == [((GET, SET), (), False)]


def test_a_transaction_is_sent_directly() -> None:
    connection = DirectConnection([b"OK", b"QUEUED", [b"b"]])
    assert RawCommands(connection).transaction(GET) == [b"b"]
    ((commands, states, _),) = connection.direct
    assert commands == (("MULTI",), GET, ("EXEC",))
    assert states != ()


@pytest.mark.parametrize(
    "commands",
    [
        (("SUBSCRIBE", "a"),),
        (GET, ("SUBSCRIBE", "a")),
        (("MULTI",), GET),
        (GET, ("EXEC",)),
        (("MULTI",), ("SUBSCRIBE", "a"), GET, ("EXEC",)),
        (("MULTI",), GET, ("SUBSCRIBE", "a"), ("EXEC",)),
    ],
    ids=str,
)
def test_commands_that_change_the_connection_are_sent_by_redis_py(commands: Any) -> None:
    connection = DirectConnection(*[b"OK"] * len(commands))
    RawCommands(connection)(*commands)
    assert (connection.sent, connection.direct) == (list(commands), [])


def test_several_commands_of_which_one_blocks_are_sent_by_redis_py() -> None:
    connection = DirectConnection(None, b"b")
    RawCommands(connection)(("XREADGROUP", "a"), GET, block=2.0)
    assert connection.direct == []
    assert connection.timeouts == [5.0, 5.0]
