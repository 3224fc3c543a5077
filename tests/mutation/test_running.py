"""Which tests are run for a mutant, and how their run ends."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cosmic_ray", reason="mutation testing has its own dependency group")

from .forks import in_child
from .mutants import Mutant
from .records import BUDGET, SLOWEST, Record, choose_tests

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


@pytest.mark.parametrize("file", ["test_a.py", "test_a_errors.py"])
def test_the_tests_of_the_module_come_first(file: str) -> None:
    records = {
        "tests/pool/test_b.py::quick": Record(0.1, ["pool/a.py:f"]),
        f"tests/pool/{file}::slower": Record(0.2, ["pool/a.py:f"]),
    }
    mutant = Mutant("pool/a.py", "", function="f", line=2, operator="AddNot", occurrence=0)

    assert choose_tests(mutant, records) == [
        f"tests/pool/{file}::slower",
        "tests/pool/test_b.py::quick",
    ]


def test_the_tests_of_the_folder_come_first() -> None:
    records = {
        "tests/pool/test_b.py::quick": Record(0.1, ["pool/direct/a.py:f"]),
        "tests/pool/direct/test_b.py::slower": Record(0.2, ["pool/direct/a.py:f"]),
    }
    mutant = Mutant("pool/direct/a.py", "", function="f", line=2, operator="AddNot", occurrence=0)

    assert choose_tests(mutant, records)[0] == "tests/pool/direct/test_b.py::slower"


def test_slow_tests_and_those_beyond_the_budget_are_left_out() -> None:
    records = {f"t::{n}": Record(SLOWEST, ["a.py:f"]) for n in range(100)}
    records["t::too slow"] = Record(SLOWEST + 0.1, ["a.py:f"])

    assert len(choose_tests(IN_A_FUNCTION, records)) == BUDGET // SLOWEST


def test_the_first_failure_is_reported(tmp_path: Path) -> None:
    def run(report: Any) -> int:
        for event in ({"started": "t::a"}, {"failed": "t::a"}, {"started": "t::b"}):
            report(event)
        return 1

    outcome = in_child(run, tmp_path / "output", lambda test: 10)

    assert (outcome.passed, outcome.failed, outcome.hung) == (False, "t::a", False)


def test_a_test_that_does_not_end_is_ended(tmp_path: Path) -> None:
    def run(report: Any) -> int:
        report({"started": f"t::{os.getpid()}"})
        time.sleep(60)
        return 0

    outcome = in_child(run, tmp_path / "output", lambda test: 0.2)

    assert (outcome.passed, outcome.hung) == (False, True)
    with pytest.raises(ProcessLookupError):
        os.kill(int(outcome.failed.removeprefix("t::")), 0)


def test_a_run_that_breaks_off_has_not_passed(tmp_path: Path) -> None:
    def run(report: Any) -> int:
        raise OSError

    assert not in_child(run, tmp_path / "output", lambda test: 10).passed
