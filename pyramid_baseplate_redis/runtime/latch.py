"""An event that is set once."""

from __future__ import annotations

import threading
from collections import deque


class Latch:
    """An event that is set once, and never reset.

    It is not a :class:`threading.Event`, which has a lock: a signal handler could wait for that
    lock while its own thread holds it.
    """

    def __init__(self) -> None:
        self.is_set = False
        self._waiters: deque[threading.Lock] = deque()

    def wait(self, seconds: float) -> bool:
        """Return whether it was set within ``seconds``."""
        signal = threading.Lock()
        signal.acquire()
        self._waiters.append(signal)
        if not self.is_set:  # else set() may not have seen this waiter
            signal.acquire(timeout=seconds)
        return self.is_set

    def set(self) -> None:
        """Let all callers go on that wait."""
        self.is_set = True
        while self._waiters:
            self._waiters.popleft().release()
