"""The slots of a connection pool: last in, first out for the idle, first come, first served."""

from __future__ import annotations

import threading
import time
from collections import deque
from queue import Empty, Full
from typing import Any

from .waiting import add_wait_time

_NOTHING = object()


class FairLifoQueue:
    """What redis-py's blocking pool keeps its connections in, as its ``queue_class``.

    Idle connections are used last in, first out, so that spare ones stay idle. Callers that have
    to wait are served in their order: a returned connection is handed to the first of them. With
    redis-py's own :class:`queue.LifoQueue` whoever happens to run takes it, and some wait until
    they time out.

    :param maxsize: the most items that it holds.
    """

    def __init__(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self.queue: list[Any] = []  # redis-py looks into it
        self._waiters: deque[_Waiter] = deque()
        self._mutex = threading.Lock()

    def qsize(self) -> int:
        """How many items are there: idle connections, and slots that were never opened."""
        return len(self.queue)

    def put_nowait(self, item: Any) -> None:
        """Hand an item to the first who waits, or keep it.

        :raises queue.Full: if there is no room.
        """
        with self._mutex:
            if self._waiters:
                self._waiters.popleft().give(item)
            elif len(self.queue) < self.maxsize:
                self.queue.append(item)
            else:
                raise Full

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the item that was put last, waiting for one in turn.

        :param timeout: seconds to wait; ``None`` waits for ever.
        :raises queue.Empty: if there was none in that time.
        """
        with self._mutex:
            if self.queue:
                return self.queue.pop()
            if not block:
                raise Empty
            waiter = _Waiter()
            self._waiters.append(waiter)
        started = time.monotonic()
        try:
            waiter.given.wait(timeout)
        except BaseException:
            # A signal, or a greenlet's end: what was handed over meanwhile goes to the next one.
            item = self._give_up(waiter)
            if item is not _NOTHING:
                self.put_nowait(item)
            raise
        finally:
            add_wait_time(time.monotonic() - started)
        item = self._give_up(waiter)
        if item is _NOTHING:
            raise Empty
        return item

    def _give_up(self, waiter: _Waiter) -> Any:
        with self._mutex:
            if waiter.item is _NOTHING:
                self._waiters.remove(waiter)
            return waiter.item


class _Waiter:
    """Somebody who waits for an item."""

    def __init__(self) -> None:
        self.given = threading.Event()
        self.item: Any = _NOTHING

    def give(self, item: Any) -> None:
        self.item = item
        self.given.set()
