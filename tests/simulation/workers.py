"""The threads of a schedule: workers that use the pool, and a server that fails at times."""

from __future__ import annotations

import contextlib
import gc
import itertools
import random
from typing import Any

import redis

from pyramid_baseplate_redis.exceptions import CircuitOpenError, PoolReleaseError, PoolTimeoutError

from .invariants import Invariants
from .loading import Copies
from .scheduler import Scheduler, Thread


class Interruption(BaseException):
    """What a signal handler or the end of a greenlet raises, at any step."""


class Workers:
    """What workers do to a pool.

    :param invariants: watches it.
    :param copies: the modules that run.
    """

    def __init__(self, invariants: Invariants, copies: Copies) -> None:
        self.invariants = invariants
        self.copies = copies
        self.scheduler: Scheduler = invariants.scheduler
        self.chance: random.Random = self.scheduler.chance
        self.plan = invariants.plan
        self._texts = (b"%d" % number for number in itertools.count())
        self._depth = 0
        self.is_ending = False
        self._mean_gap = self.chance.choice([40, 300, 1500])  # steps between interruptions
        if self.plan.is_interrupted:
            self.scheduler.act = self._interrupt
            self._plan_interruption()

    @property
    def pool(self) -> Any:
        return self.invariants.pool

    def work(self, acts: list[str]) -> None:
        """Be a worker: do one after the other."""
        thread = self.scheduler.current
        assert thread is not None
        for act in acts:
            self.scheduler.note(act)
            thread.can_be_interrupted = True
            with contextlib.suppress(Interruption):
                try:
                    getattr(self, f"_{act}")()
                except (PoolTimeoutError, CircuitOpenError):
                    pass
                except (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError):
                    if not (self.plan.is_faulty or self.plan.is_lossy):
                        raise
            thread.can_be_interrupted = False
            self._forget()

    def _forget(self) -> None:
        """Note that the current thread holds nothing any more."""
        self.invariants.releases(None)

    # What they do

    def _get(self, timeout: float | None = None) -> Any:
        asked = self.invariants.asks(self.plan.pool_timeout if timeout is None else timeout)
        try:
            connection = self.pool.get_connection()
        except PoolTimeoutError:
            self.invariants.times_out(asked)
            raise
        self.invariants.gets(asked, connection)
        return connection

    def _release(self, connection: Any) -> None:
        self.invariants.releases(connection)
        self.pool.release(connection)

    def _ask(self, connection: Any) -> None:
        text = next(self._texts)
        reply = connection.ask(("ECHO", text))
        if reply != text:
            self.scheduler.fail(f"the reply {reply!r} to the question {text!r}")

    def _use(self) -> None:
        connection = self._get()
        try:
            for _ in range(self.chance.randint(0, 2)):
                self._ask(connection)
        finally:
            self._release(connection)

    def _burst(self) -> None:
        for _ in range(self.chance.randint(2, 6)):
            self._use()

    def _insist(self) -> None:
        """Try again until it succeeds, or a few times."""
        for _ in range(8):
            try:
                return self._use()
            except redis.RedisError:
                self.scheduler.sleep(self.chance.choice([0.001, 0.03, 0.1]))

    def _hold(self) -> None:
        connection = self._get()
        try:
            self._ask(connection)
            self.scheduler.sleep(self.chance.choice([0.001, 0.01, 0.4]))
        finally:
            self._release(connection)

    def _pause(self) -> None:
        self.scheduler.sleep(self.chance.choice([0.001, 0.02, 0.3]))

    def _look(self) -> None:
        stats, size = self.pool.stats, self.plan.size
        if not (0 <= stats.open <= size and 0 <= stats.idle <= size and stats.in_use >= 0):
            self.scheduler.fail(f"the numbers are wrong: {stats}")

    def _twice(self) -> None:
        connection = self._get()
        self._release(connection)
        self._is_refused(connection)

    def _is_refused(self, connection: Any) -> None:
        with contextlib.suppress(PoolReleaseError):
            self.pool.release(connection)
            self.scheduler.fail("a connection was released twice")

    def _share(self) -> None:
        """Have two threads release a connection at once: one of them succeeds."""
        connection = self._get()
        self.invariants.releases(connection)
        released: list[bool] = []

        def release() -> None:
            try:
                self.pool.release(connection)
                released.append(True)
            except PoolReleaseError:
                released.append(False)

        other = self.scheduler.spawn("helper", release)
        release()
        while len(released) < 2 and not other.greenlet.dead:
            self.scheduler.sleep(0.0001)
        if released.count(True) != 1:
            self.scheduler.fail(f"released by two threads at once: {released}")

    def _disturbed(self) -> None:
        """Note that a connection may be closed after its slot is free.

        An exception can interrupt its closing, and the garbage collector clears the weak reference
        to a slot before it runs the connection's finalizer.
        """
        self.invariants.server.most_connections += 1

    def _lose(self) -> None:
        connection = self._get()
        self._disturbed()
        if self.chance.random() < 0.5:
            connection.itself = connection  # only the garbage collector finds it
        if self.chance.random() < 0.5:
            self._ask(connection)

    def _unread(self) -> None:
        connection = self._get()
        try:
            connection.send_command("ECHO", next(self._texts))
        finally:
            self._release(connection)

    def _hurry(self) -> None:
        """Call with a deadline."""
        module = self.copies["runtime.deadline"]
        seconds = self.chance.choice([0.0005, 0.002, 0.01])
        deadline = module.Deadline(self.scheduler.now + seconds)

        def use() -> None:
            connection = self._get(min(deadline.shorten(None), self.plan.pool_timeout))
            try:
                self._ask(connection)
            finally:
                self._release(connection)

        module.called(deadline, use)

    def _disconnect(self) -> None:
        self.pool.disconnect(inuse_connections=False)

    def find_what_is_lost(self) -> None:
        """Use the pool once: a call that was interrupted twice left something to clear up."""
        with contextlib.suppress(redis.RedisError):
            self.pool.release(self.pool.get_connection())

    def use_all(self) -> None:
        """Check out as many connections as the pool may have, which must succeed, and one more."""
        self.is_ending = True
        self.invariants.server.recover()
        self.scheduler.sleep(1)  # the breaker, if there is one, lets a probe through
        connection = self.pool.get_connection()
        self._ask(connection)
        self.pool.release(connection)
        connections = [self.pool.get_connection() for _ in range(self.plan.size)]
        with contextlib.suppress(PoolTimeoutError):
            self.pool.get_connection()
            self.scheduler.fail("there are more slots than max_connections")
        for connection in connections:
            self.pool.release(connection)

    # Interruptions

    def _plan_interruption(self) -> None:
        gap = int(self.chance.expovariate(1 / self._mean_gap))
        self.scheduler.next_act = self.scheduler.steps + 1 + gap

    def _interrupt(self, thread: Thread) -> None:
        """Interrupt a thread: the current one, or one that waits."""
        self._plan_interruption()
        kind = self.chance.choice(["raise", "raise", "wake", "handle", "collect"])
        if kind == "collect":
            self.scheduler.note("garbage collection")
            gc.collect()
        elif kind == "wake":
            waiting = [thread for thread in self.scheduler.blocked if thread.can_be_interrupted]
            if waiting:
                chosen = self.chance.choice(waiting)
                self.scheduler.note(f"an exception in {chosen.name}")
                self._disturbed()
                self.scheduler.wake(chosen, Interruption())
        elif not thread.can_be_interrupted:
            return
        elif kind == "raise":
            self.scheduler.note("an exception here")
            self._disturbed()
            raise Interruption
        elif not self._depth:
            self.scheduler.note("a signal handler that uses the pool")
            self._depth, waited = 1, dict(thread.waited)
            try:
                with contextlib.suppress(redis.RedisError):
                    self.pool.release(self.pool.get_connection())
            finally:
                self._depth, thread.waited = 0, waited  # its waiting is not the caller's
                self.scheduler.note("the end of the signal handler")
