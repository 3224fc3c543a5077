"""A reply parser that bounds the time for a whole reply.

redis-py's ``socket_timeout`` starts again with each piece that arrives: a server or a proxy that
sends a byte now and then could hold a request without end.
"""

from __future__ import annotations

import time
from typing import Any

import redis
from redis._parsers.hiredis import NOT_ENOUGH_DATA as NOT_ENOUGH_DATA
from redis._parsers.socket import SERVER_CLOSED_CONNECTION_ERROR
from redis.connection import DefaultParser
from redis.utils import HIREDIS_AVAILABLE, SENTINEL

from ..runtime.deadline import READING, current_deadline
from ..runtime.gevent_timeouts import in_total, restarts_timeout


class DeadlineParser(DefaultParser):  # type: ignore[misc, valid-type]  # it depends on hiredis
    """redis-py's parser, with a deadline."""

    has_hiredis = HIREDIS_AVAILABLE
    _sock: Any

    # The end of the time for a reply, by time.monotonic(). read_response() of the connection resets
    # it to ``None``, and the first wait for a piece of the reply sets it.
    deadline: float | None = None
    # The end of the time for several replies together, those of the handshake.
    last_deadline: float | None = None
    _restarts_timeout = False  # whether its socket needs in_total()

    @property
    def reader(self) -> Any:
        """Return hiredis's reader, whose ``gets()`` returns ``NOT_ENOUGH_DATA`` between replies.

        :raises redis.ConnectionError: another thread has closed the connection.
        """
        reader = self._reader
        if reader is None:
            raise redis.ConnectionError(SERVER_CLOSED_CONNECTION_ERROR)
        return reader

    def read_from_socket(self, timeout: Any = SENTINEL, raise_on_timeout: bool = True) -> Any:
        """Wait for a piece of a reply.

        :raises redis.TimeoutError: it didn't arrive in time.
        """
        of_call = current_deadline()
        if self.deadline is None and self.last_deadline is None:
            seconds = self._socket_timeout if timeout is SENTINEL else timeout
            if seconds:
                self.deadline = time.monotonic() + seconds
            if of_call is None and not (self._restarts_timeout and self.deadline):
                if timeout is not SENTINEL or not raise_on_timeout:
                    return super().read_from_socket(timeout, raise_on_timeout)
                # The usual case: the same as redis-py's method does, in fewer steps.
                sock, reader = self._sock, self._reader
                if sock is None or reader is None:  # another thread has closed the connection
                    return super().read_from_socket()
                try:
                    size = sock.recv_into(self._buffer)
                except OSError as error:
                    return self._receiving_failed(sock, error)
                if not size:
                    return super().read_from_socket()  # it receives nothing either, and raises
                reader.feed(self._buffer, 0, size)
                return True
        deadlines = [end for end in (self.deadline, self.last_deadline) if end is not None]
        if of_call is not None:
            deadlines.append(of_call.ends_at)
            if self.last_deadline is None and of_call.phase != READING:
                of_call.enter(READING)
        left = min(deadlines) - time.monotonic()
        if left <= 0:
            raise redis.TimeoutError("Timeout reading from socket")
        if not self._restarts_timeout:
            return super().read_from_socket(left, raise_on_timeout)
        with in_total(self._sock, left):
            return super().read_from_socket(left, raise_on_timeout)

    def on_connect(self, connection: Any) -> None:
        """Use the socket of a connection from now on."""
        super().on_connect(connection)
        self._restarts_timeout = restarts_timeout(self._sock)

    def _receiving_failed(self, sock: Any, error: OSError) -> Any:
        """Raise an error of redis-py's own, which depends on ``error``."""
        failed = self._sock = _FailedSocket(error)
        try:
            return super().read_from_socket()
        finally:
            if self._sock is failed:
                self._sock = sock

    def set_socket_timeout(self, seconds: float | None) -> None:
        """Set the seconds that a reply may take by default."""
        self._socket_timeout = seconds

    def handle_pubsub_push_response(self, response: Any) -> Any:
        """Return the message, as redis-py does, but without looking up a logger.

        ``logging.getLogger()`` takes a global lock. An interruption could leave it locked, and then
        every thread that logs, forks or receives a message would hang.
        """
        return response


class _FailedSocket:
    """Stands in for a socket that has just raised an error, and raises it again."""

    def __init__(self, error: OSError) -> None:
        self._error = error

    def recv_into(self, buffer: bytearray) -> int:
        raise self._error
