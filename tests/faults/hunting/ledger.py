"""Counters that many workers increment, and what each of them must be in the end.

Each successful EXEC increments its counter exactly once. If the reply to EXEC is lost, it may
have done so or not. A failover may lose what was acknowledged shortly before, and a restart of a
server without replicas loses everything. Therefore a counter lives for two seconds only, is then
read, and has to be complete if nothing of this kind happened meanwhile. It must never be too high.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import redis

from .tags import TAGS

SECONDS = 2.0
COUNTERS = 3  # at a time
_READ_AFTER = 0.5  # seconds after the end of its time
_GIVE_UP_AFTER = 5.0


@dataclass
class Attempt:
    """One worker's attempt to increment a counter."""

    begun_at: int
    acknowledged_at: int | None = None
    value: int = 0
    was_refused: bool = False
    """True if the server certainly did not execute it."""

    def acknowledge(self, value: int) -> None:
        self.value = value
        self.acknowledged_at = time.monotonic_ns()


@dataclass
class Counter:
    """A counter's history."""

    key: str
    ends_at: float
    made_at: int = field(default_factory=time.monotonic_ns)
    attempts: list[Attempt] = field(default_factory=list)
    read_from: int = 0
    read_at: int = 0
    value: int = 0

    def attempt(self) -> Attempt:
        attempt = Attempt(time.monotonic_ns())
        self.attempts.append(attempt)
        return attempt

    def problems(self, losses: Sequence[tuple[int, int]]) -> list[str]:
        """Return what cannot be explained.

        :param losses: the times in which acknowledged writes may have been lost.
        """
        # An attempt of a busy worker may come after the counter was read, and after a loss then.
        values = [
            attempt.value
            for attempt in self.attempts
            if attempt.acknowledged_at is not None and attempt.acknowledged_at < self.read_at
        ]
        sure = [
            attempt
            for attempt in self.attempts
            if attempt.acknowledged_at is not None and attempt.acknowledged_at < self.read_from
        ]
        possible = [a for a in self.attempts if not a.was_refused and a.begun_at < self.read_at]
        found = []
        if self.value > len(possible):
            found.append(f"{self.key} is {self.value} after {len(possible)} attempts at most")
        if self.is_exact(losses):
            if self.value < len(sure):
                found.append(f"{self.key} is {self.value}; {len(sure)} were acknowledged")
            if len(set(values)) != len(values):
                twice = sorted({value for value in values if values.count(value) > 1})
                found.append(f"{self.key}: several got the same values {twice[:5]}")
        return found

    def is_exact(self, losses: Sequence[tuple[int, int]]) -> bool:
        """Return whether nothing was lost from the counter's first attempt until it was read."""
        return not any(start < self.read_at and self.made_at < end for start, end in losses)


class Ledger:
    """All counters of a hunt.

    :param read: returns a key's value, from the primary that has it.
    """

    def __init__(self, name: str, read: Callable[[str], bytes | None]) -> None:
        self._name = name
        self._read = read
        self._counters: dict[str, Counter] = {}
        self._unread: list[Counter] = []
        self.read: list[Counter] = []
        self.unread = 0

    def choose(self, chance: random.Random) -> Counter:
        """Return a counter that is incremented now."""
        turn = int(time.monotonic() / SECONDS)
        tag = chance.choice(TAGS[:COUNTERS])
        key = f"{tag}-count-{self._name}-{turn}"
        known = self._counters.get(key)
        if known is None:
            made = Counter(key, (turn + 1) * SECONDS)
            known = self._counters.setdefault(key, made)
            if known is made:
                self._unread.append(made)
        return known

    def read_ended(self) -> None:
        """Read the counters whose time is over."""
        now = time.monotonic()
        for counter in [*self._unread]:
            if now < counter.ends_at + _READ_AFTER:
                continue
            counter.read_from = time.monotonic_ns()
            try:
                counter.value = int(self._read(counter.key) or 0)
            except redis.RedisError:
                if now > counter.ends_at + _GIVE_UP_AFTER:
                    self._unread.remove(counter)
                    self.unread += 1
                continue
            counter.read_at = time.monotonic_ns()
            self._unread.remove(counter)
            self.read.append(counter)
