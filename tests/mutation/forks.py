"""Run something in a fork of this process, and end it when one of its steps takes too long."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CRASHED = 70  # an exit code that pytest does not have

Report = Callable[[dict[str, Any]], None]


@dataclass
class Outcome:
    """The end of a fork.

    :param code: what it returned: pytest's exit code.
    :param failed: the test that failed, or that was running when the time was up. It is empty if
        the tests could not be imported.
    """

    code: int
    failed: str = ""
    hung: bool = False

    @property
    def passed(self) -> bool:
        """Return whether all tests passed."""
        return self.code == 0


def in_child(
    run: Callable[[Report], int],
    output: Path,
    limit: Callable[[str], float],
) -> Outcome:
    """Run ``run`` in a fork, which is ended when a test takes longer than its ``limit``.

    :param run: gets a function that sends ``{"started": test}`` or ``{"failed": test}`` to this
        process, and returns an exit code.
    :param output: a file for what it prints.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = CRASHED
        try:
            os.setsid()
            os.close(read)
            target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(target, 1)
            os.dup2(target, 2)
            code = run(lambda event: _write(write, event))
        finally:
            os._exit(code)
    os.close(write)
    try:
        return _watch(child, read, limit)
    finally:
        os.close(read)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # servers that a hanging test has left


def _write(pipe: int, event: dict[str, Any]) -> None:
    os.write(pipe, (json.dumps(event) + "\n").encode())


def _watch(child: int, pipe: int, limit: Callable[[str], float]) -> Outcome:
    outcome = Outcome(CRASHED)
    current, deadline, buffer = "", time.monotonic() + 60, b""
    while True:
        readable, _, _ = select.select([pipe], [], [], 0.05)
        chunk = os.read(pipe, 65536) if readable else b""
        *lines, buffer = (buffer + chunk).split(b"\n")
        for event in map(json.loads, lines):
            if "started" in event:
                current = event["started"]
                deadline = time.monotonic() + limit(current)
            elif not outcome.failed:
                outcome.failed = event["failed"]
        if not chunk:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                outcome.code = os.waitstatus_to_exitcode(status)
                return outcome
            if readable:
                time.sleep(0.02)  # the child has closed the pipe, and is about to end
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return Outcome(CRASHED, current, hung=True)
