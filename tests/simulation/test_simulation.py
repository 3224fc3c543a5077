"""The pool in the simulation: no schedule breaks a promise, and a seed decides all of it."""

from __future__ import annotations

import pytest

from .loading import Copies
from .schedule import run_schedule
from .search import quick_collections, search
from .standard_library import SIMULATED
from .strategies import STRATEGIES


@pytest.fixture(scope="module")
def copies() -> Copies:
    """The modules as they are."""
    return Copies(SIMULATED)


def test_a_hundred_schedules_keep_the_promises(copies: Copies) -> None:
    found = search(copies, lambda found: found.schedules >= 100)

    assert found.failed is None, found.failed
    assert found.steps > 100_000


@pytest.mark.slow("runs three million steps")
@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_a_million_steps_keep_the_promises(copies: Copies, strategy: str) -> None:
    found = search(
        copies, lambda found: found.steps >= 1_500_000, seed=1_000_000, strategy=strategy
    )

    assert found.failed is None, found.failed


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_a_seed_decides_every_step(copies: Copies, strategy: str) -> None:
    with quick_collections():
        for seed in range(10):
            first, second = (run_schedule(copies, seed, strategy, None) for _ in range(2))

            assert first.trace == second.trace
            assert first == second


def test_seeds_differ(copies: Copies) -> None:
    with quick_collections():
        traces = [run_schedule(copies, seed, None, None).trace for seed in range(5)]

    assert all(traces.count(trace) == 1 for trace in traces)
