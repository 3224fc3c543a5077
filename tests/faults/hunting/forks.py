"""Forks in the middle of a hunt, and the reports of the children."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import time
import traceback
from typing import TYPE_CHECKING, Any

from .errors import EXPECTED, Interrupted

if TYPE_CHECKING:
    from .hunt import Hunt
    from .workers.worker import Worker

_SECONDS_BETWEEN = 0.5
_MOST_SECONDS = 10.0  # of a child


class Forks:
    """Forks children that use what they inherit."""

    def __init__(self, hunt: Hunt) -> None:
        self.hunt = hunt
        self.children = 0
        self.failed: list[str] = []
        self._next = 0.0

    def maybe_fork(self, worker: Worker) -> None:
        """Fork a child that uses what it inherits, unless a worker has just done so."""
        now = time.monotonic()
        if "forks" not in self.hunt.faults or now < self._next:
            return
        self._next = now + _SECONDS_BETWEEN
        target = worker.random.choice(self.hunt.targets)
        pipeline, client, wanted = worker.hold(target)
        read, write = os.pipe()
        pid = self.hunt.crew.fork(lambda: self._be_child(worker, target, pipeline, client, write))
        os.close(write)
        try:
            # What the child did with it is none of the parent's business.
            with contextlib.suppress(EXPECTED):
                worker.check(pipeline.execute(), wanted)
            with contextlib.suppress(EXPECTED), client:
                worker.echo(client)
        finally:
            self._bury(pid, read)

    def _be_child(
        self, worker: Worker, target: Any, pipeline: Any, client: Any, write: int
    ) -> None:
        hunt = self.hunt
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
            faulthandler.register(signal.SIGUSR2, file=write)
            hunt.wrong, hunt.unexpected, hunt.unraisable = [], [], []
            hunt.faults = frozenset()
            try:
                worker.use_inherited(target, pipeline, client)
            except EXPECTED:
                pass
            except BaseException as error:
                hunt.unexpected.append("".join(traceback.format_exception(error)))
            found = "\n".join(hunt.wrong + hunt.unexpected + hunt.unraisable)
            os.write(write, found.encode()[-4000:] or b"well")
        finally:
            os._exit(0)

    def _bury(self, pid: int, read: int) -> None:
        """Wait for a child, and note what it says if it failed; an interruption has to wait."""
        interrupted: BaseException | None = None
        deadline = time.monotonic() + _MOST_SECONDS
        interruptions = (Interrupted, *self.hunt.crew.interruptions)
        os.set_blocking(read, False)
        self.children += 1
        while True:
            try:
                # What it says, not its status: gevent waits for every process that ends.
                said = os.read(read, 4000).decode()
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    said = f"it was stuck\n{_stacks(pid, read)}"
                    break
            except interruptions as error:
                interrupted = error
            with contextlib.suppress(*interruptions):
                time.sleep(0.005)
        os.close(read)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)  # it ends at once
        if said != "well":
            self.failed.append(said or "it ended without a word")
        if interrupted is not None:
            raise interrupted


def _stacks(pid: int, read: int) -> str:
    """Return the stacks of a child that is stuck, and end it."""
    os.kill(pid, signal.SIGUSR2)
    time.sleep(0.5)
    os.kill(pid, signal.SIGKILL)
    try:
        return os.read(read, 10_000).decode()
    except BlockingIOError:
        return ""
