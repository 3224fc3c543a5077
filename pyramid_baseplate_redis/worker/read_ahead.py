"""Bounds the number of messages that a worker receives at once."""

from __future__ import annotations

_WEIGHT = 0.1  # of the newest message in the averages
_MOST_BYTES = 16 * 1024 * 1024
# Reading ahead saves round trips. With slow handlers they do not matter, and what one process has
# read another one cannot handle.
_MOST_SECONDS = 0.1


class ReadAhead:
    """Bounds what a worker holds without having begun it. The caller holds a lock.

    What is received has to be handled within 0.1 s, and within half of the lease, at the pace
    measured so far. Its bodies have to fit into memory.

    :param most: the most messages; 1 never reads ahead.
    :param lease: seconds.
    :param concurrency: number of threads.
    """

    def __init__(self, most: int, lease: float, concurrency: int) -> None:
        self._most = most
        self._lease = lease
        self._concurrency = concurrency
        self._seconds = 0.0  # averages of one message
        self._bytes = 0.0
        self._is_measured = False

    def handled(self, seconds: float, size: int) -> None:
        """Record how long a message was handled, and the size of its body."""
        weight = _WEIGHT if self._is_measured else 1.0
        self._seconds += (seconds - self._seconds) * weight
        self._bytes += (size - self._bytes) * weight
        self._is_measured = True

    def count(self) -> int:
        """Return how many messages to receive now."""
        if not self._is_measured:
            return min(self._most, self._concurrency)
        span = min(self._lease / 2, _MOST_SECONDS)
        in_time = span / max(self._seconds, 1e-6) * self._concurrency
        in_memory = _MOST_BYTES / max(self._bytes, 1.0)
        return max(1, min(self._most, int(in_time), int(in_memory)))
