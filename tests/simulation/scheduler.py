"""Run simulated threads one at a time: a seed decides which one runs next, and when.

Threads are greenlets. They give up control at points in the code, and where they wait. Time is
virtual: each step takes a microsecond, and if all threads wait, the clock jumps.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import random
import traceback
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import greenlet

if TYPE_CHECKING:
    from .strategies import Strategy

T = TypeVar("T")

SECONDS_OF_A_STEP = 1e-6
MOST_STEPS = 400_000  # of a schedule; the longest need a tenth of it
_NEVER = 1 << 60


class Abandoned(BaseException):
    """Unwinds the threads of a schedule that is over."""


class Thread:
    """A simulated thread."""

    def __init__(self, number: int, name: str, is_daemon: bool) -> None:
        self.number = number
        self.name = name
        self.is_daemon = is_daemon
        self.greenlet: Any = None
        self.can_be_interrupted = False
        self.priority = 0.0
        # While it waits:
        self.until: float | None = None
        self.waits_for = ""
        self.has_timed_out = False
        self.resumed_at = 0.0
        self.pending: BaseException | None = None
        #: The seconds that it has waited, by what it waited for.
        self.waited: dict[str, float] = {}


class Scheduler:
    """Runs threads until they have ended or something has failed.

    :param chance: the source of all decisions.
    :param strategy: decides which thread runs.
    :param trace_length: the number of steps to remember; ``None`` for all.
    """

    def __init__(
        self, chance: random.Random, strategy: Strategy, trace_length: int | None = 60
    ) -> None:
        self.chance = chance
        self.strategy = strategy
        self.now = 1000.0
        self.steps = 0
        self.current: Thread | None = None
        self.runnable: list[Thread] = []
        self.blocked: list[Thread] = []
        self.trace: deque[tuple[str, str]] = deque(maxlen=trace_length)
        self.failure: str | None = None
        self.is_over = False
        self.is_observed = False  # an invariant looks at the pool: its steps don't count
        self.next_act = _NEVER  # the step at which self.act() is called
        #: Called at random steps, between two steps of the current thread: raises, or does more.
        self.act: Callable[[Thread], None] = lambda thread: None
        #: Called when all threads wait.
        self.on_rest: Callable[[], None] = lambda: None
        self._next_event = 0
        self._is_preempted = False
        self._next_end = math.inf  # the earliest end of a wait, or an earlier time
        self._numbers = itertools.count(1)
        self._alive: list[Thread] = []
        self._hub: Any = None

    def spawn(self, name: str, target: Callable[[], object], is_daemon: bool = False) -> Thread:
        """Start a thread; it runs when the strategy chooses it."""
        thread = Thread(next(self._numbers), name, is_daemon)
        thread.greenlet = greenlet.greenlet(lambda: self._main(thread, target), self._hub)
        self._alive.append(thread)
        self.runnable.append(thread)
        self.strategy.started(thread)
        return thread

    @property
    def is_busy(self) -> bool:
        """Return whether threads other than daemons are alive."""
        return any(not thread.is_daemon for thread in self._alive)

    def run(self) -> None:
        """Run until all threads but daemons have ended, or until a failure."""
        self._hub = greenlet.getcurrent()
        for thread in self._alive:
            thread.greenlet.parent = self._hub
        self.plan()
        running, _running[0] = _running[0], self
        try:
            while self.is_busy and not self.is_over:
                self.current = self._chosen()
                self.current.greenlet.switch()
        except Abandoned:
            pass
        finally:
            self.current = None
            _running[0] = running

    def end(self) -> None:
        """End all threads that are left."""
        self.is_over = True
        running, _running[0] = _running[0], self
        for thread in tuple(self._alive):
            self.current = thread
            with contextlib.suppress(Abandoned):  # it has not started
                thread.greenlet.throw(Abandoned)
        self.current = None
        _running[0] = running

    def fail(self, text: str) -> None:
        """Record a failure, and end the schedule."""
        if self.failure is None and not self.is_over:
            self.failure = text
            self.note(f"FAILED: {text}")
        self.is_over = True
        raise Abandoned

    def note(self, text: str) -> None:
        """Add a line to the trace."""
        self.trace.append((self.current.name if self.current else "-", text))

    def plan(self) -> None:
        """Decide at which step something happens next."""
        self._next_event = min(self.strategy.next_step(self.steps), self.next_act)

    def step(self, place: str) -> None:
        """Let the scheduler act: the current thread is at ``place``."""
        thread = self.current
        if thread is None or self.is_observed:
            return
        if self.is_over:
            raise Abandoned
        self.steps += 1
        self.now += SECONDS_OF_A_STEP
        self.trace.append((thread.name, place))
        if self.steps >= self._next_event:
            self._event(thread)

    def _event(self, thread: Thread) -> None:
        if self.steps > MOST_STEPS:
            self.fail("the schedule does not end")
        if self.steps >= self.next_act:
            self.next_act = _NEVER
            self.act(thread)  # sets next_act
        elif not self._is_preempted:
            self.strategy.event(thread)
        self._is_preempted = False
        self.plan()
        self._switch()

    # Waiting

    def wait(self, until: float | None, what: str) -> bool:
        """Block the current thread until :meth:`wake`, or until a time.

        :returns: whether it was woken.
        """
        thread = self.current
        if thread is None or self.is_over:
            raise Abandoned
        started = self.now
        thread.until, thread.waits_for, thread.has_timed_out = until, what, False
        self.runnable.remove(thread)
        self.blocked.append(thread)
        if until is not None and until < self._next_end:
            self._next_end = until
        self._switch()
        thread.waited[what] = thread.waited.get(what, 0.0) + thread.resumed_at - started
        pending, thread.pending = thread.pending, None
        if pending is not None:
            raise pending
        return not thread.has_timed_out

    def wake(self, thread: Thread, pending: BaseException | None = None) -> None:
        """Let a blocked thread run again; ``pending`` is raised in it."""
        if thread in self.blocked:
            ends_at = math.inf if thread.until is None else thread.until
            self._resume(thread, min(self.now, ends_at))
            thread.pending = pending

    def pass_time(self, seconds: float) -> None:
        """Let time pass while no thread runs, as on a machine that is too busy."""
        self.now += seconds

    def sleep(self, seconds: float) -> None:
        self.wait(self.now + seconds, "sleep")

    def _resume(self, thread: Thread, at: float) -> None:
        self.blocked.remove(thread)
        self.runnable.append(thread)
        thread.resumed_at = at
        if self.strategy.preempts(thread, self.current):
            self._next_event, self._is_preempted = 0, True

    def _switch(self) -> None:
        chosen = self._chosen()
        if chosen is not self.current:
            self.current = chosen
            chosen.greenlet.switch()
        if self.is_over:
            raise Abandoned

    def _chosen(self) -> Thread:
        while True:
            if self._next_end <= self.now:
                self._end_waits()
            if self.runnable:
                return self.strategy.choose(self.runnable)
            self.on_rest()
            if self._next_end == math.inf:
                self.fail(f"deadlock: {[(t.name, t.waits_for) for t in self.blocked]}")
            self.now = max(self.now, self._next_end)

    def _end_waits(self) -> None:
        """Let the threads run whose time is up."""
        for thread in tuple(self.blocked):
            if thread.until is not None and thread.until <= self.now:
                thread.has_timed_out = True
                self._resume(thread, thread.until)
        ends = [thread.until for thread in self.blocked if thread.until is not None]
        self._next_end = min(ends, default=math.inf)

    def _main(self, thread: Thread, target: Callable[[], object]) -> None:
        try:
            target()
        except Abandoned:
            pass
        except BaseException as error:
            if self.failure is None and not self.is_over:
                lines = traceback.format_exception(type(error), error, error.__traceback__)
                self.failure = f"{thread.name}: unexpected {''.join(lines)}"
                self.is_over = True
        finally:
            self._alive.remove(thread)
            if thread in self.runnable:
                self.runnable.remove(thread)
            if thread in self.blocked:
                self.blocked.remove(thread)
            self.current = None


_running: list[Scheduler | None] = [None]


def point(place: str) -> None:
    """Be a switch point; the copies of the product's modules call this before each statement."""
    scheduler = _running[0]
    if scheduler is not None:
        scheduler.step(place)


def after(value: T, place: str) -> T:
    """Be a switch point after a call that has returned ``value``."""
    scheduler = _running[0]
    if scheduler is not None:
        try:
            scheduler.step(place)
        except BaseException:
            value = None  # type: ignore[assignment]  # the traceback must not keep it alive
            raise
    return value


def running() -> Scheduler:
    """Return the scheduler that runs."""
    scheduler = _running[0]
    if scheduler is None:
        raise Abandoned
    return scheduler
