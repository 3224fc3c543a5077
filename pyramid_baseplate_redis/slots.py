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

        A destructor may call this at any point of :meth:`get` in the same thread (a pipeline in a
        reference cycle gives its connection back), so it never waits for the mutex: whoever holds
        that serves afterwards.

        :raises queue.Full: if there is no room.
        """
        if len(self.queue) >= self.maxsize:
            raise Full
        self.queue.append(item)
        self._serve()

    def _serve(self) -> None:
        while self._waiters and self.queue and self._mutex.acquire(blocking=False):
            try:
                if self._waiters and self.queue:
                    self._waiters.popleft().give(self.queue.pop())
            finally:
                self._mutex.release()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the item that was put last, waiting for one in turn.

        :param timeout: seconds to wait; ``None`` waits for ever.
        :raises queue.Empty: if there was none in that time.
        """
        if not self._waiters:
            try:
                return self.queue.pop()
            except IndexError:
                pass
        if not block:
            raise Empty
        waiter = _Waiter()
        started = time.monotonic()
        try:
            with self._mutex:
                self._waiters.append(waiter)
            self._serve()
            waiter.wait(timeout)
            item = self._give_up(waiter)
        except BaseException:
            # A signal, or a greenlet's end: what was handed over meanwhile goes to the next one.
            item = self._give_up(waiter)
            if item is not _NOTHING:
                self.put_nowait(item)
            raise
        finally:
            add_wait_time(time.monotonic() - started)
        if item is _NOTHING:
            raise Empty
        return item

    def _give_up(self, waiter: _Waiter) -> Any:
        with self._mutex:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        self._serve()
        return waiter.item


class _Waiter:
    """Somebody who waits for an item."""

    def __init__(self) -> None:
        # Not an Event: its set() would wait for a lock that its wait() holds in the same thread.
        self._given = threading.Lock()
        self._given.acquire()
        self.item: Any = _NOTHING

    def wait(self, timeout: float | None) -> None:
        self._given.acquire(timeout=-1 if timeout is None else timeout)

    def give(self, item: Any) -> None:
        self.item = item
        self._given.release()
