"""The timeouts of a connection: for its host name, connecting, the handshake and sending.

redis-py's timeouts start again with each address, each reply and each piece that is sent. Here they
bound the whole, and the deadline of the current call shortens them.
"""

from __future__ import annotations

import time
from typing import Any

import redis
from redis.connection import AbstractConnection

from ...runtime.deadline import LEAST_SECONDS, SENDING, Deadline, shortened
from ...runtime.gevent_timeouts import in_total
from ..deadline_parser import DeadlineParser
from .name_lookup import is_name, look_up

# What redis-py's classes for TCP do. An application's class may connect in another way.
_CONNECTS = (redis.Connection._connect, redis.SSLConnection._connect)


class TimedConnection(AbstractConnection):
    """A mixin for connection classes whose timeouts obey the deadline of the current call."""

    _sock: Any
    _parser: Any
    _connecting_since: float | None = None  # a time of time.monotonic(), while it connects

    @property
    def socket_connect_timeout(self) -> float | None:
        """Return the seconds left for connecting, shared by all addresses of a host name."""
        seconds: float | None = super().socket_connect_timeout
        if self._connecting_since is None:
            return seconds
        if seconds is not None:
            seconds = max(LEAST_SECONDS, self._connecting_since + seconds - time.monotonic())
        return shortened(seconds)

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, value: float | None) -> None:
        self._socket_connect_timeout = value

    @property
    def socket_timeout(self) -> float | None:
        """Return the seconds for a reply; while it connects, at most those of the call."""
        seconds: float | None = super().socket_timeout
        return seconds if self._connecting_since is None else shortened(seconds)

    @socket_timeout.setter
    def socket_timeout(self, value: float | None) -> None:
        self._socket_timeout = value

    def on_connect_check_health(self, check_health: bool = True) -> None:
        """Log in; ``socket_timeout`` bounds all replies of the handshake together."""
        parser, seconds = self._parser, self.socket_timeout
        parser.last_deadline = time.monotonic() + seconds if seconds else None
        super().on_connect_check_health(check_health)
        parser.last_deadline = None

    def _connect(self) -> Any:
        """Connect; ``socket_connect_timeout`` bounds the look-up of the host name, too."""
        plain: Any = super()
        seconds = self.socket_connect_timeout
        if (
            seconds is None
            or not isinstance(self, redis.Connection)
            or getattr(plain._connect, "__func__", None) not in _CONNECTS
            or not is_name(self.host)
        ):
            return plain._connect()
        opened = self._connect_to_first(look_up(self.host, self.port, self.socket_type, seconds))
        if not isinstance(self, redis.SSLConnection):
            return opened
        try:
            return self._wrap_socket_with_ssl(opened)
        except (OSError, redis.RedisError):
            opened.close()
            raise

    def _connect_to_first(self, found: list[Any]) -> Any:
        """Connect to the first address of a host name that accepts."""
        failure = OSError("The host name has no address")
        for *_, address in found:
            try:
                at_address: Any = _AtAddress(self, *address[:2])
                return redis.Connection._connect(at_address)
            except OSError as error:
                failure = error
        raise failure

    def _wrap_socket_with_ssl(self, sock: Any) -> Any:
        """Make the TLS handshake; its time is bounded under gevent, too."""
        plain: Any = super()
        with in_total(sock, sock.gettimeout()):
            return plain._wrap_socket_with_ssl(sock)

    def _restore_timeout(self) -> None:
        """Undo what the deadline of the call that connected has changed."""
        self._sock.settimeout(self.socket_timeout)
        if isinstance(self._parser, DeadlineParser):
            self._parser.set_socket_timeout(self.socket_timeout)

    def _send_before_deadline(self, deadline: Deadline, command: Any) -> None:
        """Send packed commands as redis-py does, one piece after the other.

        :raises redis.TimeoutError: the deadline has passed before the last piece.
        """
        for piece in [command] if isinstance(command, (bytes, str)) else command:
            if deadline.has_passed:
                self.disconnect()
                raise redis.TimeoutError("Timeout writing to socket")
            deadline.enter(SENDING)
            self._sock.settimeout(deadline.shorten(self.socket_timeout))
            super().send_packed_command([piece], False)
        self._sock.settimeout(self.socket_timeout)


class _AtAddress:
    """A connection for redis-py's ``_connect()``, with an address in place of its host name.

    The connection keeps the name, which TLS verifies and errors show.
    """

    def __init__(self, connection: Any, host: str, port: int) -> None:
        self._connection = connection
        self.host = host
        self.port = port

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)
