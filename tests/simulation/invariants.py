"""The promises that are checked; each broken one ends its schedule with a message."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from .network import Server
from .plan import Plan
from .scheduler import Scheduler, Thread

P = ParamSpec("P")
T = TypeVar("T")

TURN_SECONDS = 0.005  # as the documentation of the pool says
TOLERANCE = 1e-4  # seconds: a hundred steps


@dataclass
class Use:
    """A use of a connection: from the check-out to the release."""

    slot: weakref.ref[Any]  # a strong one would keep the slot from being free
    taken_at: float  # as the pool knows it; connecting may take long
    got_at: float
    released_at: float = 0.0
    waiters: tuple[weakref.ref[Any], ...] = ()  # those in line at the release


@dataclass
class Asked:
    """A caller that has asked for a connection, and what it found."""

    thread: Thread
    at: float
    timeout: float
    waited: float  # seconds that its thread has waited before
    ahead: tuple[weakref.ref[Any], ...]  # those in line


def _without_steps(
    method: Callable[Concatenate[Invariants, P], T],
) -> Callable[Concatenate[Invariants, P], T]:
    """Have no step happen, and no other thread run, while a method looks at the pool."""

    @wraps(method)
    def looks(self: Invariants, *args: P.args, **kwargs: P.kwargs) -> T:
        self.scheduler.is_observed = True
        try:
            return method(self, *args, **kwargs)
        finally:
            self.scheduler.is_observed = False

    return looks


@dataclass
class Invariants:
    """Watches what the workers do to a pool.

    :param scheduler: gets the failures.
    :param plan: says what may happen.
    :param server: knows who holds which connection.
    """

    scheduler: Scheduler
    plan: Plan
    server: Server
    pool: Any = None
    #: The last uses of each thread, one right after the other.
    runs: dict[Thread, list[Use]] = field(default_factory=dict)
    #: The uses that were longer than leak_warning, those that were much longer, and the warnings.
    longer: int = 0
    much_longer: int = 0
    warnings: int = 0
    probes: list[weakref.ref[Any]] = field(default_factory=list)

    # Callers

    @_without_steps
    def asks(self, timeout: float) -> Asked:
        thread, waiters = self._current(), self._line()
        if len(waiters) > len(self.plan.workers) * 3:
            self.scheduler.fail(f"{len(waiters)} callers wait")
        waited = thread.waited.get("lock", 0.0)
        return Asked(thread, self.scheduler.now, timeout, waited, waiters)

    @_without_steps
    def gets(self, asked: Asked, connection: Any) -> None:
        """Check a check-out: no other holder, in time, in order."""
        opened, thread = connection._sock, asked.thread
        holders = self.server.holders
        if opened in holders:
            self.scheduler.fail(f"{thread.name} gets what {holders[opened].name} holds")
        if opened.is_closed:
            self.scheduler.fail(f"{thread.name} gets a connection that is closed")
        holders[opened] = thread
        if len(holders) > self.plan.size:
            self.scheduler.fail(f"{len(holders)} callers hold connections")
        self.check_wait(asked)
        slot = connection.slot
        if not self.plan.is_interrupted:
            line = self._line()
            for waiter in asked.ahead:
                if waiter in line and not waiter().given:
                    self._check_turn(thread, slot, waiter)
        run = self.runs.setdefault(thread, [])
        if run and run[-1].slot() is not slot:
            run.clear()
        run.append(Use(weakref.ref(slot), slot.taken_at, self.scheduler.now))
        del run[:-50]

    @_without_steps
    def releases(self, connection: Any) -> None:
        """Note the release of a connection, or its loss."""
        thread = self._current()
        self.server.holders = {
            opened: holder for opened, holder in self.server.holders.items() if holder is not thread
        }
        run = self.runs.get(thread)
        if run and connection is not None:
            self._note_length(run[-1])
            run[-1].released_at = self.scheduler.now
            run[-1].waiters = self._line()

    @_without_steps
    def times_out(self, asked: Asked) -> None:
        """Check a caller that got no connection: it waited for long enough, and no longer."""
        self.check_wait(asked)
        if self.scheduler.now - asked.at < asked.timeout - TOLERANCE:
            self.scheduler.fail(f"{asked.thread.name} gives up too early")
        self.runs.pop(asked.thread, None)

    def check_wait(self, asked: Asked) -> None:
        waited = asked.thread.waited.get("lock", 0.0) - asked.waited
        if waited > asked.timeout + TOLERANCE:
            self.scheduler.fail(
                f"{asked.thread.name} waits {waited:.4f} seconds, and may {asked.timeout:.4f}"
            )

    def _check_turn(self, thread: Thread, slot: Any, waiter: weakref.ref[Any]) -> None:
        """Fail unless the thread takes again, in its turn, what it has just returned."""
        began: float | None = None
        run = self.runs.get(thread, [])
        for use in reversed(run):
            # It may have got in line during the last release, after the look at the line.
            if use.slot() is not slot or (use is not run[-1] and waiter not in use.waiters):
                break
            began = use.got_at
        if began is None:
            self.scheduler.fail(f"{thread.name} overtakes one who waits")
        elif run[-1].released_at - began > TURN_SECONDS:
            self.scheduler.fail(f"the turn of {thread.name} does not end")

    # Leak warnings

    def _note_length(self, use: Use) -> None:
        """Count a use that must be logged, or may be: it lasted for longer than leak_warning."""
        limit, now = self.plan.leak_warning, self.scheduler.now
        if not limit:
            return
        self.longer += now - use.taken_at > limit - TOLERANCE
        # The background thread looks five times in that time.
        self.much_longer += now - use.got_at > limit * 1.25

    def warns(self, *args: object) -> None:
        """Count a leak warning; the pool's logger calls this."""
        self.warnings += 1

    def _wrong_warnings(self) -> str | None:
        """Return what is wrong with the number of leak warnings."""
        if not self.plan.is_calm or self.plan.is_busy or self.plan.is_faulty:
            return None  # a warning may be late, or about a caller that is still connecting
        if self.much_longer <= self.warnings <= self.longer:
            return None
        return f"{self.warnings} leak warnings for {self.much_longer} to {self.longer} long uses"

    # The pool as a whole

    @_without_steps
    def rests(self) -> None:
        """Check the moment when all threads wait: none of them for what is available."""
        if self.pool is None or not self.plan.is_calm:
            return
        queue = self.pool.pool
        background = [thread for thread in self.scheduler.blocked if thread.name == "background"]
        if len(background) > 1:
            self.scheduler.fail(f"{len(background)} background threads")
        if queue._waiters and queue.qsize():
            self.scheduler.fail(
                f"{queue.waiting} callers wait while {queue.qsize()} slots are free"
            )

    def probes_now(self, probe: Any) -> None:
        """Check that a caller that may probe the server is the only one."""
        if any(reference() is not None for reference in self.probes):
            self.scheduler.fail("two callers probe the server at once")
        self.probes = [weakref.ref(probe)]

    def ends(self) -> None:
        """Check the pool at the end, when all callers have gone: it has all of its slots."""
        for _ in range(20):
            wrong = self._wrong_at_rest()
            if wrong is None:
                return
            self.scheduler.sleep(0.0137)  # the background thread may be closing a connection
        self.scheduler.fail(str(wrong))

    @_without_steps
    def _wrong_at_rest(self) -> str | None:
        queue, stats = self.pool.pool, self.pool.stats
        if queue._waiters:
            return f"{queue.waiting} callers wait at the end"
        if stats.open != stats.idle or queue.qsize() != self.plan.size:
            return f"slots are lost: {stats}"
        if len(self.server.open) > stats.idle:
            return f"{len(self.server.open)} connections are open, and the pool has {stats.idle}"
        return self._wrong_warnings()

    def _line(self) -> tuple[weakref.ref[Any], ...]:
        return tuple(map(weakref.ref, tuple(self.pool.pool._waiters)))

    def _current(self) -> Thread:
        current = self.scheduler.current
        assert current is not None
        return current
