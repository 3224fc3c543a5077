"""The simulation finds planted bugs, and replays what it has found from the seed."""

from __future__ import annotations

import re

import pytest

from .loading import Copies
from .planted_bugs import FOUND, INVENTED, PlantedBug
from .schedule import run_schedule
from .search import quick_collections, search
from .standard_library import SIMULATED

MOST_SCHEDULES = 10_000


def _is_found_and_replayed(bug: PlantedBug) -> None:
    copies = Copies(SIMULATED, bug.changes)

    found = search(
        copies, lambda found: found.schedules >= MOST_SCHEDULES, seed=bug.seed, given=bug.plan
    )

    assert found.failed is not None
    assert re.search(bug.failure, str(found.failed.failure)), found.failed.failure
    with quick_collections():
        again = run_schedule(copies, found.failed.seed, given=bug.plan)
    assert again.trace == found.failed.trace


@pytest.mark.parametrize("bug", INVENTED.values(), ids=INVENTED)
def test_an_invented_bug_is_found_and_replayed(bug: PlantedBug) -> None:
    _is_found_and_replayed(bug)


@pytest.mark.slow("some of these bugs are rare: searches for seconds")
@pytest.mark.parametrize("bug", FOUND.values(), ids=FOUND)
def test_a_bug_that_the_product_had_is_found_and_replayed(bug: PlantedBug) -> None:
    _is_found_and_replayed(bug)


def test_a_change_of_what_is_not_there_is_an_error() -> None:
    copies = Copies(SIMULATED, {"pool.fair_queue": (("no such line", ""),)})

    with pytest.raises(ValueError, match="fair_queue: this is not there exactly once"):
        copies["pool.blocking_pool"]
