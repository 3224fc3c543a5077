"""Send commands and read their replies without redis-py's layers in between.

In redis-py a command passes a dozen functions, which take as much CPU time as the system calls and
hiredis together. This module does only what has an effect, with the same results and errors.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import hiredis
import redis
from redis.utils import SENTINEL

from ...runtime.deadline import SENDING, Deadline, current_deadline
from ...telemetry.call_details import Peers, note_peer, note_server
from ..deadline_parser import NOT_ENOUGH_DATA
from ..owned_connection import OwnedConnection
from .packing import PACKABLE, joined, packed_command
from .qualification import KNOWN_MODULES, poll_of, qualifies

if TYPE_CHECKING:
    from ..circuit_breaker import CircuitBreaker

# Replies that need no look into them. The others are lists, errors and push messages.
_PLAIN_REPLIES = frozenset({bytes, int, type(None), str, dict, float, bool, set})
# The state of a connection after the reply to a command.
WATCHING, NOT_WATCHING, ALTERED = range(3)
_ALONE: tuple[int, ...] = ()


class DirectConnection(OwnedConnection):
    """A mixin that sends commands directly, if :mod:`.qualification` allows it.

    If a command is interrupted, at any line, its replies stay counted as unread, and the pool
    closes the connection.
    """

    #: Whether commands may be sent by :meth:`ask`; decided each time it connects.
    is_direct = False
    #: The modules whose classes do nothing for a command that this class leaves out.
    direct_modules = KNOWN_MODULES
    #: Whether its server is not the settings' but the one that Sentinels name.
    is_discovered = False
    breaker: CircuitBreaker | None = None

    host: str
    port: int
    peer: tuple[str, int] | None = None  # IP address and port; None for a Unix socket
    _peers: Peers | None = None  # None for a connection that belongs to no pool
    _parser: Any
    _sock: Any
    # While it is direct: what parses a reply, whether there is something to parse, and a poll of
    # the socket.
    _gets: Callable[[bool], Any] | None = None
    _has_data: Callable[[], bool] | None = None
    _poll: Callable[[int], list[Any]] | None = None

    _owed = 0  # replies still to be read
    _packed = 0  # commands packed last, and the states that they lead to
    _states = _ALONE
    _was_sent = False  # a command failed after it was sent, or while it was
    _watching = False  # it watches keys or is in a transaction
    _altered = False  # its database, user or protocol may not be the configured ones

    def _decide(self) -> None:
        """Decide whether commands are sent directly, after the connection has connected."""
        self.is_direct = qualifies(self, self._parser, self._command_packer)
        if self.is_direct:
            reader = self._parser.reader
            self._gets, self._has_data = reader.gets, reader.has_data
            self._poll = poll_of(self._sock)

    def is_quiet(self) -> bool:
        """Return whether the server has neither sent anything nor closed the connection.

        This is ``not can_read()`` and ``not should_reconnect()``, and faster.
        """
        try:
            if self._poll is None or self._has_data is None:
                return not (self.should_reconnect() or self.can_read())
            return not (self._should_reconnect or self._has_data() or self._poll(0))
        except (redis.ConnectionError, redis.TimeoutError, OSError):
            return False

    @property
    def has_current_fieldsets(self) -> bool:
        """Return whether redis-py has no HIMPORT fieldsets to discard before the next pipeline."""
        registry = getattr(self, "himport_registry", None)  # redis-py 8.0 has no HIMPORT
        return registry is None or registry.revision == self._himport_reconciled_revision

    def ask(self, args: Sequence[Any], *, decode: bool = True, timeout: Any = SENTINEL) -> Any:
        """Send a command and return its reply, before redis-py's callbacks.

        :param args: a command of :data:`~.packing.DIRECT_COMMANDS` and its arguments.
        :param decode: whether texts are decoded, if ``foo.decode_responses`` is set.
        :param timeout: seconds that the reply may take; by default ``socket_timeout``.
        :raises redis.RedisError: the same as redis-py's ``send_command`` and ``read_response``.
        """
        if type(args) is tuple and PACKABLE.issuperset(map(type, args)):
            packed = hiredis.pack_command(args)
        elif (packed := packed_command(args)) is None:
            (packed,) = self.pack_command(*args)
        self._packed, self._states = 1, _ALONE
        self._send((packed,), 1)
        return self._read(decode, timeout)

    def ask_all(
        self, commands: Sequence[Sequence[Any]], states: tuple[int, ...] = _ALONE,
        *, decode: bool = True,
    ) -> list[Any]:  # fmt: skip
        """Send commands and return their replies, errors included, before redis-py's callbacks.

        :param commands: like the parameter of :meth:`ask`; they may be in MULTI and EXEC.
        :param states: the states of the connection that the commands lead to.
        :param decode: as for :meth:`ask`.
        :raises redis.ConnectionError: the connection is lost.
        :raises redis.TimeoutError: a reply did not arrive within ``socket_timeout``.
        """
        self.send_all(commands, states)
        return self.read_all(len(commands), decode=decode)

    def send_all(self, commands: Sequence[Sequence[Any]], states: tuple[int, ...] = _ALONE) -> None:
        """Send commands, whose replies are to be read with :meth:`read_all`.

        The parameters are those of :meth:`ask_all`.

        :raises redis.ConnectionError: the connection is lost.
        :raises redis.TimeoutError: the server does not receive them within ``socket_timeout``.
        """
        packed = [packed_command(args) or b"".join(self.pack_command(*args)) for args in commands]
        self._packed, self._states = len(packed), states
        self._send(joined(packed, self._buffer_cutoff), len(packed))

    def _send(self, pieces: Sequence[bytes], owed: int) -> None:
        if self.pid != os.getpid() or self._sock is None:
            self._connect_again()
        if (
            self._states
            or self.is_node
            or self.is_discovered
            or ((peers := self._peers) is not None and peers.are_several)
        ):
            self._expect_replies(owed, self._states)
        else:  # the same, without the cost of a call
            self._owed += owed
        try:
            for piece in pieces:
                if (deadline := current_deadline()) is None:
                    self._sock.sendall(piece)
                else:
                    self._send_before(deadline, piece)
        except BaseException as error:
            self.disconnect()
            failure = _sending_failed(error)
            self._explain(failure)
            if failure is error:
                raise
            raise failure  # noqa: B904  # implicitly, as in redis-py

    def _send_before(self, deadline: Deadline, piece: bytes) -> None:
        if deadline.has_passed:
            raise TimeoutError  # if this is the first piece, nothing was sent
        deadline.enter(SENDING)
        sock = self._sock
        sock.settimeout(deadline.shorten(self.socket_timeout))
        sock.sendall(piece)
        sock.settimeout(self.socket_timeout)

    def _read(self, decode: bool, timeout: Any) -> Any:
        if self.pid != os.getpid():  # check_owner(), without the cost of a call
            raise self._not_ours()
        parser = self._parser
        parser.deadline = None
        try:
            gets = self._gets or parser.reader.gets
            reply = gets(decode)
            while reply is NOT_ENOUGH_DATA:
                parser.read_from_socket(timeout)
                reply = gets(decode)
            is_plain = type(reply) in _PLAIN_REPLIES
            if not is_plain:
                reply = self._looked_into(reply, decode, timeout)
        except BaseException as error:
            self._reading_failed(error)
            raise
        self._owed -= 1
        if self.breaker is not None:
            self.breaker.succeeded()
        if not is_plain and isinstance(reply, redis.ResponseError):
            try:
                self._note_error(reply)
                raise reply
            finally:
                del reply  # avoids a reference cycle
        return reply

    def read_all(self, count: int, *, decode: bool = True) -> list[Any]:
        """Return the replies to commands, errors included, before redis-py's callbacks.

        :param count: the number of commands.
        :param decode: as for :meth:`ask`.
        :raises redis.ConnectionError: the connection is lost.
        :raises redis.TimeoutError: a reply did not arrive within ``socket_timeout``.
        """
        if self.pid != os.getpid():
            raise self._not_ours()
        parser = self._parser
        parser.deadline = None
        replies: list[Any] = []
        owed = self._owed
        try:
            reader = parser.reader
            while len(replies) < count:
                reply = reader.gets(decode)
                if reply is NOT_ENOUGH_DATA:
                    parser.read_from_socket()
                    continue
                if type(reply) not in _PLAIN_REPLIES:
                    reply = self._looked_into(reply, decode, SENTINEL)
                replies.append(reply)
                parser.deadline = None  # each reply has a deadline of its own
                if isinstance(reply, redis.ResponseError):
                    self._owed = owed - len(replies)
                    self._note_error(reply)
        except BaseException as error:
            if replies and self.breaker is not None:
                self.breaker.succeeded()
            self._reading_failed(error)
            raise
        self._owed = owed - count
        if self.breaker is not None:
            self.breaker.succeeded()
        return replies

    def _looked_into(self, reply: Any, decode: bool, timeout: Any) -> Any:
        """Return a list or an error; for a push message, handle it and return the next reply.

        :raises redis.ConnectionError: the server sent an error that redis-py counts as one.
        """
        if isinstance(reply, hiredis.PushNotification):
            self._parser.handle_push_response(reply)
            return self._parser.read_response(disable_decoding=not decode, timeout=timeout)
        failed = reply[0] if type(reply) is list and reply else reply
        if isinstance(failed, redis.ConnectionError):
            raise failed
        return reply

    def _reading_failed(self, error: BaseException) -> None:
        """Close the connection; raise the error that redis-py raises, unless it is ``error``."""
        self.disconnect()
        if not isinstance(error, OSError):
            self._explain(error)
            return
        failure: Exception
        if isinstance(error, TimeoutError):
            failure = redis.TimeoutError(f"Timeout reading from {self._host_error()}")
        else:
            failure = redis.ConnectionError(
                f"Error while reading from {self._host_error()} : {error.args}"
            )
        self._explain(failure)
        raise failure

    def _expect_replies(self, count: int, states: tuple[int, ...]) -> None:
        """Count the replies that will be owed; to be called just before the first byte is sent.

        If an interruption comes from here on, they are unread, and the pool closes the connection.

        :param count: the number of commands.
        :param states: the states of the connection that they lead to.
        """
        if self.is_node:
            note_server(self.host, self.port, self.peer)
        elif self._peers is not None and self._peers.are_several:
            note_peer(self.peer)
        self._owed += count
        for state in states:
            if state == ALTERED:
                self._altered = True
            else:
                self._watching = state == WATCHING

    # Defined by the connection that this class is mixed into.

    def _connect_again(self) -> None:
        raise NotImplementedError

    def _explain(self, error: BaseException) -> None:
        raise NotImplementedError

    def _note_error(self, error: redis.ResponseError) -> None:
        raise NotImplementedError


def _sending_failed(error: BaseException) -> BaseException:
    """Return the error that redis-py raises when sending fails with ``error``."""
    if isinstance(error, TimeoutError):
        return redis.TimeoutError("Timeout writing to socket")
    if not isinstance(error, OSError):
        return error
    number, text = ("UNKNOWN", error.args[0]) if len(error.args) == 1 else error.args[:2]
    return redis.ConnectionError(f"Error {number} while writing to socket. {text}.")
