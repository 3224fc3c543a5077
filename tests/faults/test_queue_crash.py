"""A short crash test of durable queues; see queue_crash.py."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow("a crash test"),
    pytest.mark.timed("workers have to process messages between crashes"),
]

PROJECT = Path(__file__).parents[2]
MESSAGES = 4000


@pytest.fixture(autouse=True)
def no_deadlock() -> None:
    """In place of the folder's: this takes longer."""


def how_many(what: str, output: str) -> int:
    found = re.search(rf"│ {what} +│ (\d+)", output)
    assert found, output
    return int(found[1])


def test_no_message_is_lost_when_workers_and_servers_are_killed() -> None:
    command = [sys.executable, "-m", "tests.faults.queue_crash", f"--messages={MESSAGES}"]
    ended = subprocess.run(
        command, cwd=PROJECT, timeout=400, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout[-8000:] + ended.stderr[-8000:]
    assert how_many("processed", ended.stdout) == MESSAGES
    assert how_many("lost", ended.stdout) == 0
    # It was a crash test.
    assert how_many("workers killed", ended.stdout) > 3
    assert how_many("server restarts", ended.stdout) == 3
