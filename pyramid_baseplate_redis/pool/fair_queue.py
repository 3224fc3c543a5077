"""The queue of a connection pool: last in, first out; waiting callers are served in order.

There are no locks, and no counters for what can be derived: a signal handler, a greenlet kill or a
finalizer may interrupt any line, re-enter the pool and raise. Each step is one operation that
CPython performs atomically. Copies are lists: while tuple() iterates, Python 3.11 may collect
garbage, whose finalizers change what it copies. If an interruption loses a slot, the slot is freed
when it is garbage-collected; if it loses a hand-over, a waiter finds out by polling.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from queue import Empty
from typing import Any

from ..telemetry.call_details import add_wait_time
from .connections.slot import PoolSlot, TakenSlots

POLL_SECONDS = 0.2  # how often a waiter checks for lost hand-overs
TURN_SECONDS = 0.005  # how long a thread may retake its connection while others wait

_slot_of: Callable[[weakref.ref[PoolSlot]], PoolSlot | None] = weakref.ref.__call__
# A slot, its connection (``None`` if none was made yet), and the time at which it became idle.
Entry = tuple[PoolSlot, Any, float]


class FairLifoQueue:
    """The queue in which the pool keeps its connections, for redis-py's ``queue_class``.

    Idle connections are used last in, first out, so that spare ones age and can be closed. Waiting
    callers are served in order: a returned connection is for the first of them. In redis-py's
    default, :class:`queue.LifoQueue`, any running thread may take it, and some callers wait until
    they time out.

    For 5 ms the thread that returned a connection may take it again if it asks before the next
    waiter wakes up. Switching threads after each command would cost a quarter of the throughput.
    Go's ``sync.Mutex`` lets its waiters be overtaken for 1 ms in the same way.

    :param maxsize: the number of slots.
    """

    def __init__(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self.waits = 0
        self.timeouts = 0
        self._idle: deque[Entry] = deque()
        self._waiters: deque[_Waiter] = deque()
        # The taken slots, in the order in which they were taken. The callback of the weak
        # references is the dictionary's own method: it is atomic, wherever a slot dies.
        self.taken: TakenSlots = {}

    @property
    def open(self) -> int:
        """Return the number of taken slots, of idle connections and of those in use."""
        return min(len(self.taken), self.maxsize)

    @property
    def idle(self) -> int:
        """Return the number of idle connections."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """Return the number of waiting callers."""
        return len(self._waiters)

    @property
    def queue(self) -> list[Any]:
        """Return ``None`` for each free slot, then the idle connections, as in :mod:`queue`."""
        idle = [connection for _, connection, _ in list(self._idle)]
        return [None] * (self.maxsize - self.open) + idle

    def qsize(self) -> int:
        """Return how many callers could be served now, from idle connections and free slots."""
        return self.idle + self.maxsize - self.open

    def slots(self) -> list[PoolSlot]:
        """Return all slots that are taken."""
        while True:
            # In one step: no variable may keep a weak reference whose key vacate() removes. The
            # call of each reference allocates, so Python 3.11 and earlier may collect garbage here,
            # whose finalizers may free a slot.
            with contextlib.suppress(RuntimeError):  # the dictionary changed meanwhile
                return [slot for slot in list(map(_slot_of, self.taken)) if slot is not None]

    def put(self, entry: Entry, taken_at: float = -math.inf) -> bool:
        """Put an entry back: for the first waiter, or among the idle connections.

        :param entry: as returned by :meth:`get`.
        :param taken_at: when the caller took it, by :func:`time.monotonic`; its turn began then.
        :returns: whether the entry was put back: it isn't if its slot is free.
        """
        # There are three cases:
        #
        # 1. No caller waits: the connection becomes idle. A caller that began to wait in between is
        #    served.
        # 2. Callers wait, but this caller's turn goes on: the first waiter is woken and takes the
        #    connection unless this caller is faster.
        # 3. Callers wait and the turn is over: the connection is handed to the first of them.
        slot = entry[0]
        counted = slot.counted
        if counted is None or counted() is not slot:
            # It is no longer registered. Either it was freed, or the garbage collector runs a
            # finalizer that releases the connection: it has cleared the weak references before.
            return False
        if not self._waiters:
            self._idle.append(entry)
            if self._waiters:
                self.serve()
            return True
        turn_continues = self._turn_continues(slot, taken_at)
        self._idle.append(entry)
        if turn_continues:
            self._wake()
        else:
            self.serve()
        return True

    def serve(self) -> None:
        """Hand what is available to the waiters; call it whenever a slot has become free."""
        while self._waiters:
            entry = self._take()
            if entry is None:
                return
            try:
                waiter = self._waiters.popleft()
            except IndexError:
                left = [entry]
            else:
                waiter.give(entry)
                left = waiter.take() if waiter.has_left else []  # its time was up meanwhile
            del entry  # _take() finds a slot only if no variable refers to it
            while left:
                self._put_back(left.pop())

    def get(self, timeout: float | None = None) -> Entry:
        """Take the entry that was put last, or a free slot; if there is neither, wait in line.

        :param timeout: seconds to wait; ``None`` waits forever.
        :raises queue.Empty: no entry became available within ``timeout``.
        """
        # While others wait, the caller may only take what it has just returned itself.
        if not self._waiters:
            try:
                return self._idle.pop()  # as _take() does, without the cost of a call
            except IndexError:
                pass
        entry = self._take_own() if self._waiters else self._take()
        if entry is not None:
            return entry
        waiter = _Waiter()
        started = time.monotonic()
        self.waits += 1
        given: list[Entry] = []
        try:
            self._waiters.append(waiter)
            self.serve()
            self._wait(waiter, None if timeout is None else started + timeout)
            # An exception here must not leave the waiter in line with what it was given.
            given = self._leave(waiter)
            if self._idle:
                self._wake()
        except BaseException:
            # A signal handler raised, or the greenlet was killed: what was handed to this waiter
            # goes to the next one. If that is interrupted too, a waiter that polls does it.
            waiter.has_left = True
            self._pass_on(given + self._leave(waiter))
            raise
        finally:
            add_wait_time(time.monotonic() - started)
        if not given:
            self.timeouts += 1
            raise Empty
        mine = given.pop()
        if given:  # several threads have served this waiter at once
            self._pass_on(given)
        return mine

    def take_idle(self, since: float) -> Entry | None:
        """Take the connection that has been idle longest, if it became idle before ``since``.

        :param since: a time of :func:`time.monotonic`.
        """
        try:
            if self._idle[0][2] >= since:
                return None
            entry = self._idle.popleft()
        except IndexError:
            return None
        if entry[2] >= since:  # another thread took the first one in between
            self._idle.appendleft(entry)
            self.serve()
            return None
        return entry

    def take_all_idle(self) -> list[Entry]:
        """Take all idle connections, the last one first."""
        entries = []
        while True:
            try:
                entries.append(self._idle.pop())
            except IndexError:
                return entries

    def _take(self) -> Entry | None:
        try:
            return self._idle.pop()
        except IndexError:
            pass
        if len(self.taken) >= self.maxsize:
            return None
        # Several threads may get here for the last free slot. The first ones in the dictionary's
        # order have it; the slots of the others die when this function returns.
        slot = PoolSlot(self.taken)
        # One statement: if an exception came in between, the callback would not find its key.
        self.taken[mine := weakref.ref(slot, self.taken.pop)] = None
        slot.counted = mine
        if len(self.taken) > self.maxsize and mine not in [*self.taken][: self.maxsize]:
            return None
        return slot, None, 0.0

    def _turn_continues(self, slot: PoolSlot, taken_at: float) -> bool:
        """Return whether the thread that returns a connection may still take it again."""
        me = threading.get_ident()
        if slot.turn_of != me:
            slot.turn_of, slot.turn_ends = me, taken_at + TURN_SECONDS
        if time.monotonic() < slot.turn_ends:
            return True
        slot.turn_of = None
        return False

    def _take_own(self) -> Entry | None:
        """Take the connection that the caller has just returned, if it is still there."""
        me = threading.get_ident()
        try:
            slot = self._idle[-1][0]
            if slot.turn_of != me or time.monotonic() >= slot.turn_ends:
                return None
            entry = self._idle.pop()
        except IndexError:
            return None
        if entry[0].turn_of == me:
            return entry
        self._idle.append(entry)  # another thread's; get() calls serve() next
        return None

    def _wake(self) -> None:
        """Wake the first waiter, which takes an idle connection when it runs."""
        try:  # noqa: SIM105  # contextlib.suppress takes longer, and this runs for each command
            self._waiters[0].wake()
        except IndexError:
            pass

    def _pass_on(self, given: list[Entry]) -> None:
        """Give what a waiter doesn't take, and what it was woken for, to the next ones."""
        while given:
            self._put_back(given.pop())
        self.serve()

    def _put_back(self, entry: Entry) -> None:
        if entry[1] is not None:  # a slot without a connection is freed when it is dropped
            self._idle.append(entry)

    def _wait(self, waiter: _Waiter, deadline: float | None) -> None:
        """Wait until ``waiter`` has an entry, or until ``deadline``."""
        # There are three cases when the waiter runs again:
        #
        # 1. It was given an entry: done.
        # 2. It was woken without one: it takes what is available, unless others were faster.
        # 3. It polls: an interruption may have lost a hand-over. Then serve() does it. Or it may
        #    have lost this waiter after it was taken from the line. If it is missing twice in a
        #    row, it goes back to the front; once may mean that it is being served right now.
        absent = 0
        while not waiter.given:
            seconds = POLL_SECONDS
            if deadline is not None:
                seconds = min(seconds, deadline - time.monotonic())
                if seconds <= 0:
                    return
            if waiter.wait(seconds):
                if not waiter.given and (entry := self._take()) is not None:
                    waiter.given.append(entry)
                continue
            absent = 0 if self._is_waiting(waiter) else absent + 1
            if absent > 1 and not waiter.given:
                self._waiters.appendleft(waiter)
            for other in list(self._waiters):
                if other.has_left:  # it was interrupted twice
                    self._pass_on(self._leave(other))
            self.serve()

    def _is_waiting(self, waiter: _Waiter) -> bool:
        try:
            return waiter in self._waiters
        except RuntimeError:  # the line changed meanwhile
            return True

    def _leave(self, waiter: _Waiter) -> list[Entry]:
        """Take a waiter out of the line, and return what it was given."""
        # Another thread may be handing it an entry right now. Each of the two looks for the other's
        # step after its own, so one of them takes the entry.
        given = waiter.take()
        waiter.has_left = True
        with contextlib.suppress(ValueError):
            self._waiters.remove(waiter)
        return given + waiter.take()


class _Waiter:
    """A caller that waits for an entry."""

    def __init__(self) -> None:
        self.given: list[Entry] = []
        #: Whether it takes no more entries than those that were given before.
        self.has_left = False
        # Not an Event: in a signal handler, set() would wait for a lock that wait() holds.
        self._signal = threading.Lock()
        self._signal.acquire()

    def wait(self, seconds: float) -> bool:
        """Return whether the waiter was woken within ``seconds``."""
        return self._signal.acquire(timeout=seconds)

    def give(self, entry: Entry) -> None:
        self.given.append(entry)
        self.wake()

    def take(self) -> list[Entry]:
        """Take what was given. Each entry goes to one thread, even if several ask at once."""
        taken = []
        while self.given:
            try:
                taken.append(self.given.pop())
            except IndexError:
                break
        return taken

    def wake(self) -> None:
        try:  # noqa: SIM105  # as above
            self._signal.release()
        except RuntimeError:
            pass  # already woken; it has not run since
