"""Slows a worker down while its handler fails."""

from __future__ import annotations

import logging
import time
from typing import Any

from redis.backoff import ExponentialWithJitterBackoff

logger = logging.getLogger(__package__)

#: After this many failures in a row, messages are handled one at a time.
MOST_FAILURES = 10
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0


class FailureStreak:
    """Counts failures in a row, and decides about pauses. The caller holds a lock.

    :param name: the queue's name, for the log.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._backoff: Any = ExponentialWithJitterBackoff(base=_FIRST_PAUSE, cap=_LONGEST_PAUSE)
        self._failures = 0
        self._resumes_at = 0.0

    @property
    def is_long(self) -> bool:
        """Return whether messages are handled one at a time."""
        return self._failures >= MOST_FAILURES

    def pause(self) -> float:
        """Return the seconds until the next message may be received; 0 is at once."""
        return max(0.0, self._resumes_at - time.monotonic()) if self.is_long else 0.0

    def failed(self) -> None:
        """Record that a handler has failed."""
        self._failures += 1
        if self._failures == MOST_FAILURES:
            logger.error(
                "%s: %d messages have failed in a row; handling one at a time, with pauses",
                self._name, self._failures,
            )  # fmt: skip
        if self.is_long:
            # Full jitter may come out as no pause at all.
            pause = self._backoff.compute(self._failures - MOST_FAILURES + 1)
            self._resumes_at = time.monotonic() + max(_FIRST_PAUSE / 2, pause)

    def succeeded(self) -> None:
        """Record that a handler has succeeded."""
        if self.is_long:
            logger.warning("%s: a message was processed; handling them as before", self._name)
        self._failures = 0
