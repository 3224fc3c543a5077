"""Run many schedules, one seed after the other, until one fails or it is enough."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .loading import Copies
from .schedule import Outcome, run_schedule


@dataclass
class Search:
    """The result of a search."""

    schedules: int = 0
    steps: int = 0
    seconds: float = 0.0
    failed: Outcome | None = None


def search(
    copies: Copies,
    is_enough: Callable[[Search], bool],
    *,
    seed: int = 1,
    strategy: str | None = None,
    trace_length: int | None = 60,
    given: Mapping[str, Any] | None = None,
) -> Search:
    """Run schedules until one fails.

    :param copies: the modules to run.
    :param is_enough: asked after each schedule.
    :param seed: of the first schedule.
    :param strategy: as for :func:`~.schedule.run_schedule`.
    :param trace_length: as for :func:`~.schedule.run_schedule`.
    :param given: as for :func:`~.schedule.run_schedule`.
    """
    found = Search()
    run_schedule(copies, seed)  # imports what is missing
    with quick_collections():
        started = time.monotonic()
        while True:
            outcome = run_schedule(copies, seed + found.schedules, strategy, trace_length, given)
            found.schedules += 1
            found.steps += outcome.steps
            found.seconds = time.monotonic() - started
            if outcome.failure is not None:
                found.failed = outcome
                return found
            if is_enough(found):
                return found


@contextmanager
def quick_collections() -> Iterator[None]:
    """Have the garbage collector leave out what is there now: schedules run it often."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
