"""Worker processes that are killed at random, and replaced."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


class KilledWorkers:
    """Processes that run a function until they are killed.

    :param target: a function of a module that can be imported. Its arguments are the server's URL,
        the path of a journal of its own and a seed.
    :param folder: where the journals are, named ``worker-1`` and so on.
    """

    def __init__(
        self, target: Callable[[str, str, int], None], url: str, folder: Path, size: int,
        chance: random.Random,
    ) -> None:  # fmt: skip
        # Forked from a process that has no threads, and that has imported the module: otherwise
        # they are killed while they import it.
        self._context: Any = multiprocessing.get_context("forkserver")
        spec = sys.modules[target.__module__].__spec__  # its name is that of __main__, too
        assert spec is not None
        self._context.set_forkserver_preload([spec.name])
        # Each process also imports the module as __main__.
        os.environ["PYTHONWARNINGS"] = "ignore::RuntimeWarning:runpy"
        self._target, self._url, self._folder, self._chance = target, url, folder, chance
        self._numbers = itertools.count(1)
        self._processes = [self._started() for _ in range(size)]
        self.kills = 0
        self.deaths = 0

    def _started(self) -> Any:
        journal = str(self._folder / f"worker-{next(self._numbers)}")
        arguments = (self._url, journal, self._chance.getrandbits(32))
        process = self._context.Process(target=self._target, args=arguments, daemon=True)
        process.start()
        return process

    def replace_dead(self) -> None:
        """Replace the processes that have ended without being killed from here."""
        for number, process in enumerate(self._processes):
            if not process.is_alive():
                self.deaths += 1
                self._processes[number] = self._started()

    def kill_one(self) -> None:
        number = self._chance.randrange(len(self._processes))
        self._processes[number].kill()
        self._processes[number].join()
        self._processes[number] = self._started()
        self.kills += 1

    def kill_all(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()

    def processed(self) -> int:
        """Return how many messages were processed so far."""
        journals = self._folder.glob("worker-*")
        return sum(path.read_bytes().count(b'"processed"') for path in journals)
