"""Close the connections to a server that has become a replica, after a failover behind DNS.

The host name leads to the new primary, but open connections stay with the old one for up to
``max_lifetime``. A refused write is the only sign of this. With Sentinel,
:mod:`.pool.sentinel.pool` is notified and acts at once.
"""

from __future__ import annotations

import time
import weakref
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
