"""The slots of a connection pool: last in, first out for the idle, first come, first served.

Nothing here takes a lock, and nothing is counted that can be derived: a signal, a greenlet's end or
the garbage collector may interrupt any line, use the pool in between and raise. Each step is one
operation that CPython's containers do whole. What an interruption drops on the way dies, and a slot
is taken for no longer than it lives. A thread that waits looks after the others' slips, too.
"""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections import deque
from queue import Empty
from typing import Any

from ..telemetry.call_details import add_wait_time

POLL_SECONDS = 0.2  # how often one who waits looks whether an interruption lost something
TURN_SECONDS = 0.005  # for how long one may go on with the same connection while others wait


class PoolSlot:
    """One of a pool's places for a connection, taken for as long as this object lives.

    :param home: where the pool counts the slots that are taken.
    """

    __slots__ = (
        "__weakref__", "closes_at", "connection", "counted", "home", "taken_at", "taken_by",
        "turn_ends", "turn_of", "warned_at",
    )  # fmt: skip

    def __init__(self, home: Home) -> None:
        # Not the queue, which refers to the idle ones: they would outlive a pool that is dropped.
        self.home = home
        self.counted: weakref.ref[PoolSlot] | None = None
        self.connection: weakref.ref[Any] | None = None
        # Times of time.monotonic().
        self.closes_at = math.inf
        self.taken_at: float | None = None
        self.turn_ends = -math.inf
        self.warned_at: float | None = None
        self.taken_by: Any = None
        self.turn_of: int | None = None  # the thread or greenlet

    def vacate(self) -> None:
        """Don't count any longer, even while an exception's traceback refers to this object."""
        counted, self.counted = self.counted, None
        if counted is not None:
            self.home.pop(counted, None)  # without the reference there is no callback either

    @property
    def is_taken(self) -> bool:
        """Whether it still counts.

        It doesn't when a destructor brings it back that the garbage collector called: that has
        cleared the weak references before.
        """
        return self.counted is not None and self.counted() is self


Home = dict["weakref.ref[PoolSlot]", None]
# A slot that nobody uses, the connection in it, if there is one yet, and since when it is idle.
Entry = tuple[PoolSlot, Any, float]


