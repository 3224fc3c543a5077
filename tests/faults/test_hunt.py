"""The hunt for wrong replies finds nothing in this package, and mistakes that are planted."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow("hunts for seconds"),
    pytest.mark.alone("the hunts load both processors"),
]

PROJECT = Path(__file__).parents[2]


def hunt(*arguments: str, seconds: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.faults.hunt", "--seconds", str(seconds), *arguments]
    return subprocess.run(
        command, cwd=PROJECT, timeout=seconds + 240, capture_output=True, text=True, check=False
    )


def how_many(what: str, output: str) -> int:
    found = re.search(rf"│ {what} +│ (\d+)", output)
    assert found, output
    return int(found[1])


@pytest.fixture(autouse=True)
def no_deadlock() -> None:
    """In place of the folder's: the hunt has its own, and takes longer."""


Ends = dict[str, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def ends() -> Ends:
    """What came of both hunts, which run at the same time."""
    with ThreadPoolExecutor() as hunters:
        threads = hunters.submit(hunt, seconds=15)
        greenlets = hunters.submit(hunt, "--gevent", seconds=15)
        return {"50 threads": threads.result(), "500 greenlets": greenlets.result()}


@pytest.mark.parametrize("workers", ["50 threads", "500 greenlets"])
def test_no_reply_is_wrong_no_slot_is_lost_and_nobody_is_stuck(ends: Ends, workers: str) -> None:
    ended = ends[workers]
    assert ended.returncode == 0, ended.stdout[-12000:] + ended.stderr[-8000:]
    assert ended.stdout.endswith("found nothing\n")
    # It was a hunt.
    assert how_many("workers", ended.stdout) == int(workers.split()[0])
    for what in ("replies checked", "interrupts", "children", "replies lost", "restart"):
        assert how_many(what, ended.stdout) > 1


def test_the_hunt_finds_what_it_is_for_in_redis_pys_own_pool() -> None:
    # Without what gets its workers stuck, which takes a while to tell.
    quiet = [f"--without={fault}" for fault in ("interrupts", "signals", "forks")]
    ended = hunt("--stock", *quiet, seconds=4)
    assert ended.returncode == 1, ended.stdout[-3000:] + ended.stderr[-3000:]
    assert how_many("wrong replies", ended.stdout) > 0


@pytest.mark.parametrize("topology", ["sentinel", "cluster"])
def test_nothing_is_found_in_the_few_seconds_of_a_hunt_with_failovers(topology: str) -> None:
    with ThreadPoolExecutor() as hunters:
        crews: list[list[str]] = [[], ["--gevent"]]
        hunts = [hunters.submit(hunt, "--topology", topology, *crew, seconds=8) for crew in crews]
        for ended in [each.result() for each in hunts]:
            assert ended.returncode == 0, ended.stdout[-12000:] + ended.stderr[-8000:]
            assert ended.stdout.endswith("found nothing\n")
            for what in ("replies checked", "interrupts", "increments tried", "replies lost"):
                assert how_many(what, ended.stdout) > 5
            assert how_many("children", ended.stdout) > 1
            assert how_many("counters compared", ended.stdout) > 1


@pytest.mark.parametrize(
    ("topology", "mistake", "found"),
    [
        ("standalone", "forget", "wrong counters"),
        ("sentinel", "swap", "wrong replies"),
        ("cluster", "lose", "slots or sockets not back"),
        ("cluster", "forget", "wrong counters"),
    ],
)
def test_the_hunt_finds_a_mistake_that_is_planted(topology: str, mistake: str, found: str) -> None:
    ended = hunt("--topology", topology, "--planted", mistake, "--without=weather", seconds=4)
    assert ended.returncode == 1, ended.stdout[-3000:] + ended.stderr[-3000:]
    assert how_many(found, ended.stdout) > 0
