"""Decide which thread runs: at random, or by priorities that change a few times.

The second one is PCT, "A randomized scheduler with probabilistic guarantees of finding bugs"
(Burckhardt, Kothari, Musuvathi and Nagarakatte, ASPLOS 2010): the thread with the highest priority
runs, and at a few random steps the one that runs gets the lowest priority. It finds bugs that need
one thread to stay away for long while others run.
"""

from __future__ import annotations

import math
import random
from typing import Protocol

from .scheduler import Thread

_NEVER = 1 << 60


class Strategy(Protocol):
    """Decides which thread runs."""

    def started(self, thread: Thread) -> None:
        """Note a new thread."""

    def next_step(self, step: int) -> int:
        """Return the step at which :meth:`event` is to be called."""

    def event(self, thread: Thread) -> None:
        """Prepare for a choice; ``thread`` runs now."""

    def preempts(self, thread: Thread, current: Thread | None) -> bool:
        """Return whether a thread that can run again does so at the next step."""

    def choose(self, runnable: list[Thread]) -> Thread:
        """Return the thread that runs next."""


class RandomStrategy:
    """Switch with a fixed probability at each step, to any thread that can run.

    :param chance: the source of decisions.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._probability = chance.choice([0.005, 0.03, 0.1, 0.3])

    def started(self, thread: Thread) -> None:
        pass

    def next_step(self, step: int) -> int:
        gap = math.log(1 - self._chance.random()) / math.log(1 - self._probability)
        return step + 1 + int(gap)

    def event(self, thread: Thread) -> None:
        pass

    def preempts(self, thread: Thread, current: Thread | None) -> bool:
        return False

    def choose(self, runnable: list[Thread]) -> Thread:
        return self._chance.choice(runnable)


class PriorityStrategy:
    """Run the thread with the highest priority, and change priorities at a few steps.

    :param chance: the source of decisions.
    :param steps: about how many steps the schedule has.
    """

    def __init__(self, chance: random.Random, steps: int = 8_000) -> None:
        self._chance = chance
        count = chance.randint(1, 12)
        self._changes = sorted((chance.randrange(steps) for _ in range(count)), reverse=True)
        self._lowest = 0.0

    def started(self, thread: Thread) -> None:
        thread.priority = self._chance.random()

    def next_step(self, step: int) -> int:
        while self._changes and self._changes[-1] <= step:
            self._changes.pop()
        return self._changes[-1] if self._changes else step + 5_000

    def event(self, thread: Thread) -> None:
        self._lowest -= 1
        thread.priority = self._lowest

    def preempts(self, thread: Thread, current: Thread | None) -> bool:
        return current is not None and thread.priority > current.priority

    def choose(self, runnable: list[Thread]) -> Thread:
        return max(runnable, key=lambda thread: thread.priority)


STRATEGIES = {"random": RandomStrategy, "priorities": PriorityStrategy}
