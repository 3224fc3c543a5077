"""Look up host names within a time limit, which ``socket.getaddrinfo()`` does not have.

A look-up runs in a thread of its own, or in a greenlet under gevent, and its callers stop waiting
when their time is up. The thread goes on for as long as the operating system lets it. There is one
look-up at a time for each host name, which all its callers share. Hence a resolver that hangs
costs one thread for each host name.
"""

from __future__ import annotations

import copy
import ipaddress
import math
import socket
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from ...runtime.background import start_thread
from ...runtime.latch import Latch
from ...runtime.process_local import ProcessLocal

# How long the result of a look-up is used if its callers could not wait for it. Without it, a
# look-up that takes a little longer than their timeout would never succeed.
LATE_SECONDS = 5.0

_Query = tuple[str, int, int, int]


class _LookUp:
    """One call of ``socket.getaddrinfo()``."""

    def __init__(self, query: _Query) -> None:
        self.query = query
        self.result: list[Any] = []
        self.error: Exception | None = None
        self.ended = Latch()
        self.is_awaited = True  # False if a caller could not wait for it
        self.expires_at = math.inf
        self._turns = deque((None,))  # the thread that takes it makes the call

    def start(self) -> None:
        """Start the thread, unless it has begun.

        Each caller does so: the one that came first may have been interrupted before. If the system
        has no thread left, the look-up runs here.
        """
        if self._turns and not start_thread(self._steps()):
            for _ in self._steps():
                pass

    def _steps(self) -> Iterator[float]:
        try:
            self._turns.pop()
        except IndexError:
            return  # another thread makes the call
        # If this is interrupted, as by the end of a greenlet.
        self.error = socket.gaierror(socket.EAI_AGAIN, "The look-up was interrupted")
        try:
            self.result = socket.getaddrinfo(*self.query)
            self.error = None
        except Exception as error:
            self.error = error.with_traceback(None)
        finally:
            self.expires_at = time.monotonic() + LATE_SECONDS
            self.ended.set()
            if self.is_awaited or self.error is not None:
                self.forget()
        yield from ()

    def forget(self) -> None:
        """Have the next caller look up anew."""
        own = _look_ups.own()
        if own.get(self.query) is self:
            own.pop(self.query, None)


_look_ups: ProcessLocal[dict[_Query, _LookUp]] = ProcessLocal(dict)


def is_name(host: str) -> bool:
    """Return whether a host is a name that a name server may have to be asked for."""
    if host == "localhost":
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


def look_up(host: str, port: int, family: int, seconds: float) -> list[Any]:
    """Return what ``socket.getaddrinfo()`` returns for TCP.

    :param family: ``socket.AF_INET``, for example, or 0 for all.
    :param seconds: how long to wait.
    :raises TimeoutError: the look-up takes longer. It goes on, and a caller that comes up to five
        seconds after its end gets its result.
    :raises OSError: the host name is unknown, or the name servers did not answer.
    """
    own, query = _look_ups.own(), (host, port, family, socket.SOCK_STREAM)
    found = own.setdefault(query, _LookUp(query))
    if found.expires_at < time.monotonic():
        found.forget()
        found = own.setdefault(query, _LookUp(query))
    found.start()
    if not found.ended.wait(seconds):
        found.is_awaited = False
        raise TimeoutError("timed out")
    if found.error is not None:
        raise copy.copy(found.error)  # each caller extends the traceback of its own
    return found.result
