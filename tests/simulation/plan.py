"""Draw from a seed what happens in a schedule: the settings, the threads, and the faults."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .strategies import STRATEGIES

#: What a worker does, and how often compared with the others.
CALM = {"use": 6, "burst": 4, "hold": 3, "pause": 3, "share": 1, "twice": 1, "look": 1}
ROUGH = {"lose": 2, "unread": 2, "hurry": 2, "disconnect": 1}

FAULTY = {"insist": 6}


@dataclass
class Plan:
    """The settings of a schedule; times are in seconds.

    Each seed leaves some of the troubles out: one that is always there can hide what another one
    does, and some invariants hold only without a certain trouble.
    """

    strategy: str
    size: int  # max_connections
    pool_timeout: float
    workers: list[list[str]]  # what each does, one after the other
    is_interrupted: bool  # exceptions, signal handlers and the garbage collector, at any step
    is_lossy: bool  # connections are dropped, calls have deadlines, and the pool is disconnected
    is_faulty: bool  # the server refuses, hangs and restarts
    is_busy: bool  # the machine lets no thread run for a while
    has_breaker: bool
    max_idle_time: float
    max_lifetime: float
    leak_warning: float

    @property
    def is_calm(self) -> bool:
        """Return whether nothing can keep a connection from being returned and handed over."""
        return not (self.is_interrupted or self.is_lossy)


def planned(
    chance: random.Random, strategy: str | None = None, given: Mapping[str, Any] | None = None
) -> Plan:
    """Draw a plan.

    :param chance: the source of decisions.
    :param strategy: one of :data:`~.strategies.STRATEGIES`; ``None`` draws it.
    :param given: attributes of the plan that are not drawn.
    """
    drawn = chance.choice(sorted(STRATEGIES))
    given = given or {}
    is_lossy, is_faulty = chance.random() < 0.4, chance.random() < 0.4
    is_lossy = given.get("is_lossy", is_lossy)
    is_faulty = given.get("is_faulty", is_faulty)
    weights = {**CALM, **(ROUGH if is_lossy else {}), **(FAULTY if is_faulty else {})}
    # A few workers with much to do, or many with little.
    workers = chance.randint(2, 7)
    acts = chance.randint(1, 12 // workers + 1)
    plan = Plan(
        strategy=strategy or drawn,
        size=chance.choice([1, 1, 2, 3]),
        pool_timeout=chance.choice([0.003, 0.02, 0.25, 1.0, 10.0]),
        workers=[chance.choices([*weights], [*weights.values()], k=acts) for _ in range(workers)],
        is_interrupted=chance.random() < 0.4,
        is_lossy=is_lossy,
        is_faulty=is_faulty,
        is_busy=chance.random() < 0.3,
        has_breaker=is_faulty and chance.random() < 0.7,
        max_idle_time=chance.choice([0.0, 0.2]),
        max_lifetime=chance.choice([0.0, 0.0, 0.1]),
        leak_warning=chance.choice([0.0, 0.3]),
    )
    return replace(plan, **given)
