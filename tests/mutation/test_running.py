"""Which tests are run for a mutant, and how a run ends."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cosmic_ray", reason="mutation testing has its own dependency group")

from . import running
from .mutants import Mutant
from .running import BUDGET, SLOWEST, Record, choose_tests

IN_A_FUNCTION = Mutant("a.py", "", function="f", line=2, operator="AddNot", occurrence=0)
AT_IMPORT = Mutant("a.py", "", function="", line=1, operator="AddNot", occurrence=0)


def test_the_tests_of_a_function_are_those_that_run_it_the_quickest_first() -> None:
    records = {
        "t::slower": Record(0.2, ["a.py:f"]),
        "t::quick": Record(0.1, ["a.py:f", "a.py:g"]),
        "t::other": Record(0.1, ["a.py:g"]),
        "t::namesake": Record(0.1, ["b.py:f"]),
    }

    assert choose_tests(IN_A_FUNCTION, records) == ["t::quick", "t::slower"]
    assert choose_tests(AT_IMPORT, records) == ["t::other", "t::quick", "t::slower"]


def test_slow_tests_and_those_beyond_the_budget_are_left_out() -> None:
    records = {f"t::{n}": Record(SLOWEST, ["a.py:f"]) for n in range(100)}
    records["t::too slow"] = Record(SLOWEST + 0.1, ["a.py:f"])

    assert len(choose_tests(IN_A_FUNCTION, records)) == BUDGET // SLOWEST


def test_the_first_failure_is_reported(tmp_path: Path) -> None:
    def run(report: Any) -> int:
        for event in ({"started": "t::a"}, {"failed": "t::a"}, {"started": "t::b"}):
            report(event)
        return 1

    outcome = running._in_child(run, tmp_path / "output", lambda test: 10)

    assert (outcome.passed, outcome.failed, outcome.hung) == (False, "t::a", False)


def test_a_test_that_does_not_end_is_ended(tmp_path: Path) -> None:
    def run(report: Any) -> int:
        report({"started": f"t::{os.getpid()}"})
        time.sleep(60)
        return 0

    outcome = running._in_child(run, tmp_path / "output", lambda test: 0.2)

    assert (outcome.passed, outcome.hung) == (False, True)
    with pytest.raises(ProcessLookupError):
        os.kill(int(outcome.failed.removeprefix("t::")), 0)


def test_a_run_that_breaks_off_has_not_passed(tmp_path: Path) -> None:
    def run(report: Any) -> int:
        raise OSError

    assert not running._in_child(run, tmp_path / "output", lambda test: 10).passed


def test_a_failure_that_does_not_come_again_is_no_kill(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The machine has disturbed ``t::a``; ``t::b`` fails each time."""
    mutant = Mutant("a.py", "x = not y\n", "f", 1, "ReplaceUnaryOperator_Delete_Not", 0)
    records = {"t::a": Record(0.1, ["a.py:f"]), "t::b": Record(0.2, ["a.py:f"])}
    runs: list[list[str]] = []
    outcomes = [
        running.Outcome(1, "t::a"), running.Outcome(0),
        running.Outcome(1, "t::b"), running.Outcome(1, "t::b"),
    ]  # fmt: skip

    def run_tests(module: str, source: str, tests: list[str], *others: Any) -> running.Outcome:
        runs.append(tests)
        return outcomes[len(runs) - 1]

    monkeypatch.setattr(running, "_run_tests", run_tests)

    assert running.run_mutant(mutant, records, tmp_path / "output").failed == "t::b"
    assert runs == [["t::a", "t::b"], ["t::a"], ["t::b"], ["t::b"]]
