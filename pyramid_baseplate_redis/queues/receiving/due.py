"""Finds the messages whose lease has expired, and searches no more often than necessary."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection

from ..queue_spec import QueueSpec
from ..stream_commands import StreamCommands

_PAGE = 100
# If more leases than a page are in their second half, the next one to expire is not known.
_CROWDED_SECONDS = 1.0

#: An entry's identifier and how often it was delivered.
Expired = tuple[bytes, int]


class ExpiredLeases:
    """Searches the group's pending entries for expired leases.

    The server scans all pending entries for a search. Therefore it is asked for the leases in their
    second half, which say when the next one can expire. Until then no search is needed: a lease
    that is younger, or begins later, expires later.
    """

    def __init__(self, spec: QueueSpec, commands: StreamCommands) -> None:
        self._spec = spec
        self._commands = commands
        self._half = spec.lease / 2
        self._found: deque[Expired] = deque()
        self._found_until = 0.0
        self.search_at = 0.0  #: when to search again, by :func:`time.monotonic`

    def is_due(self) -> bool:
        """Return whether a search may find something."""
        now = time.monotonic()
        return now >= self.search_at or (bool(self._found) and now < self._found_until)

    def next(self, held: Collection[bytes]) -> Expired | None:
        """Return an entry that had expired when the server was asked; ``None`` if there is none.

        Another consumer may have claimed it since. Claim it with the lease as minimum idle time.

        :param held: identifiers of entries that this process has. They are left out.
        :raises redis.RedisError: the server failed.
        """
        now = time.monotonic()
        if now >= self._found_until:
            self._found.clear()
        found = self._first(held)
        if found is None and now >= self.search_at:
            self._search(now)
            found = self._first(held)
            if found is None and self.search_at <= now:  # this process has all of a page
                self.search_at = now + min(_CROWDED_SECONDS, self._half)
        return found

    def _first(self, held: Collection[bytes]) -> Expired | None:
        while self._found:
            try:
                found = self._found.popleft()
            except IndexError:  # another thread was faster
                break
            if found[0] not in held:
                return found
        return None

    def _search(self, now: float) -> None:
        half = self._spec.lease_ms // 2
        self.search_at = now + self._half  # other threads need not search as well
        try:
            rows = self._pending(half)
            if len(rows) >= _PAGE:
                soonest = _CROWDED_SECONDS
                # Leases that have not expired may hide those that have.
                expired = self._pending(self._spec.lease_ms)
                if len(expired) >= _PAGE:
                    soonest = 0.0
            else:
                expired = [row for row in rows if row[2] >= self._spec.lease_ms]
                alive = [row[2] for row in rows if row[2] < self._spec.lease_ms]
                soonest = (self._spec.lease_ms - max(alive, default=half)) / 1000
        except BaseException:
            self.search_at = 0.0
            raise
        self.search_at = now + min(soonest, self._half)
        # A message that another consumer claims meanwhile is idle for less than this.
        self._found_until = now + self._half
        self._found.extend((row[0], row[3]) for row in expired)

    def _pending(self, idle: int) -> list[tuple[bytes, bytes, int, int]]:
        spec = self._spec
        command = ("XPENDING", spec.key, spec.group, "IDLE", idle, "-", "+", _PAGE)
        rows = self._commands.poll(command, _is_never_recorded)
        return [(row[0], row[1], int(row[2]), int(row[3])) for row in rows]


_is_never_recorded: Callable[[object], bool] = lambda reply: False  # noqa: E731
