"""A pytest plugin: the order in which ``--dist loadfile`` of pytest-xdist gives files to workers.

Before a test that has to be alone, all workers wait for each other, and during it all but one wait.
So these tests come last, after those that are timed: see `tests.support.selection`. Among the
others, the files that use the shared Cluster or Sentinel set come first, so that its servers can
stop early. After them, the files that may take longest come first: if one of them were the last, a
worker would still run it for minutes while the other workers have ended.
"""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

from .selection import Kind, kind_of
from .shared_topologies import shared_by

_SLOW = 10  # A slow test takes as long as so many quick ones, more or less.


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


@pytest.hookimpl(trylast=True)  # once slow tests are left out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not hasattr(config, "workerinput"):
        return
    weights = Counter[str]()
    sharing = set[str]()
    for item in items:
        if shared_by(item):
            sharing.add(_file(item.nodeid))
        weights[_file(item.nodeid)] += _SLOW if item.get_closest_marker("slow") else 1

    def order(item: pytest.Item) -> tuple[Kind, bool, int, str]:
        file = _file(item.nodeid)
        return kind_of(item), file not in sharing, -weights[file], file

    items.sort(key=order)


class FilesInOrder(LoadFileScheduling):
    """Give each worker a file at a time, in the order in which the workers have sorted the tests.

    Tests of a file that are timed or alone come later than the others, as a file of their own.
    """

    _units: dict[str, str]

    def schedule(self) -> None:
        collected = next(iter(self.registered_collections.values()))
        self._units = {
            nodeid: f"{number} {file}"
            for number, (file, nodeids) in enumerate(groupby(collected, key=_file))
            for nodeid in nodeids
        }
        super().schedule()

    def _split_scope(self, nodeid: str) -> str:
        return self._units[nodeid]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesInOrder | None:
    if config.getoption("dist") != "loadfile":
        return None
    # Otherwise the files with the most tests would come first.
    config.option.loadscopereorder = False
    return FilesInOrder(config, log)
