"""The topologies that the tests of several files use, each for as long as it is needed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

Start = Callable[[], AbstractContextManager[Any]]

#: The fixtures with which tests use the shared topologies.
SHARED = {
    "valkey_cluster": "cluster",
    "any_cluster": "cluster",
    "valkey_sentinels": "sentinels",
    "any_sentinels": "sentinels",
}


class SharedTopologies:
    """Starts a topology at its first use, and stops it before a file that does not use it.

    An idle server wakes up ten times a second. A Cluster and a Sentinel set for each worker of
    pytest-xdist would take a tenth of the machine.

    :param starts: for each name, how to start the topology.
    """

    def __init__(self, starts: dict[str, Start]) -> None:
        self._starts = starts
        self._running: dict[str, tuple[Any, ExitStack]] = {}

    def __enter__(self) -> SharedTopologies:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop_all_but(())

    def get(self, name: str) -> Any:
        """Return the topology, which is started if it does not run."""
        if name not in self._running:
            stack = ExitStack()
            self._running[name] = stack.enter_context(self._starts[name]()), stack
        return self._running[name][0]

    def stop_all_but(self, needed: Iterable[str]) -> None:
        for name in self._running.keys() - set(needed):
            self._running.pop(name)[1].close()


def shared_by(item: pytest.Item) -> set[str]:
    """Return the names of the shared topologies that a test uses."""
    return {SHARED[name] for name in getattr(item, "fixturenames", ()) if name in SHARED}


def shared_by_files(items: list[pytest.Item]) -> defaultdict[Path, set[str]]:
    """Return the names of the shared topologies that the tests of each file use."""
    found = defaultdict[Path, set[str]](set)
    for item in items:
        found[item.path] |= shared_by(item)
    return found
