"""What our pools add to redis-py's connections: every reply is accounted for, and has one reader.

redis-py closes a connection when reading a reply fails, but not when something interrupts the code
between sending and reading: the next user of the connection would read that reply.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import redis
from redis.connection import AbstractConnection, DefaultParser
from redis.utils import get_lib_version

from ..exceptions import REDIRECTION_ERRORS, ForkedConnectionError, PoolReleaseError
from ..telemetry.call_details import note_redirection, note_server
from .deadline_parser import DeadlineParser
from .error_messages import add_context, address_of

if TYPE_CHECKING:
    from .circuit_breaker import CircuitBreaker

# A child that is forked while a thread of its parent imports a module waits for ever when it
# imports that module, too. The first connection of a process would import modules in two places:
# redis-py looks up its own version (on Python 3.13), and socket.getaddrinfo() the codec of host
# names. Both are done here, so that connecting imports nothing.
get_lib_version()
"localhost".encode("idna")

_LEAST_SECONDS = 0.001
_RELEASED = 0  # no process has this number
_NUMBERS = frozenset({int, float})
# What a connection is like once the server has replied to a command; see ``is_settled``.
_WATCHING, _NOT_WATCHING, _ALTERED = range(3)
_NO_STATES: tuple[int, ...] = ()
_STATES = {
    **dict.fromkeys(("WATCH", "MULTI"), _WATCHING),
    **dict.fromkeys(("EXEC", "DISCARD", "UNWATCH"), _NOT_WATCHING),
    **dict.fromkeys(
        ("SELECT", "AUTH", "HELLO", "RESET", "MONITOR", "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE",
         "CLIENT REPLY", "CLIENT TRACKING", "CLIENT NO-TOUCH"),
        _ALTERED,
    ),
}  # fmt: skip


class PooledConnection(AbstractConnection):
    """Mixed into the connection class of a pool; see :func:`pooled_class`.

    Whoever takes a connection from the pool gets an object of his own. When it is released, what
    it was made of moves into a fresh object, and the one that he still holds is dead: to release
    it again, or to use it, is an error and no harm to the connection's next user. Objects for the
    same connection are equal.
    """

    pid: int
    client = ""
    breaker: CircuitBreaker | None = None

    is_node = False  # of a Cluster
    is_adopted = False  # taken by a parent process, connected anew by this one

    host: str
    port: int
    _parser: Any
    _sock: Any
    _on_read_only: Callable[[], bool] | None = None
    _connecting_since: float | None = None

    # How many replies are still to be read, and what the next command to be sent is about.
    _owed = 0
    _packed = 0
    _states = _NO_STATES
    _ready = False  # the handshake is complete: authenticated, in the right database
    _watching = False
    _altered = False

    @property
    def is_settled(self) -> bool:
        """Whether anybody may use it next: every reply is read, and it is as it was at first.

        It isn't while it watches keys or is in a transaction, nor behind a SELECT or the like.
        """
        return self._ready and not (self._owed or self._watching or self._altered)

    @property
    def owes_replies(self) -> bool:
        """Whether a reply to what was sent hasn't been read."""
        return bool(self._owed)

    @property
    def is_one_command(self) -> bool:
        """Whether what was packed last is executed as a whole, or not at all."""
        return self._packed == 1 or self._states == (_WATCHING, _NOT_WATCHING)  # MULTI, EXEC

    # What is sent and read

    def connect_check_health(
        self, check_health: bool = True, retry_socket_connect: bool = True
    ) -> None:
        """Connect and log in, unless that is done; nothing that was interrupted counts as done."""
        if self.is_connected:
            if self._ready:
                return
            self.disconnect()
        if self.pid != os.getpid():
            self._adopt()
        self._connecting_since = time.monotonic()
        try:
            super().connect_check_health(check_health, retry_socket_connect)
        except BaseException as error:
            self.disconnect()
            self._explain(error)
            raise
        finally:
            self._connecting_since = None
        self._altered = False
        self._ready = True

    def reconnect(self) -> None:
        """Connect where a command is to be sent and it isn't connected any longer."""
        self.connect_check_health(check_health=False)

    @property
    def socket_connect_timeout(self) -> float | None:
        """Seconds left for connecting, whatever the number of addresses that a host name has."""
        seconds: float | None = super().socket_connect_timeout
        if seconds is None or self._connecting_since is None:
            return seconds
        return max(_LEAST_SECONDS, self._connecting_since + seconds - time.monotonic())

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, value: float | None) -> None:
        self._socket_connect_timeout = value

    def on_connect_check_health(self, check_health: bool = True) -> None:
        """Log in; all of its replies together have the time of one."""
        parser = self._parser
        if self.socket_timeout:
            parser.last_deadline = time.monotonic() + self.socket_timeout
        super().on_connect_check_health(check_health)
        parser.last_deadline = None

    def set_parser(self, parser_class: Any) -> None:
        """Use a parser; redis-py's own one gets deadlines."""
        super().set_parser(DeadlineParser if parser_class is DefaultParser else parser_class)
        self.report_read_only(self._on_read_only)

    def report_read_only(self, report: Callable[[], bool] | None) -> None:
        """Have refusals of writes by a replica reported; see :mod:`.pool.demotion`."""
        self._on_read_only = report
        if isinstance(self._parser, DeadlineParser):
            self._parser.on_read_only = report

    def pack_command(self, *args: Any) -> Any:
        """Pack one command."""
        self._packed = 1
        command = args[0]
        state = _STATES.get(command.upper() if isinstance(command, str) else _text(command))
        self._states = _NO_STATES if state is None else (state,)
        if not _NUMBERS.isdisjoint(map(type, args)):
            args = tuple(_without_numbers(args))
        return super().pack_command(*args)

    def pack_commands(self, commands: Iterable[Sequence[Any]]) -> Any:
        """Pack the commands of a pipeline."""
        commands = [_without_numbers(args) for args in commands]
        self._packed = len(commands)
        states = [_STATES.get(_text(args[0])) for args in commands]
        self._states = tuple(state for state in states if state is not None)
        return super().pack_commands(commands)

    def send_command(self, *args: Any, **kwargs: Any) -> None:
        """Pack one command and send it."""
        packed = self.pack_command(*args)
        self.send_packed_command(packed, check_health=kwargs.get("check_health", True))

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send what was packed last.

        :raises ForkedConnectionError: if it watches keys for the process that this one was forked
            from; one that doesn't connects anew.
        """
        packed, states = self._packed, self._states  # a handshake packs commands of its own
        if self.pid != os.getpid():
            self._leave_to_parent()
        if not self.is_connected:
            self.reconnect()
            self.check_owner()  # under gevent, who waits may be forked, and go on in the child
        if check_health and self.health_check_interval:
            self.check_health()
            self.check_owner()
        if self.is_node:
            note_server(self.host, self.port)
        # Before the first byte is sent: if anything interrupts this, it counts as unread.
        self._owed += packed
        for state in states:
            if state == _ALTERED:
                self._altered = True
            else:
                self._watching = state == _WATCHING
        try:
            super().send_packed_command(command, False)
        except BaseException as error:
            self._explain(error)
            raise

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """Read a reply; see :meth:`redis.Connection.read_response`."""
        if self.pid != os.getpid():  # check_owner(), without the cost of a call
            raise self._not_ours()
        self._parser.deadline = None
        try:
            response = super().read_response(*args, **kwargs)
        except redis.ResponseError as error:
            self._reply_is_read()  # an error is a reply as well
            if self.is_node:
                if isinstance(error, REDIRECTION_ERRORS):
                    note_redirection()
            elif isinstance(error, redis.ReadOnlyError) and self._on_read_only is not None:
                self._was_refused(error)
            raise
        except BaseException as error:
            self._explain(error)
            raise
        self._reply_is_read()
        return response

    def _was_refused(self, error: redis.ReadOnlyError) -> None:
        """Say in the error whether anything was executed, and close the connection if it may be."""
        if self.is_one_command:
            error.unsent = True  # type: ignore[attr-defined]  # as good as: all of it was refused
        # A caller that keeps the connection for good gets a new one with its next command. But not
        # while it watches keys or has selected another database: it wouldn't notice the loss.
        if self.is_settled and getattr(self._parser, "is_left", False):
            self.disconnect()

    def _reply_is_read(self) -> None:
        self._owed -= 1
        if self.breaker is not None:
            self.breaker.succeeded()

    def disconnect(self, *args: Any, **kwargs: Any) -> None:
        """Close the socket; what is unread is gone with it."""
        if self.pid == _RELEASED:
            return
        super().disconnect(*args, **kwargs)
        self._owed = 0
        self._ready = self._watching = self._altered = False

    def shutdown_socket(self) -> None:
        """Have its holder find it closed, whoever calls this.

        disconnect() is for the holder alone: a thread that reads would find no socket any more.
        """
        opened = self.__dict__.get("_sock")  # whose holder may just have released it
        if opened is not None:
            with contextlib.suppress(OSError):
                # Not an SSLSocket's own, which first stops encrypting what its holder sends.
                socket.socket.shutdown(opened, socket.SHUT_RDWR)

    # Who holds it

    def attach(
        self,
        client: str,
        breaker: CircuitBreaker | None,
        on_read_only: Callable[[], bool] | None = None,
    ) -> None:
        """Become a connection of a pool.

        :param client: the client's name, for messages.
        :param breaker: told of what succeeds and fails.
        :param on_read_only: see :meth:`report_read_only`.
        """
        self.report_read_only(on_read_only)
        self.client = client
        self.breaker = breaker
        self._identity = object()

    def moved(self) -> PooledConnection:
        """Move it into a fresh object; this one is dead from now on."""
        fresh: PooledConnection = object.__new__(type(self))
        state = self.__dict__
        fresh.__dict__ = state
        dead = {"pid": _RELEASED, "_identity": state["_identity"]}
        if "is_node" in state:  # redis-py asks an error's connection for its address
            dead["_host"], dead["port"], dead["db"] = state["_host"], state["port"], state["db"]
        self.__dict__ = dead
        return fresh

    def check_owner(self) -> None:
        """Make sure that it was taken by this process.

        :raises ForkedConnectionError: if it was taken before a fork.
        """
        if self.pid != os.getpid():
            raise self._not_ours()

    def _leave_to_parent(self) -> None:
        if self.pid == _RELEASED or self._watching or self._altered:
            raise self._not_ours()
        self.disconnect()  # which closes this process's copy only, without a word to the server
        self._adopt()

    def _adopt(self) -> None:
        """Be this process's from now on; the parent's socket is closed here."""
        self.pid = os.getpid()
        self.is_adopted = True

    def _not_ours(self) -> Exception:
        if self.pid == _RELEASED:
            return PoolReleaseError("this connection was used after it had been released")
        return ForkedConnectionError(
            f"{self.client}: this connection to {address_of(self)} was taken by process "
            f"{self.pid}, from which process {os.getpid()} was forked; take a new one (make the "
            "client, the pipeline or the subscriber anew)"
        )

    def _explain(self, error: BaseException) -> None:
        """Say which client and server an error is about, and whether the command was sent."""
        unsent = self._connecting_since is not None
        if add_context(error, self.client, self, unsent) and self.breaker is not None:
            self.breaker.failed(error)

    def __getattr__(self, name: str) -> Any:
        if name != "pid" and not name.startswith("__") and self.pid == _RELEASED:
            raise self._not_ours()
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PooledConnection) and _identity(self) is _identity(other)

    def __hash__(self) -> int:
        return id(_identity(self))

    def __repr__(self) -> str:
        if self.pid == _RELEASED:
            return f"<{type(self).__name__} (released)>"
        shown: str = super().__repr__()
        return shown

    def __del__(self) -> None:
        if self.__dict__.get("pid", _RELEASED) != _RELEASED:
            super().__del__()


def _identity(connection: PooledConnection) -> object:
    return connection.__dict__.get("_identity", connection)


def _text(command: Any) -> str:
    return (command if isinstance(command, str) else str(command, "ascii", "replace")).upper()


def _without_numbers(args: Sequence[Any]) -> Sequence[Any]:
    """The arguments with text in place of whole numbers.

    hiredis 3.5 crashes when a signal interrupts it while it packs an int.
    """
    return [repr(arg) if type(arg) in _NUMBERS else arg for arg in args]


_pooled_classes: dict[type, type] = {}


def pooled_class(connection_class: Any) -> Any:
    """A subclass of a connection class of redis-py's that accounts for replies."""
    if not isinstance(connection_class, type) or not issubclass(
        connection_class, AbstractConnection
    ):
        return connection_class  # any callable will do for redis-py
    if issubclass(connection_class, PooledConnection):
        return connection_class
    made = _pooled_classes.get(connection_class)
    if made is None:
        attributes = {"__module__": connection_class.__module__}
        made = type(connection_class.__name__, (PooledConnection, connection_class), attributes)
        _pooled_classes[connection_class] = made
    return made
