"""A short crash test of workers; see worker_crash.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .test_queue_crash import how_many

pytestmark = [
    pytest.mark.slow("a crash test"),
    pytest.mark.timed("workers have to process messages between crashes"),
]

PROJECT = Path(__file__).parents[2]
MESSAGES = 2000


@pytest.fixture(autouse=True)
def no_deadlock() -> None:
    """In place of the folder's: this takes longer."""


def test_good_messages_are_processed_and_only_poison_is_buried() -> None:
    command = [sys.executable, "-m", "tests.faults.worker_crash", f"--messages={MESSAGES}",
               "--restarts=1"]  # fmt: skip
    ended = subprocess.run(
        command, cwd=PROJECT, timeout=400, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout[-8000:] + ended.stderr[-8000:]
    assert how_many("processed", ended.stdout) >= MESSAGES - how_many("poison", ended.stdout)
    # It was a crash test.
    assert how_many("workers killed", ended.stdout) > 3
    assert how_many("restarts or failovers", ended.stdout) == 1
