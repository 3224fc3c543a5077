"""The hunt for wrong replies finds redis-py's own mistakes, and those that are planted.

``.ci/run`` hunts for a minute on each topology.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow("hunts for seconds")

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


@pytest.mark.alone("a few seconds have to be enough to meet the mistakes")
def test_the_hunt_finds_what_it_is_for_in_redis_pys_own_pool() -> None:
    # Without what gets its workers stuck, which takes a while to tell.
    quiet = [f"--without={fault}" for fault in ("interrupts", "signals", "forks")]
    ended = hunt("--stock", *quiet, seconds=4)
    assert ended.returncode == 1, ended.stdout[-3000:] + ended.stderr[-3000:]
    assert how_many("wrong replies", ended.stdout) > 0


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
