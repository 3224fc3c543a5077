"""The pool's connections: redis-py's, extended to count replies.

redis-py closes a connection when reading a reply fails, but not when something interrupts the code
between sending and reading. The next user of the connection would then read that reply.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import redis
from redis.connection import AbstractConnection, DefaultParser

from ..exceptions import REDIRECTION_ERRORS
from ..runtime.deadline import (
    CONNECTING,
    as_phase,
    current_deadline,
)
from ..telemetry.call_details import Peers, note_redirection
from .connections.command_states import TRANSACTION as TRANSACTION
from .connections.command_states import state_after
from .connections.timeouts import TimedConnection
from .credentials import clear_credentials
from .deadline_parser import DeadlineParser
from .demotion import RefusalDetector
from .direct.connection import DirectConnection
from .direct.packing import NUMBERS, without_numbers
from .error_messages import add_context, note_client
from .owned_connection import RELEASED

if TYPE_CHECKING:
    from .circuit_breaker import CircuitBreaker

# socket.getaddrinfo() imports this codec for host names. It is imported here, so that connecting
# imports nothing; connection_kwargs.py gives the reason, and the other import.
"localhost".encode("idna")


class PooledConnection(TimedConnection, DirectConnection):
    """A mixin for the connection class of a pool; see :func:`pooled_class`.

    It counts the replies that are still to be read, and knows whether the connection's state is
    the configured one.
    """

    _on_read_only: Callable[[], bool] | None = None
    _refusals: RefusalDetector
    _ready = False  # the handshake is complete: authenticated, in the right database

    @property
    def is_settled(self) -> bool:
        """Return whether another caller may use it: all replies are read, its state is unchanged.

        It is changed while it watches keys or is in a transaction, and after SELECT, AUTH and other
        commands that alter the connection.
        """
        return self._ready and not (self._owed or self._watching or self._altered)

    def is_reusable(self) -> bool:
        """Return whether it may go to another caller after its release.

        It may if it is settled, and redis-py has not marked it to connect again.
        """
        # is_settled and, if the class is redis-py's, should_reconnect(), without two calls.
        return self._ready and not (
            self._owed
            or self._watching
            or self._altered
            or (self._should_reconnect if self.is_direct else self.should_reconnect())
        )

    @property
    def owes_replies(self) -> bool:
        """Return whether a reply is still to be read."""
        return bool(self._owed)

    @property
    def is_one_command(self) -> bool:
        """Return whether the commands packed last are executed as a whole or not at all."""
        return self._packed == 1 or self._states == TRANSACTION

    # Commands and replies

    def connect_check_health(
        self, check_health: bool = True, retry_socket_connect: bool = True
    ) -> None:
        """Connect and log in, unless that is done.

        :raises redis.ConnectionError: the server cannot be reached.
        :raises redis.TimeoutError: it doesn't answer in time.
        """
        # A handshake that was interrupted leaves an open socket, but not _ready: start again.
        if self.is_connected:
            if self._ready:
                return
            self.disconnect()
        if self.pid != os.getpid():
            self._adopt()
        self._connecting_since = time.monotonic()
        if (deadline := current_deadline()) is not None:
            deadline.enter(CONNECTING)
        handled = sys.exc_info()[1]
        try:
            super().connect_check_health(check_health, retry_socket_connect)
        except BaseException as error:
            self.disconnect()
            clear_credentials(error, handled)
            self._explain(error)
            raise
        finally:
            self._connecting_since = None
        if deadline is not None:
            self._restore_timeout()
        self._refusals.must_close = self._altered = False
        self._ready = True
        if self._peers is not None:
            self.peer = _peer_of(self._sock)
            self._peers.add(self.peer)
        self._decide()

    def reconnect(self) -> None:
        """Connect again before a command is sent."""
        self.connect_check_health(check_health=False)

    def set_parser(self, parser_class: Any) -> None:
        """Set the parser: a :class:`DeadlineParser` in place of redis-py's default."""
        self.is_direct = False
        super().set_parser(DeadlineParser if parser_class is DefaultParser else parser_class)
        self._refusals = RefusalDetector(self._parser)
        self.report_read_only(self._on_read_only)

    def report_read_only(self, report: Callable[[], bool] | None) -> None:
        """Call ``report`` when a replica refuses a write; see :mod:`.pool.demotion`."""
        self._on_read_only = self._refusals.report = report

    def pack_command(self, *args: Any) -> Any:
        """Pack one command."""
        self._packed = 1
        state = state_after(args[0])
        self._states = () if state is None else (state,)
        if not NUMBERS.isdisjoint(map(type, args)):
            args = without_numbers(args)
        return super().pack_command(*args)

    def pack_commands(self, commands: Iterable[Sequence[Any]]) -> Any:
        """Pack the commands of a pipeline."""
        commands = [without_numbers(args) for args in commands]
        self._packed = len(commands)
        states = [state_after(args[0]) for args in commands]
        self._states = tuple(state for state in states if state is not None)
        return super().pack_commands(commands)

    def send_command(self, *args: Any, **kwargs: Any) -> None:
        """Pack one command and send it."""
        packed = self.pack_command(*args)
        self.send_packed_command(packed, check_health=kwargs.get("check_health", True))

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send the commands that were packed last.

        After a fork the connection connects again, unless that would lose its state.

        :raises ForkedConnectionError: it watches keys, or was altered, in the parent process.
        """
        if self.pid != os.getpid() or not self.is_connected:
            self._connect_again()
        packed, states = self._packed, self._states
        if check_health and self.health_check_interval:
            with as_phase(CONNECTING):  # its PING is not the command
                self.check_health()
            self.check_owner()
        self._expect_replies(packed, states)
        deadline = current_deadline() if self._connecting_since is None else None
        try:
            if deadline is None:
                super().send_packed_command(command, False)
            else:
                self._send_before_deadline(deadline, command)
        except BaseException as error:
            self._explain(error)
            raise

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """Read a reply; the parameters are those of :meth:`redis.Connection.read_response`.

        :raises redis.ResponseError: the server replied with an error.
        :raises redis.ConnectionError: the connection is lost.
        :raises redis.TimeoutError: the whole reply didn't arrive within ``socket_timeout``.
        :raises ForkedConnectionError: another process checked the connection out.
        """
        # There are three outcomes:
        #
        # 1. A reply: one less is owed.
        # 2. An error reply: the same, since the reply is complete. If it is a replica's refusal of
        #    a write, the connection may be closed.
        # 3. Any other exception (a lost connection, a timeout, a signal handler): redis-py closes
        #    the connection, which drops what is owed. If that is interrupted as well, the reply
        #    stays owed, and the pool closes the connection.
        if self.pid != os.getpid():  # check_owner(), without the cost of a call
            raise self._not_ours()
        self._parser.deadline = None
        try:
            response = super().read_response(*args, **kwargs)
        except redis.ResponseError as error:
            self._reply_is_read()
            self._note_error(error)
            raise
        except BaseException as error:
            self._explain(error)
            raise
        self._reply_is_read()
        return response

    def can_read(self, timeout: float = 0) -> bool:
        """Return whether there is something to read; see :meth:`redis.Connection.can_read`."""
        # redis-py's method asks the parser, too, but first composes a message for its error. The
        # pool calls this for each command.
        try:
            if self._sock is not None:
                return bool(self._parser.can_read(timeout))
        except OSError:
            pass
        return bool(super().can_read(timeout))

    def _note_error(self, error: redis.ResponseError) -> None:
        """Note what an error reply means, after it was read."""
        if self.is_node and isinstance(error, REDIRECTION_ERRORS):
            note_redirection()
            if self.address_remap is not None and isinstance(error, redis.exceptions.AskError):
                # redis-py maps only the addresses in the layout, and would connect to this one.
                error.node_addr = self.address_remap(error.node_addr)
                error.host, error.port = error.node_addr
            return
        note_client(error, self.client, self)
        if (
            isinstance(error, redis.ReadOnlyError)
            and self._on_read_only is not None
            and not self.is_node
        ):
            self._was_refused(error)

    def _was_refused(self, error: redis.ReadOnlyError) -> None:
        """Mark the error if nothing was executed; close the connection if that loses nothing."""
        if self.is_one_command:
            error.unsent = True  # type: ignore[attr-defined]  # all of it was refused
        # A caller that keeps the connection connects again with its next command. The connection
        # stays open if it watches keys or has selected another database, which would be lost.
        if self.is_settled and self._refusals.must_close:
            self.disconnect()

    def _reply_is_read(self) -> None:
        self._owed -= 1
        if self.breaker is not None:
            self.breaker.succeeded()

    def disconnect(self, *args: Any, **kwargs: Any) -> None:
        """Close the socket, and with it drop all unread replies."""
        if self.pid == RELEASED:
            return
        super().disconnect(*args, **kwargs)
        self._owed = 0
        self.is_direct = self._ready = self._watching = self._altered = False
        self._gets = self._has_data = self._poll = None

    def shutdown_socket(self) -> None:
        """Shut the socket down from any thread; the holder's next read fails.

        Only the holder may call disconnect(), which takes the socket away from a thread that reads.
        """
        opened = self.__dict__.get("_sock")  # missing if the holder has just released it
        if opened is not None:
            with contextlib.suppress(OSError):
                # Not SSLSocket.shutdown(), which first stops encrypting what the holder sends.
                socket.socket.shutdown(opened, socket.SHUT_RDWR)

    # The holder

    def attach(
        self,
        client: str,
        breaker: CircuitBreaker | None,
        on_read_only: Callable[[], bool] | None = None,
        peers: Peers | None = None,
    ) -> None:
        """Make it a connection of a pool.

        :param client: the client's name, for messages.
        :param breaker: counts failures; ``None`` for none.
        :param on_read_only: see :meth:`report_read_only`.
        :param peers: the pool's; gets the address of each new connection.
        """
        self.report_read_only(on_read_only)
        self.client = client
        self.breaker = breaker
        self._peers = peers
        self._identity = object()

    def _connect_again(self) -> None:
        """Connect, to send the commands packed last."""
        packed, states = self._packed, self._states  # a handshake packs others
        if self.pid != os.getpid():
            self._leave_to_parent()
        if not self.is_connected:
            self.reconnect()
            # A greenlet waiting there may be copied by a fork, and resume in the child.
            self.check_owner()
        self._packed, self._states = packed, states

    def _leave_to_parent(self) -> None:
        if self.pid == RELEASED or self._watching or self._altered:
            raise self._not_ours()
        self.disconnect()  # closes this process's copy of the socket only
        self._adopt()

    def _explain(self, error: BaseException) -> None:
        """Add the client, the server and whether the command was sent; count it as a failure."""
        connecting = self._connecting_since is not None
        # With redis-py's retry=, the command may have been sent before it connects again.
        unsent = connecting and not (self._was_sent and self.retry.get_retries())
        self._was_sent = self._was_sent or not connecting
        deadline = current_deadline()
        if (
            add_context(error, self.client, self, unsent)
            and self.breaker is not None
            # The server may be fine: the caller gave it less time than the settings do.
            and (deadline is None or not deadline.has_run_out)
        ):
            self.breaker.failed(error)


def _peer_of(opened: Any) -> tuple[str, int] | None:
    try:
        name = opened.getpeername()
    except (AttributeError, OSError):
        return None  # closed meanwhile
    return (name[0], name[1]) if isinstance(name, tuple) else None


_pooled_classes: dict[type, type] = {}


def pooled_class(connection_class: Any) -> Any:
    """Return the subclass of a redis-py connection class that is a :class:`PooledConnection`."""
    if not isinstance(connection_class, type) or not issubclass(
        connection_class, AbstractConnection
    ):
        return connection_class  # redis-py accepts any callable
    if issubclass(connection_class, PooledConnection):
        return connection_class
    made = _pooled_classes.get(connection_class)
    if made is None:
        attributes = {"__module__": connection_class.__module__}
        made = type(connection_class.__name__, (PooledConnection, connection_class), attributes)
        _pooled_classes[connection_class] = made
    return made
