"""The deadlines of the parser: those of a reply, of a handshake and of the caller's call."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gevent.ssl
import pytest
import redis

from pyramid_baseplate_redis.pool.deadline_parser import DeadlineParser
from pyramid_baseplate_redis.runtime.deadline import CONNECTING, READING, Deadline, called

from ..support.slow_tls import PAUSE, slow_tls

LONG = 5.0  # seconds; a test that waits for so long has failed
FAST = 1.0


def parser_of(sock: Any, timeout: float | None) -> DeadlineParser:
    """Return a parser that reads from a connected socket."""
    sock.settimeout(timeout)
    encoder = redis.Connection().encoder
    parser = DeadlineParser(65536)
    parser.on_connect(SimpleNamespace(_sock=sock, socket_timeout=timeout, encoder=encoder))
    return parser


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


Ends = tuple[socket.socket, socket.socket]


def seconds_until_timeout(parser: DeadlineParser, deadline: Deadline | None = None) -> float:
    read = parser.read_from_socket
    started = time.monotonic()
    with pytest.raises(redis.TimeoutError):
        _ = read() if deadline is None else called(deadline, read)
    return time.monotonic() - started


def test_a_reply_without_any_limit_is_read(ends: Ends) -> None:
    near, far = ends
    parser = parser_of(near, None)
    far.sendall(b"+PONG\r\n")

    assert parser.read_from_socket() is True
    assert parser.read_response() == b"PONG"
    assert parser.deadline is None


def test_the_first_piece_of_a_reply_sets_the_end_of_its_time(ends: Ends) -> None:
    near, far = ends
    parser = parser_of(near, LONG)
    far.sendall(b"$4\r\n")
    parser.read_from_socket()
    first = parser.deadline
    far.sendall(b"PONG\r\n")
    parser.read_from_socket()

    assert first is not None
    assert parser.deadline == first
    assert first - time.monotonic() == pytest.approx(LONG, abs=FAST)


def test_a_read_without_a_calls_deadline_leaves_the_sockets_timeout_alone(ends: Ends) -> None:
    timeouts = []

    class Watched(socket.socket):
        def settimeout(self, value: float | None) -> None:
            timeouts.append(value)
            super().settimeout(value)

    near, far = ends
    with Watched(fileno=near.detach()) as watched:
        parser = parser_of(watched, LONG)
        timeouts.clear()
        far.sendall(b"+PONG\r\n")
        parser.read_from_socket()

    assert timeouts == []


@pytest.mark.parametrize("ended", ["reply", "handshake", "call"])
def test_the_earliest_deadline_ends_the_wait(ends: Ends, ended: str) -> None:
    parser = parser_of(ends[0], LONG)
    soon, late = time.monotonic() + 0.03, time.monotonic() + LONG
    parser.deadline = soon if ended == "reply" else late
    parser.last_deadline = soon if ended == "handshake" else late

    assert seconds_until_timeout(parser, Deadline(soon if ended == "call" else late)) < FAST


@pytest.mark.parametrize("timeout", [None, LONG])
def test_the_deadline_of_a_call_ends_its_first_wait(ends: Ends, timeout: float | None) -> None:
    parser = parser_of(ends[0], timeout)

    assert seconds_until_timeout(parser, Deadline(time.monotonic() + 0.03)) < FAST


def test_a_reply_that_has_come_too_late_is_not_read(ends: Ends) -> None:
    near, far = ends
    parser = parser_of(near, LONG)
    far.sendall(b"+PONG\r\n")
    parser.deadline = time.monotonic() - 0.001

    assert seconds_until_timeout(parser) < FAST
    assert near.recv(10) == b"+PONG\r\n"


def test_a_wait_for_a_reply_is_a_phase_of_the_call(ends: Ends) -> None:
    near, far = ends
    parser, deadline = parser_of(near, LONG), Deadline(time.monotonic() + LONG)
    for piece in (b"$4\r\n", b"PONG\r\n"):
        far.sendall(piece)
        called(deadline, parser.read_from_socket)

    assert deadline.phase == READING
    assert READING not in deadline.spent  # it was entered once


def test_the_replies_of_a_handshake_are_part_of_connecting(ends: Ends) -> None:
    near, far = ends
    parser, deadline = parser_of(near, LONG), Deadline(time.monotonic() + LONG)
    parser.last_deadline = time.monotonic() + LONG
    deadline.enter(CONNECTING)
    far.sendall(b"+OK\r\n")
    called(deadline, parser.read_from_socket)

    assert deadline.phase == CONNECTING


def test_a_timeout_of_one_read_takes_the_place_of_the_sockets(ends: Ends) -> None:
    parser = parser_of(ends[0], LONG)
    started = time.monotonic()

    assert parser.read_from_socket(timeout=0.02, raise_on_timeout=False) is False
    parser.deadline = None
    with pytest.raises(redis.TimeoutError):
        parser.read_from_socket(timeout=0.02)
    assert time.monotonic() - started < FAST


def test_a_read_that_may_find_nothing_raises_nothing(ends: Ends) -> None:
    parser = parser_of(ends[0], 0.02)

    assert parser.read_from_socket(raise_on_timeout=False) is False
    parser.deadline = None
    parser.last_deadline = time.monotonic() + 0.02
    assert parser.read_from_socket(raise_on_timeout=False) is False


def test_a_parser_can_be_used_after_a_timeout(ends: Ends) -> None:
    near, far = ends
    parser = parser_of(near, 0.02)
    seconds_until_timeout(parser)
    parser.deadline = None
    far.sendall(b"+PONG\r\n")

    assert parser.read_response() == b"PONG"
    assert near.gettimeout() == 0.02


@pytest.mark.parametrize("lost", ["_sock", "_reader"])
def test_a_connection_that_another_thread_closes_is_lost(ends: Ends, lost: str) -> None:
    parser = parser_of(ends[0], LONG)
    ends[1].sendall(b"+PONG\r\n")
    setattr(parser, lost, None)

    with pytest.raises(redis.ConnectionError, match="closed by server"):
        parser.read_from_socket()


def test_a_closed_parser_has_no_reader(ends: Ends) -> None:
    parser = parser_of(ends[0], LONG)
    parser.on_disconnect()

    with pytest.raises(redis.ConnectionError, match="closed by server"):
        _ = parser.reader


def test_a_connection_that_the_server_closes_is_lost(ends: Ends) -> None:
    near, far = ends
    parser = parser_of(near, LONG)
    far.close()

    with pytest.raises(redis.ConnectionError, match="closed by server"):
        parser.read_from_socket()


def test_a_parser_takes_a_new_timeout(ends: Ends) -> None:
    parser = parser_of(ends[0], LONG)
    parser.set_socket_timeout(100.0)
    ends[1].sendall(b"+PONG\r\n")
    parser.read_from_socket()

    assert parser.deadline is not None
    assert parser.deadline - time.monotonic() == pytest.approx(100, abs=LONG)


def test_a_pushed_message_is_returned_as_it_is(ends: Ends) -> None:
    message = [b"message", b"channel", b"data"]

    assert parser_of(ends[0], LONG).handle_pubsub_push_response(message) is message


# gevent's TLS sockets, whose timeout starts again with each byte


@pytest.mark.parametrize("limit", ["socket_timeout", "call"])
def test_a_reply_a_byte_at_a_time_has_the_time_of_one_with_gevents_tls(limit: str) -> None:
    seconds = 5 * PAUSE
    with slow_tls(b"+PONG\r\n" * 100, gevent.ssl) as sock:
        parser = parser_of(sock, seconds if limit == "socket_timeout" else LONG)
        deadline = Deadline(time.monotonic() + seconds) if limit == "call" else None
        assert seconds_until_timeout(parser, deadline) < 200 * PAUSE


def test_a_reply_over_gevents_tls_is_read_without_any_limit() -> None:
    with slow_tls(b"+PONG\r\n", gevent.ssl) as sock:
        parser = parser_of(sock, None)
        assert parser.read_response() == b"PONG"
        assert parser.deadline is None
