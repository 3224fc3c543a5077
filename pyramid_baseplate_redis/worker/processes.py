"""Runs a worker's command in several processes, and replaces those that are killed."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis.backoff import ExponentialWithJitterBackoff

logger = logging.getLogger(__package__)

#: The option with which a process gets the end of a pipe that closes when its parent ends.
PARENT_PIPE = "--parent-pipe"
_TICK_SECONDS = 0.1
_LONGEST_PAUSE = 30.0
_SETTLED_SECONDS = 60.0  # a process that has run for this time is replaced at once


class _Process:
    """One of the processes, and its successors."""

    def __init__(self, name: str, command: Sequence[str], pipe: int) -> None:
        self._name = name
        self._command = [*command, PARENT_PIPE, str(pipe)]
        self._pipe = pipe
        self._backoff: Any = ExponentialWithJitterBackoff(base=0.5, cap=_LONGEST_PAUSE)
        self._deaths = 0
        self._starts_at = 0.0
        self.child: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self._started_at = time.monotonic()
        # A session of its own: Ctrl+C in a terminal reaches the parent alone, which passes it on.
        self.child = subprocess.Popen(self._command, start_new_session=True, pass_fds=[self._pipe])

    def look_after(self) -> int | None:
        """Start a successor if it was killed; return the status if it has ended by itself."""
        if self.child is None:
            if time.monotonic() >= self._starts_at:
                self.start()
            return None
        status = self.child.poll()
        if status is None or status >= 0:
            return status
        settled = time.monotonic() - self._started_at >= _SETTLED_SECONDS
        self._deaths = 1 if settled else self._deaths + 1
        pause = 0.0 if settled else self._backoff.compute(self._deaths)
        logger.error(
            "%s: process %d was killed by %s; starting another one in %.1f s",
            self._name, self.child.pid, signal.Signals(-status).name, pause,
        )  # fmt: skip
        self.child = None
        self._starts_at = time.monotonic() + pause
        return None


def run_processes(
    name: str, command: Sequence[str], processes: int, stop: threading.Event | None = None
) -> int:
    """Run a command in several processes until SIGTERM or SIGINT, and then stop all of them.

    A process that a signal has killed is replaced, after growing pauses. If one ends by itself, an
    error has stopped it that a new process would meet as well: the others are stopped.

    :param name: the queue's name, for the log.
    :param command: the program and its arguments.
    :param processes: how many.
    :param stop: an event that stops them, as a signal does.
    :returns: the highest exit status of the processes, or 1 if one was killed while it stopped.
    """
    stop = stop or threading.Event()
    signals = _Signals(stop)
    with signals, _pipe() as pipe:
        running: list[_Process] = []
        status = 0
        try:
            for _ in range(processes):
                running.append(_Process(name, command, pipe))
            while not stop.wait(_TICK_SECONDS):
                ended = [each for each in map(_Process.look_after, running) if each is not None]
                if ended:
                    status = max(ended)
                    break
        finally:
            children = [each.child for each in running if each.child is not None]
            for child in children:
                child.terminate()
            statuses = [_stopped(child, signals) for child in children]
    return max([status, *(1 if each < 0 else each for each in statuses)])


@contextmanager
def _pipe() -> Iterator[int]:
    """Return the end of a pipe from which processes read until this one ends."""
    read, write = os.pipe()
    try:
        yield read
    finally:
        os.close(read)
        os.close(write)


def stop_with_parent(pipe: int, stop: threading.Event) -> None:
    """Set ``stop`` when the parent process ends, even if it is killed.

    :param pipe: the number that the parent has passed with :data:`PARENT_PIPE`.
    """

    def wait() -> None:
        os.read(pipe, 1)
        stop.set()

    threading.Thread(target=wait, name="parent-process", daemon=True).start()


class _Signals:
    """Counts SIGTERM and SIGINT while it is entered, in the main thread."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._before: dict[int, Any] = {}
        self.count = 0

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._received)

    def _received(self, number: int, frame: object) -> None:
        self.count += 1
        self._stop.set()

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _stopped(child: subprocess.Popen[bytes], signals: _Signals) -> int:
    """Wait for a process that is stopping, and return its status. Pass a second signal on."""
    is_hurried = False
    while True:
        if signals.count > 1 and not is_hurried and child.poll() is None:
            child.terminate()
            is_hurried = True
        try:
            return child.wait(_TICK_SECONDS)
        except subprocess.TimeoutExpired:
            continue
