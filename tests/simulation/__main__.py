"""The simulation's command; see the docstring of the package."""

# ruff: noqa: T201  # it prints its result

from __future__ import annotations

import argparse
import sys

from .loading import Copies
from .search import Search, search
from .standard_library import SIMULATED
from .strategies import STRATEGIES


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30, help="how long to search")
    parser.add_argument("--steps", type=int, help="search for this number of steps instead")
    parser.add_argument("--schedules", type=int, help="search this number of schedules instead")
    parser.add_argument("--seed", type=int, default=1, help="the first schedule's seed")
    parser.add_argument("--strategy", choices=sorted(STRATEGIES), help="default: the seed decides")
    parser.add_argument("--trace", type=int, default=60, help="the steps to print of a failure")
    given = parser.parse_args()

    def is_enough(found: Search) -> bool:
        if given.schedules is not None:
            return found.schedules >= int(given.schedules)
        if given.steps is not None:
            return found.steps >= int(given.steps)
        return found.seconds >= float(given.seconds)

    found = search(
        Copies(SIMULATED),
        is_enough,
        seed=given.seed,
        strategy=given.strategy,
        trace_length=given.trace,
    )
    a_minute = found.schedules / found.seconds * 60
    print(
        f"{found.schedules:,} schedules, {found.steps:,} steps, {a_minute:,.0f} schedules a minute"
    )
    if found.failed is None:
        return 0
    for name, place in found.failed.trace:
        print(f"  {name:12} {place}")
    print(found.failed.plan)
    strategy = f" --strategy {given.strategy}" if given.strategy else ""
    print(f"seed {found.failed.seed}: {found.failed.failure}")
    print(f"replay: {parser.prog} --seed {found.failed.seed} --schedules 1{strategy}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
