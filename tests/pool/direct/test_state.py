"""A connection counts replies and records details while it sends commands directly."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock, call

import hiredis
import pytest
import redis

from pyramid_baseplate_redis import ForkedConnectionError
from pyramid_baseplate_redis.pool.connection import TRANSACTION
from pyramid_baseplate_redis.pool.deadline_parser import NOT_ENOUGH_DATA
from pyramid_baseplate_redis.pool.direct.connection import (
    ALTERED,
    NOT_WATCHING,
    WATCHING,
    DirectConnection,
    _sending_failed,
)
from pyramid_baseplate_redis.telemetry.call_details import Peers, pop_call_details

GET, SET = ("GET", "key"), ("SET", "key", b"value")
PACKED = b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n"
PEER = ("10.0.0.1", 6379)
ERROR = redis.ResponseError("WRONGTYPE not a list")


class Reader:
    """Returns these replies, one after the other."""

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.decoded: list[bool] = []

    def gets(self, decode: bool) -> Any:
        self.decoded.append(decode)
        reply = self.replies.pop(0)
        if isinstance(reply, OSError):
            raise reply
        return reply


class Connection(DirectConnection):
    """A connection that is connected, with mocks in place of the socket and the parser."""

    host = "node"

    def __init__(self, *replies: Any, **attributes: Any) -> None:
        self.pid = os.getpid()
        self._sock, self.breaker = Mock(), Mock()
        self._parser = Mock(reader=Reader(*replies), deadline="of the last command")
        self._buffer_cutoff = 6000
        self.socket_timeout = 3.0
        self.port, self.peer = 7000, PEER
        self.disconnected, self.explained, self.noted = 0, [], []  # type: ignore[var-annotated]
        self.__dict__.update(attributes)

    def _connect_again(self) -> None:
        self._sock = Mock()

    def disconnect(self, *args: Any) -> None:
        self.disconnected += 1

    def _explain(self, error: BaseException) -> None:
        self.explained.append(error)

    def _note_error(self, error: redis.ResponseError) -> None:
        self.noted.append(error)

    def _host_error(self) -> str:
        return "node:7000"

    def pack_command(self, *args: Any) -> list[bytes]:
        return [b"packed", b" by redis-py"]


@pytest.fixture(autouse=True)
def nothing_noted() -> Iterator[None]:
    pop_call_details()
    yield
    pop_call_details()


def several_peers() -> Peers:
    peers = Peers()
    for peer in (PEER, ("10.0.0.2", 6379)):
        peers.add(peer)
    pop_call_details()
    return peers


# A command


def test_a_new_connection_owes_nothing_and_is_as_configured() -> None:
    connection = Connection()
    connection._expect_replies(0, ())
    assert (connection._owed, connection._packed, connection._states) == (0, 0, ())
    assert (connection._watching, connection._altered, connection._was_sent) == (False,) * 3
    assert (connection.is_direct, connection.is_discovered) == (False, False)


def test_a_command_is_sent_and_its_reply_returned() -> None:
    connection = Connection(b"value")
    assert connection.ask(GET) == b"value"
    assert connection._sock.mock_calls == [call.sendall(PACKED)]
    assert (connection._owed, connection._packed, connection._states) == (0, 1, ())
    assert connection._parser.reader.decoded == [True]
    assert connection._parser.deadline is None
    assert connection.breaker.mock_calls == [call.succeeded()]
    assert pop_call_details() is None


def test_a_reply_may_stay_encoded_and_take_longer() -> None:
    connection = Connection(NOT_ENOUGH_DATA, b"value")
    connection.ask(GET, decode=False, timeout=7)
    assert connection._parser.reader.decoded == [False, False]
    assert connection._parser.read_from_socket.mock_calls == [call(7)]


def test_replies_are_decoded_unless_it_is_said_otherwise() -> None:
    connection = Connection(b"1", b"2", b"3", b"4")
    connection.read_all(1)
    connection.ask_all([GET])
    connection.ask_all([GET], decode=False)
    connection.read_all(1, decode=False)
    assert connection._parser.reader.decoded == [True, True, False, False]


def test_a_list_of_arguments_is_packed_as_a_tuple_is() -> None:
    connection = Connection(b"value")
    connection.ask(list(GET))
    assert connection._sock.mock_calls == [call.sendall(PACKED)]


def test_arguments_that_only_redis_py_converts_are_packed_by_it() -> None:
    connection = Connection(b"value")
    connection.pack_command = lambda *args: [b"packed"]  # type: ignore[method-assign]
    connection.ask(("GET", memoryview(b"key")))
    assert connection._sock.mock_calls == [call.sendall(b"packed")]


def test_without_a_breaker_replies_are_returned_all_the_same() -> None:
    assert Connection(b"value", breaker=None).ask(GET) == b"value"
    assert Connection(b"1", b"2", breaker=None).ask_all([GET, SET]) == [b"1", b"2"]


def test_an_error_in_a_reply_is_noted_and_raised_and_the_connection_kept() -> None:
    connection = Connection(ERROR)
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        connection.ask(GET)
    assert (connection.noted, connection.disconnected, connection._owed) == ([ERROR], 0, 0)
    assert connection.breaker.mock_calls == [call.succeeded()]


def test_a_list_that_begins_with_an_error_is_a_reply() -> None:
    assert Connection([ERROR]).ask(("LRANGE", "key", "0", "1")) == [ERROR]


@pytest.mark.parametrize("reply", [[redis.ConnectionError("loading")], redis.ConnectionError("x")])
def test_an_error_that_redis_py_counts_as_a_lost_connection_closes_it(reply: Any) -> None:
    connection = Connection(reply)
    with pytest.raises(redis.ConnectionError):
        connection.ask(GET)
    assert connection.disconnected == 1


def test_an_empty_list_is_a_reply() -> None:
    assert Connection([]).ask(GET) == []


@pytest.mark.parametrize("decode", [True, False])
def test_a_push_message_is_handled_and_the_next_reply_read(decode: bool) -> None:
    connection = Connection(hiredis.hiredis.PushNotification([b"invalidate"]))
    connection._parser.read_response.return_value = b"value"
    assert connection.ask(GET, decode=decode, timeout=7) == b"value"
    assert connection._parser.handle_push_response.call_count == 1
    assert connection._parser.read_response.mock_calls == [
        call(disable_decoding=not decode, timeout=7)
    ]


# Several commands


def test_several_commands_are_sent_in_one_piece() -> None:
    connection = Connection(b"1", b"OK")
    assert connection.ask_all([GET, SET]) == [b"1", b"OK"]
    (sent,) = (each.args[0] for each in connection._sock.sendall.mock_calls)
    assert sent == PACKED + hiredis.pack_command(SET)
    assert (connection._packed, connection._owed) == (2, 0)
    assert connection.breaker.mock_calls == [call.succeeded()]


def test_a_command_among_several_may_be_packed_by_redis_py() -> None:
    connection = Connection(b"1", b"2")
    connection.ask_all([GET, ("GET", memoryview(b"key"))])
    assert connection._sock.mock_calls == [call.sendall(PACKED + b"packed by redis-py")]


def test_errors_among_several_replies_are_noted_and_returned() -> None:
    owed: list[int] = []

    class Noting(Connection):
        def _note_error(self, error: redis.ResponseError) -> None:
            owed.append(self._owed)

    connection = Noting(b"1", ERROR, b"3")
    assert connection.ask_all([GET, GET, GET]) == [b"1", ERROR, b"3"]
    assert owed == [1]  # what is still to be read


def test_each_of_several_replies_has_a_deadline_of_its_own() -> None:
    connection = Connection(NOT_ENOUGH_DATA, b"1", b"2")
    deadlines: list[Any] = []
    connection._parser.read_from_socket.side_effect = lambda: setattr(
        connection._parser, "deadline", "of this reply"
    )
    gets = connection._parser.reader.gets
    connection._parser.reader.gets = lambda decode: (
        deadlines.append(connection._parser.deadline), gets(decode),
    )[1]  # fmt: skip
    connection.ask_all([GET, GET])
    assert deadlines == [None, "of this reply", None]


@pytest.mark.parametrize(("replies", "successes"), [((b"1",), 1), ((), 0)])
def test_a_connection_that_is_lost_between_replies_has_worked_if_there_was_one(
    replies: tuple[bytes, ...], successes: int
) -> None:
    connection = Connection(*replies, ConnectionResetError(104, "reset"))
    with pytest.raises(redis.ConnectionError, match="Error while reading from node:7000"):
        connection.ask_all([GET, GET])
    assert connection.breaker.succeeded.call_count == successes
    assert connection.disconnected == 1


# Before the first byte is sent


def test_replies_are_owed_before_they_are_sent_for() -> None:
    owed: list[int] = []
    connection = Connection(b"1", b"2")
    connection._sock.sendall.side_effect = lambda piece: owed.append(connection._owed)
    connection.ask(GET)
    connection._owed = 5
    connection.send_all([GET, SET])
    assert owed == [1, 7]


@pytest.mark.parametrize(
    "attributes", [{}, {"_peers": several_peers()}], ids=["one peer", "several peers"]
)
def test_a_node_of_a_cluster_is_noted(attributes: dict[str, Any]) -> None:
    Connection(b"1", is_node=True, **attributes).ask(GET)
    details = pop_call_details()
    assert details is not None
    assert (details.server, details.peer) == (("node", 7000), PEER)


def test_one_of_several_peers_is_noted() -> None:
    Connection(b"1", _peers=several_peers()).ask(GET)
    details = pop_call_details()
    assert details is not None
    assert (details.server, details.peer) == (None, PEER)


def test_the_only_peer_is_not_noted() -> None:
    peers = Peers()
    peers.add(PEER)
    pop_call_details()
    Connection(b"1", _peers=peers).ask(GET)
    assert pop_call_details() is None


@pytest.mark.parametrize(
    ("states", "watching", "altered"),
    [
        ((), False, False),
        ((WATCHING,), True, False),
        ((WATCHING, NOT_WATCHING), False, False),
        ((ALTERED,), False, True),
        ((WATCHING, ALTERED), True, True),
        (TRANSACTION, False, False),
    ],
)
def test_the_states_of_the_commands_are_those_of_the_connection(
    states: tuple[int, ...], watching: bool, altered: bool
) -> None:
    connection = Connection()
    connection.send_all([GET], states)
    assert (connection._watching, connection._altered) == (watching, altered)
    assert connection._states == states


def test_a_closed_connection_connects_before_it_sends() -> None:
    connection = Connection(b"1", _sock=None)
    connection.ask(GET)
    assert connection._sock.mock_calls == [call.sendall(PACKED)]


# Faults


@pytest.mark.parametrize("ask", [lambda each: each._read(True, 1), lambda each: each.read_all(1)])
def test_a_connection_of_another_process_is_not_read(ask: Any) -> None:
    connection = Connection(b"1", pid=os.getpid() + 1, client="foo", _host="node", db=0)
    with pytest.raises(ForkedConnectionError):
        ask(connection)
    assert connection._parser.reader.replies == [b"1"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError(), redis.TimeoutError("Timeout reading from node:7000")),
        (OSError(104, "reset"),
         redis.ConnectionError("Error while reading from node:7000 : (104, 'reset')")),
    ],
    ids=repr,
)  # fmt: skip
def test_a_failure_to_read_is_redis_pys_and_closes_the_connection(
    error: OSError, expected: Exception
) -> None:
    connection = Connection(error)
    with pytest.raises(type(expected)) as caught:
        connection.ask(GET)
    assert str(caught.value) == str(expected)
    assert (connection.disconnected, connection.explained) == (1, [caught.value])
    assert connection._owed == 1


def test_an_interrupted_reading_closes_the_connection() -> None:
    connection = Connection()
    connection._parser.reader.gets = Mock(side_effect=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        connection.ask(GET)
    assert connection.disconnected == 1
    assert len(connection.explained) == 1


def test_a_failure_to_send_closes_the_connection_and_owes_the_replies() -> None:
    connection = Connection()
    connection._sock.sendall.side_effect = BrokenPipeError(32, "Broken pipe")
    expected = "^Error 32 while writing to socket. Broken pipe.$"
    with pytest.raises(redis.ConnectionError, match=expected) as caught:
        connection.ask(GET)
    assert (connection.disconnected, connection._owed) == (1, 1)
    assert connection.explained == [caught.value]


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (TimeoutError(), redis.TimeoutError, "Timeout writing to socket"),
        (OSError("gone"), redis.ConnectionError,
         "Error UNKNOWN while writing to socket. gone."),
        (OSError(32, "Broken pipe"), redis.ConnectionError,
         "Error 32 while writing to socket. Broken pipe."),
        (KeyboardInterrupt("stop"), KeyboardInterrupt, "stop"),
    ],
    ids=repr,
)  # fmt: skip
def test_the_error_of_a_failed_sending_is_redis_pys(
    error: BaseException, kind: type[BaseException], text: str
) -> None:
    failure = _sending_failed(error)
    assert (type(failure), str(failure)) == (kind, text)


# Quiet or not


@pytest.mark.parametrize(
    ("should_reconnect", "has_data", "polled", "is_quiet"),
    [
        (False, False, [], True),
        (True, False, [], False),
        (False, True, [], False),
        (False, False, [(1, 1)], False),
    ],
)
def test_a_connection_is_quiet_if_nothing_has_come_and_it_need_not_reconnect(
    should_reconnect: bool, has_data: bool, polled: list[Any], is_quiet: bool
) -> None:
    poll = Mock(return_value=polled)
    connection = Connection(
        _should_reconnect=should_reconnect, _has_data=lambda: has_data, _poll=poll
    )
    assert connection.is_quiet() is is_quiet
    if poll.called:
        poll.assert_called_once_with(0)


@pytest.mark.parametrize("missing", ["_poll", "_has_data"])
@pytest.mark.parametrize(
    ("should_reconnect", "can_read"), [(False, False), (True, False), (False, True)]
)
def test_where_there_is_no_poll_redis_py_decides(
    missing: str, should_reconnect: bool, can_read: bool
) -> None:
    attributes: dict[str, Any] = {
        "should_reconnect": lambda: should_reconnect, "can_read": lambda: can_read,
        "_poll": lambda timeout: [], "_has_data": lambda: False, "_should_reconnect": False,
    }  # fmt: skip
    connection = Connection(**{**attributes, missing: None})
    assert connection.is_quiet() is not (should_reconnect or can_read)


@pytest.mark.parametrize(
    "error", [redis.ConnectionError("gone"), redis.TimeoutError(), OSError()], ids=repr
)
def test_a_connection_that_fails_is_not_quiet(error: Exception) -> None:
    connection = Connection(
        _should_reconnect=False, _has_data=Mock(side_effect=error), _poll=lambda timeout: []
    )
    assert connection.is_quiet() is False


@pytest.mark.parametrize(
    ("registry", "is_current"),
    [(None, True), (SimpleNamespace(revision=3), True), (SimpleNamespace(revision=4), False)],
    ids=str,
)
def test_fieldsets_of_an_earlier_pipeline_are_to_be_discarded(
    registry: Any, is_current: bool
) -> None:
    connection = Connection(himport_registry=registry, _himport_reconciled_revision=3)
    assert connection.has_current_fieldsets is is_current
