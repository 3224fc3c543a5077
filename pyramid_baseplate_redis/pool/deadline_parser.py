"""A parser of replies that bounds the time for a whole reply, and reports refused writes.

redis-py waits for ``socket_timeout`` again whenever a piece arrives: a server or a proxy that sends
a byte now and then holds a request for as long as it likes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import redis
from redis.connection import DefaultParser
from redis.utils import SENTINEL

from .demotion import says_read_only


class DeadlineParser(DefaultParser):  # type: ignore[misc, valid-type]  # it depends on hiredis
    """redis-py's parser, with a deadline."""

    # When everything has to be there, of time.monotonic(); ``None`` until the first piece of a
    # reply is waited for, whoever starts to read a reply resets it.
    deadline: float | None = None
    # For several replies together, as those of a handshake.
    last_deadline: float | None = None

    # Called when the server refuses a write because it is a replica; returns whether the connection
    # is to be closed.
    on_read_only: Callable[[], bool] | None = None
    is_left = False  # whether that was the answer

    def on_connect(self, connection: Any, **kwargs: Any) -> None:
        """Begin with a new socket; called by redis-py."""
        super().on_connect(connection, **kwargs)
        self.is_left = False

    def parse_error(self, response: str) -> Exception:
        """Make the exception for an error reply, those inside the reply to EXEC among them.

        This is the only place that sees all of them, and only errors come here.
        """
        if self.on_read_only is not None and says_read_only(response) and self.on_read_only():
            self.is_left = True
        error: Exception = super().parse_error(response)
        return error

    def read_from_socket(self, timeout: Any = SENTINEL, raise_on_timeout: bool = True) -> Any:
        """Wait for a piece of a reply.

        :raises redis.TimeoutError: if it doesn't come in time.
        """
        if self.deadline is None and self.last_deadline is None:
            seconds = self._socket_timeout if timeout is SENTINEL else timeout
            if seconds:
                self.deadline = time.monotonic() + seconds
            return super().read_from_socket(timeout, raise_on_timeout)
        deadlines = [end for end in (self.deadline, self.last_deadline) if end is not None]
        left = min(deadlines) - time.monotonic()
        if left <= 0:
            raise redis.TimeoutError("Timeout reading from socket")
        return super().read_from_socket(left, raise_on_timeout)

    def handle_pubsub_push_response(self, response: Any) -> Any:
        """As redis-py's, but without asking for a logger at each message.

        That takes a lock which all of logging shares, and an interruption on the way leaves it
        locked: every thread that logs, forks or gets a message would wait for ever.
        """
        return response
