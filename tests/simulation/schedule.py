"""Run one schedule: build its pool from a seed, run its threads, and check the end."""

from __future__ import annotations

import gc
import logging
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import redis

from .invariants import Invariants
from .loading import Copies, Identity
from .network import Server, Socket
from .plan import Plan, planned
from .scheduler import Abandoned, Scheduler
from .strategies import STRATEGIES
from .troubles import Troubles
from .workers import Interruption, Workers


class SimulatedConnection(redis.Connection):
    """redis-py's connection, on a simulated socket."""

    server: Server

    def __init__(self, *, server: Server, **kwargs: Any) -> None:
        self.server = server
        super().__init__(**kwargs)

    def _connect(self) -> Any:
        opened: Any = Socket(self.server)
        opened.settimeout(self.socket_connect_timeout)
        opened.connect((self.host, self.port))
        opened.settimeout(self.socket_timeout)
        return opened


@dataclass
class Outcome:
    """What became of a schedule."""

    seed: int
    steps: int
    plan: Plan
    failure: str | None
    trace: list[tuple[str, str]]


def run_schedule(
    copies: Copies,
    seed: int,
    strategy: str | None = None,
    trace_length: int | None = 60,
    given: Mapping[str, Any] | None = None,
) -> Outcome:
    """Run the schedule of a seed.

    :param copies: the modules to run.
    :param seed: decides all.
    :param strategy: one of :data:`~.strategies.STRATEGIES`; ``None`` lets the seed decide.
    :param trace_length: the number of steps to return; ``None`` for all.
    :param given: as for :func:`~.plan.planned`.
    """
    chance = random.Random(seed)
    plan = planned(chance, strategy, given)
    scheduler = Scheduler(chance, STRATEGIES[plan.strategy](chance), trace_length)
    server = Server(scheduler, plan.size)
    invariants = Invariants(scheduler, plan, server)
    scheduler.on_rest = invariants.rests
    workers = Workers(invariants, copies)
    troubles = Troubles(workers)

    def start() -> None:
        invariants.pool = _pool(copies, plan, invariants)
        for number, acts in enumerate(plan.workers):
            scheduler.spawn(f"worker {number}", lambda acts=acts: workers.work(acts))
        if plan.is_faulty:
            scheduler.spawn("trouble", troubles.trouble, is_daemon=True)
        if plan.is_lossy:
            scheduler.spawn("collector", troubles.collects, is_daemon=True)
        if plan.is_busy:
            scheduler.spawn("stalls", troubles.stalls, is_daemon=True)

    def finish() -> None:
        gc.collect()
        if plan.is_interrupted:
            workers.find_what_is_lost()
        invariants.ends()
        workers.use_all()

    with _no_garbage_collection(scheduler):
        try:
            scheduler.spawn("main", start)
            scheduler.run()
            if scheduler.failure is None:
                scheduler.next_act = 1 << 60
                scheduler.spawn("end", finish)
                scheduler.run()
        finally:
            scheduler.end()
            invariants.pool = None
            gc.collect()
    return Outcome(seed, scheduler.steps, plan, scheduler.failure, [*scheduler.trace])


def _pool(copies: Copies, plan: Plan, invariants: Invariants) -> Any:
    breakers = copies["pool.circuit_breaker"]
    vars(copies["pool.housekeeping"])["logger"] = SimpleNamespace(warning=invariants.warns)
    numbers = iter(range(1, 1 << 60))

    class Breaker(breakers.CircuitBreaker):  # type: ignore[misc, name-defined]
        def enter(self) -> Any:
            probe = super().enter()
            if probe is not None:
                invariants.probes_now(probe)
            return probe

    class Pool(copies["pool.blocking_pool"].BlockingConnectionPool):  # type: ignore[misc]
        def make_connection(self) -> Any:
            made = super().make_connection()
            made._identity = Identity(next(numbers))
            return made

    return Pool(
        connection_class=SimulatedConnection,
        server=invariants.server,
        max_connections=plan.size,
        timeout=plan.pool_timeout,
        name="foo",
        breaker=Breaker("foo", 2, 0.1) if plan.has_breaker else None,
        max_idle_time=plan.max_idle_time,
        max_lifetime=plan.max_lifetime,
        leak_warning=plan.leak_warning,
        socket_timeout=0.3,
        socket_connect_timeout=0.3,
        driver_info=None,
        protocol=2,
    )


@contextmanager
def _no_garbage_collection(scheduler: Scheduler) -> Iterator[None]:
    """Let only the schedule run the garbage collector, and note what finalizers raise."""
    before = sys.unraisablehook

    def note(unraisable: Any) -> None:
        error = unraisable.exc_value
        if isinstance(error, (Abandoned, Interruption)):
            return
        if scheduler.failure is None:
            scheduler.failure = f"a finalizer raised {type(error).__name__}: {error}"

    was_enabled = gc.isenabled()
    gc.disable()
    sys.unraisablehook = note
    logging.disable()
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        sys.unraisablehook = before
        if was_enabled:
            gc.enable()
