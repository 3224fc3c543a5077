"""Limits for gevent's TLS sockets, whose timeout starts again with each byte that arrives.

Python's own TLS sockets bound a handshake and a read as a whole.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any


def is_gevents(sock: Any) -> bool:
    """Return whether a socket is one of gevent's, with or without TLS."""
    return type(sock).__module__.partition(".")[0] == "gevent"


def restarts_timeout(sock: Any) -> bool:
    """Return whether each byte that arrives restarts a socket's timeout."""
    return is_gevents(sock) and hasattr(sock, "do_handshake")


def in_total(sock: Any, seconds: float | None) -> AbstractContextManager[Any]:
    """Return a context manager that raises :exc:`TimeoutError` after ``seconds``.

    :param sock: the socket for which the block waits. If it is not one of gevent's, nothing is
        raised.
    :param seconds: ``None`` for no limit.
    """
    if seconds is None or not is_gevents(sock):
        return nullcontext()
    gevent: Any = sys.modules["gevent"]
    timeout: AbstractContextManager[Any] = gevent.Timeout(seconds, TimeoutError("timed out"))
    return timeout
