"""A record of each test without mutants: its time, and the package's functions that it runs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from .groups import ROOT, Group
from .mutants import Mutant

SLOWEST = 2.0  # seconds; tests that take longer are not used
BUDGET = 10.0  # seconds of tests for one mutant, as recorded without it


@dataclass
class Record:
    """The record of a test that ran without mutants."""

    seconds: float
    functions: list[str]


Records = dict[str, Record]


def read_records(path: Path) -> Records:
    """Return what :func:`write_records` has written; nothing if there is no file."""
    if not path.exists():
        return {}
    return {test: Record(**values) for test, values in json.loads(path.read_text()).items()}


def write_records(path: Path, records: Records) -> None:
    """Write the records to a file."""
    path.write_text(json.dumps({test: asdict(entry) for test, entry in records.items()}, indent=0))


def files_of_tests(group: Group, newer_than: float = 0) -> list[str]:
    """Return the group's test files that have changed since ``newer_than``, a time of a file."""
    found: set[Path] = set()
    for pattern in group.tests:
        for path in ROOT.glob(pattern):
            found.update(path.rglob("test_*.py") if path.is_dir() else [path])
    return sorted(
        str(path.relative_to(ROOT)) for path in found if path.stat().st_mtime > newer_than
    )


def choose_tests(mutant: Mutant, records: Records) -> list[str]:
    """Return the tests that run the mutant's function.

    The tests of its module or folder come first, then the quickest.
    """
    prefix = f"{mutant.module}:"
    # Code outside of functions runs at import: all tests of the module may notice.
    wanted = prefix + mutant.function
    chosen = [
        (not _is_named_after(test, mutant.module), entry.seconds, test)
        for test, entry in records.items()
        if entry.seconds <= SLOWEST
        and any(
            name == wanted if mutant.function else name.startswith(prefix)
            for name in entry.functions
        )
    ]
    tests, total = [], 0.0
    for _, seconds, test in sorted(chosen):
        total += seconds
        if total > BUDGET:
            break
        tests.append(test)
    return tests


def _is_named_after(test: str, module: str) -> bool:
    file = test.split("::")[0]
    folder, _, name = module.removesuffix(".py").rpartition("/")
    stem = Path(file).stem
    is_named = stem == f"test_{name}" or stem.startswith(f"test_{name}_")
    return is_named or ("/" in folder and f"/{folder}/" in file)


class Recorder:
    """A pytest plugin: records the tests that pass.

    :param hits: the functions that have run; emptied for each test.
    """

    def __init__(self, hits: set[str]) -> None:
        self._hits = hits
        self._seconds: dict[str, float] = {}
        self._bad: set[str] = set()
        self.records: Records = {}

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._hits.clear()
        self._seconds[nodeid] = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[report.nodeid] += report.duration
        if report.outcome != "passed":
            self._bad.add(report.nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        if nodeid not in self._bad:
            self.records[nodeid] = Record(self._seconds[nodeid], sorted(self._hits.copy()))