class FairLifoQueue:
    """What the pool keeps its connections in, in place of redis-py's ``queue_class``.

    Idle connections are used last in, first out, so that spare ones age. Callers that have to wait
    are served in their order: a returned connection is for the first of them. With redis-py's own
    :class:`queue.LifoQueue` whoever happens to run takes it, and some wait until they time out.

    A turn lasts for 5 ms, not for one command: so long who returned a connection may have it back
    if he comes before the next one has woken up. A switch of threads for each command would cost a
    quarter of the throughput. Like Go's ``sync.Mutex``, whose waiters are passed by for 1 ms.

    :param maxsize: how many slots there are.
    """

    def __init__(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self.waits = 0
        self.timeouts = 0
        self._idle: deque[Entry] = deque()
        self._waiters: deque[_Waiter] = deque()
        # In the order in which they were taken. The dictionary's own method is the callback of the
        # weak references: it runs whole, wherever the last reference to a slot goes away.
        self.home: Home = {}

    @property
    def open(self) -> int:
        """How many slots are taken, by idle connections and by those in use."""
        return min(len(self.home), self.maxsize)

    @property
    def idle(self) -> int:
        """How many connections are idle."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """How many callers wait."""
        return len(self._waiters)

    @property
    def queue(self) -> list[Any]:
        """Like :attr:`queue.Queue.queue`: idle connections, ``None`` for slots never opened."""
        idle = [connection for _, connection, _ in tuple(self._idle)]
        return [None] * (self.maxsize - self.open) + idle

    def qsize(self) -> int:
        """How many callers could have a connection now: idle ones, and slots never opened."""
        return self.idle + self.maxsize - self.open

    def slots(self) -> list[PoolSlot]:
        """All slots that are taken."""
        return [slot for ref in tuple(self.home) if (slot := ref()) is not None]

    def put(self, place: Entry, taken_at: float = -math.inf) -> None:
        """Hand a place to the first who waits, if the caller's turn is over, or keep it.

        :param taken_at: when the caller took it, by :func:`time.monotonic`. His turn began then.
        """
        slot = place[0]
        if not self._waiters:
            if slot.is_taken:
                self._idle.append(place)
            if self._waiters:
                self.serve()
            return
        goes_on = self._goes_on(slot, taken_at)
        if slot.is_taken:
            self._idle.append(place)
        if goes_on:
            self._wake()
        else:
            self.serve()

    def serve(self) -> None:
        """Give what there is to those who wait; needed whenever a slot has become free."""
        while self._waiters:
            place = self._take()
            if place is None:
                return
            try:
                waiter = self._waiters.popleft()
            except IndexError:
                self._put_back(place)
                continue
            waiter.give(place)

    def get(self, timeout: float | None = None) -> Entry:
        """Take the place that was put last, or one never opened, waiting in turn if need be.

        :param timeout: seconds to wait; ``None`` waits for ever.
        :raises queue.Empty: if there was none in that time.
        """
        place = self._take_mine() if self._waiters else self._take()
        if place is not None:
            return place
        waiter = _Waiter()
        started = time.monotonic()
        self.waits += 1
        try:
            self._waiters.append(waiter)
            self.serve()
            self._wait(waiter, None if timeout is None else started + timeout)
        except BaseException:
            # A signal, or a greenlet's end: what was handed over meanwhile goes to the next one.
            self._leave(waiter)
            for place in waiter.given:
                self.put(place)
            self.serve()  # it may have been woken up for one
            raise
        finally:
            add_wait_time(time.monotonic() - started)
        self._leave(waiter)
        if self._idle:
            self._wake()
        if not waiter.given:
            self.timeouts += 1
            raise Empty
        mine, *others = waiter.given
        for place in others:
            self.put(place)
        return mine

    def take_idle(self, since: float) -> Entry | None:
        """Take the connection that is idle for longest, if it is so since before ``since``."""
        try:
            if self._idle[0][2] >= since:
                return None
            place = self._idle.popleft()
        except IndexError:
            return None
        if place[2] >= since:  # somebody took the first one in between
            self._idle.appendleft(place)
            self.serve()
            return None
        return place

    def take_all_idle(self) -> list[Entry]:
        """Take every connection that is idle."""
        places = []
        while True:
            try:
                places.append(self._idle.pop())
            except IndexError:
                return places

    def _take(self) -> Entry | None:
        try:
            return self._idle.pop()
        except IndexError:
            pass
        if len(self.home) >= self.maxsize:
            return None
        slot = PoolSlot(self.home)
        mine = weakref.ref(slot, self.home.pop)
        self.home[mine] = None
        slot.counted = mine
        if len(self.home) > self.maxsize and mine not in [*self.home][: self.maxsize]:
            return None  # others were faster, and this slot is gone when this function returns
        return slot, None, 0.0

    def _goes_on(self, slot: PoolSlot, taken_at: float) -> bool:
        """Whether it is still the caller's turn to use a connection that he returns."""
        me = threading.get_ident()
        if slot.turn_of != me:
            slot.turn_of, slot.turn_ends = me, taken_at + TURN_SECONDS
        if time.monotonic() < slot.turn_ends:
            return True
        slot.turn_of = None
        return False

    def _take_mine(self) -> Entry | None:
        """Take what the caller has just returned, if nobody has it yet."""
        me = threading.get_ident()
        try:
            if self._idle[-1][0].turn_of != me:
                return None
            place = self._idle.pop()
        except IndexError:
            return None
        if place[0].turn_of == me:
            return place
        self._idle.append(place)  # another's, who has come in between; get() serves next
        return None

    def _wake(self) -> None:
        """Let the first who waits take what is there when he runs."""
        try:  # noqa: SIM105  # contextlib's takes longer, and this is done for each command
            self._waiters[0].wake()
        except IndexError:
            pass

    def _put_back(self, place: Entry) -> None:
        if place[1] is not None:
            self._idle.append(place)

    def _wait(self, waiter: _Waiter, deadline: float | None) -> None:
        absent = 0
        while not waiter.given:
            seconds = POLL_SECONDS
            if deadline is not None:
                seconds = min(seconds, deadline - time.monotonic())
                if seconds <= 0:
                    return
            if waiter.wait(seconds):
                if not waiter.given and (place := self._take()) is not None:
                    waiter.given.append(place)
                continue
            # An interruption may have lost a slot, or this waiter after it was chosen.
            absent = 0 if self._waits(waiter) else absent + 1
            if absent > 1 and not waiter.given:
                self._waiters.appendleft(waiter)
            self.serve()

    def _waits(self, waiter: _Waiter) -> bool:
        try:
            return waiter in self._waiters
        except RuntimeError:  # changed meanwhile
            return True

    def _leave(self, waiter: _Waiter) -> None:
        try:
            self._waiters.remove(waiter)
        except ValueError:
            if not waiter.given:
                waiter.wait(POLL_SECONDS)  # somebody has just chosen it


class _Waiter:
    """Somebody who waits for a place."""

    def __init__(self) -> None:
        self.given: list[Entry] = []
        # Not an Event: its set() would wait for a lock that its wait() holds in the same thread.
        self._signal = threading.Lock()
        self._signal.acquire()

    def wait(self, seconds: float) -> bool:
        """Whether something was given within that time, or is there to be taken."""
        return self._signal.acquire(timeout=seconds)

    def give(self, place: Entry) -> None:
        self.given.append(place)
        self.wake()

    def wake(self) -> None:
        try:  # noqa: SIM105  # as above
            self._signal.release()
        except RuntimeError:
            pass  # it was woken before and hasn't run since
