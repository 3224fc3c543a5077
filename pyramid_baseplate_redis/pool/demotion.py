"""Leave a server that has become a replica: after a failover its host name leads to another one.

A connection stays with the server that it was made to, for up to ``max_lifetime``. A refused write
is the only sign there is. Behind Sentinel, :mod:`.pool.sentinel.pool` knows more and acts at once.
"""

from __future__ import annotations

import math
import time
import weakref
from typing import Any

_SECONDS_BETWEEN_RENEWALS = 1.0
_REFUSAL = "READONLY You can't write against a read only"


def says_read_only(reply: str) -> bool:
    """Return whether an error reply says that the server is a replica.

    The error of EXEC quotes the refusal if the server was demoted after MULTI; so does the error of
    a script on Redis 6.

    :param reply: as the server has sent it, with the error code in front.
    """
    return reply.startswith("READONLY ") or _REFUSAL in reply


class PoolRenewal:
    """Renew a pool's connections when the server refuses a write because it is a replica.

    Idle connections are closed now and the others when they are released: what reads from the
    replica may go on. The next command looks up the host name again.

    This happens at most once a second. Otherwise a pool that is connected to a replica on purpose,
    or whose host name still leads to the old server, would connect anew for each refused write.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = weakref.ref(pool)
        self._next_at = 0.0

    def __call__(self) -> bool:
        """Renew the connections; return whether that was done."""
        pool, now = self._pool(), time.monotonic()
        if pool is None or now < self._next_at:
            return False
        self._next_at = now + _SECONDS_BETWEEN_RENEWALS
        # First mark those in use: another thread may release one while the idle ones are closed.
        for slot in pool.pool.slots():
            slot.closes_at = -math.inf
        pool.disconnect(inuse_connections=False)
        return True
