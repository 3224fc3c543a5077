"""Close the connections to a server that has become a replica, after a failover behind DNS.

The host name leads to the new primary, but open connections stay with the old one for up to
``max_lifetime``. A refused write is the only sign of this. With Sentinel,
:mod:`.pool.sentinel.pool` is notified and acts at once.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Callable
from typing import Any

_SECONDS_BETWEEN_RENEWALS = 1.0
_REFUSAL = "READONLY You can't write against a read only"


def says_read_only(reply: str) -> bool:
    """Return whether an error reply says that the server is a replica.

    The error of EXEC quotes the refusal if the server was demoted after MULTI. The error of a
    script does so on Redis 6.

    :param reply: the reply as sent, with the error code in front.
    """
    return reply.startswith("READONLY ") or _REFUSAL in reply


class RefusalDetector:
    """Notices a replica's refusals of writes among the error replies that a parser reads.

    It takes the place of the parser's ``parse_error()``, through which all error replies pass, also
    those inside the reply to EXEC, and no other replies do. An application's parser that has no
    such method, unlike redis-py's, is left alone.

    :param parser: the parser of a connection.
    """

    def __init__(self, parser: Any) -> None:
        #: Called after a refusal. If it returns ``True``, the connection must be closed.
        self.report: Callable[[], bool] | None = None
        self.must_close = False
        with contextlib.suppress(AttributeError):
            self._parse_error = parser.parse_error  # a class method: it doesn't refer to the parser
            parser.parse_error = self

    def __call__(self, response: str) -> Exception:
        """Make the exception for an error reply; the parser calls this."""
        if self.report is not None and says_read_only(response) and self.report():
            self.must_close = True
        error: Exception = self._parse_error(response)
        return error


class PoolRenewal:
    """Renew a pool's connections when the server refuses a write because it is a replica.

    Idle connections are closed at once and the others when they are released: callers that read
    from the replica may go on. The next connection looks up the host name again.

    This happens at most once a second. Otherwise a pool that is connected to a replica on purpose,
    or whose host name still leads to the old server, would reconnect after each refused write.

    :param pool: the pool; a weak reference to it is kept.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = weakref.ref(pool)
        self._next_at = 0.0

    def __call__(self) -> bool:
        """Renew the connections unless that was done just now; return whether it was done."""
        pool, now = self._pool(), time.monotonic()
        if pool is None or now < self._next_at:
            return False
        self._next_at = now + _SECONDS_BETWEEN_RENEWALS
        # Mark those in use first: another thread may release one while the idle ones are closed.
        for slot in pool.pool.slots():
            slot.expire()
        pool.disconnect(inuse_connections=False)
        return True
