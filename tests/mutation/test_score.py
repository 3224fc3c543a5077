"""The score, its interval, the floor, and the reasons of survivors."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .score import (
    Key,
    Reason,
    Result,
    Score,
    append_result,
    failures,
    read_reasons,
    read_results,
    score,
    table,
    total,
    total_with_equivalent,
)

KEY = ("pool/fair_queue.py", "FairLifoQueue.put", "if a < b:", "if a <= b:")
OTHER = ("pool/fair_queue.py", "FairLifoQueue.put", "if a < b:", "if a >= b:")
ENTRY = """
[[survivor]]
module = "pool/fair_queue.py"
function = "FairLifoQueue.put"
line = "if a < b:"
mutant = "if a <= b:"
reason = "{}"
"""
needs_tomllib = pytest.mark.skipif(sys.version_info < (3, 11), reason="needs tomllib")


def result(key: Key, killed: bool) -> Result:
    return Result("pool", key, killed, "tests/test_a.py::test_b" if killed else "")


def of(population: int, tested: int, killed: int, equivalent: int = 0, explained: int = 0) -> Score:
    return Score("pool", population, tested, killed, equivalent, explained)


def test_killed_and_explained_mutants_are_counted() -> None:
    results = [result(KEY, False), result(OTHER, False), result(("", "", "", ""), True)]

    counted = score("pool", results, 10, {KEY: Reason("only speed")})

    assert counted == of(10, tested=3, killed=1, explained=1)
    assert counted.unexplained == 1
    assert counted.percent == pytest.approx(100 / 3)


def test_an_equivalent_mutant_does_not_lower_the_score() -> None:
    results = [result(KEY, False), result(OTHER, False), result(("", "", "", ""), True)]

    counted = score("pool", results, 10, {KEY: Reason("the same", is_equivalent=True)})

    assert counted == of(10, tested=3, killed=1, equivalent=1)
    assert counted.unexplained == 1
    assert counted.percent == 50.0


def test_the_interval_is_that_of_the_mutants_that_count() -> None:
    assert of(1000, tested=273, killed=81, equivalent=10).interval() == (
        of(1000, tested=263, killed=81).interval()
    )


def test_the_score_with_equivalent_mutants_is_shown_too() -> None:
    scores = [of(40, tested=40, killed=30, equivalent=10)]

    assert total(scores) == (100.0, 100.0, 100.0)
    assert total_with_equivalent(scores) == (75.0, 75.0, 75.0)
    assert "the score would be 75.0 % (75 to 75 %)" in table(scores)


def test_a_sample_of_equivalent_mutants_only_says_nothing() -> None:
    only = of(100, tested=2, killed=0, equivalent=2)

    assert (only.percent, only.interval()) == (0.0, (0.0, 0.0))
    assert total([only, of(100, tested=100, killed=90)])[0] == pytest.approx(90)


def test_a_reason_belongs_to_one_change_of_a_line() -> None:
    counted = score("pool", [result(OTHER, False)], 1, {KEY: Reason("only speed")})

    assert counted.explained == 0


def test_the_interval_is_wilsons() -> None:
    # The example of Newcombe (1998), table I.
    low, high = of(1000, tested=263, killed=81).interval()

    assert low == pytest.approx(25.53, abs=0.01)
    assert high == pytest.approx(36.62, abs=0.01)


def test_a_score_of_all_mutants_is_exact() -> None:
    exact = of(40, tested=40, killed=30)

    assert exact.interval() == (75.0, 75.0)
    assert total([exact]) == (75.0, 75.0, 75.0)


def test_groups_count_by_their_number_of_mutants() -> None:
    large, small = of(900, tested=10, killed=10), of(100, tested=50, killed=0)

    percent, low, high = total([large, small])

    assert percent == pytest.approx(90)
    assert low < 90 < high


def test_a_group_that_was_not_tested_does_not_count() -> None:
    tested, untested = of(100, tested=10, killed=9), of(900, tested=0, killed=0)

    assert total([tested, untested])[0] == pytest.approx(90)


def test_a_score_below_the_floor_fails() -> None:
    scores = [of(100, tested=100, killed=84, explained=16)]

    assert failures(scores, 85, strict=True) == [
        "The score is 84.0 %, which is below the floor of 85 %."
    ]
    assert failures(scores, 84, strict=True) == []


def test_a_survivor_without_a_reason_fails_if_each_needs_one() -> None:
    scores = [of(100, tested=100, killed=99)]

    assert failures(scores, 85, strict=False) == []
    assert failures(scores, 85, strict=True) == [
        "1 mutants survived without a reason in survivors.toml."
    ]


def test_a_run_without_any_mutant_fails() -> None:
    assert failures([of(0, tested=0, killed=0)], 85, strict=False) == ["No mutant was tested."]


def test_the_last_result_of_a_mutant_counts(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    append_result(path, result(KEY, False))
    append_result(path, result(OTHER, False))
    append_result(path, result(KEY, True))

    assert {entry.key: entry.killed for entry in read_results(path)} == {KEY: True, OTHER: False}


def test_the_table_has_a_row_for_each_group_and_for_all() -> None:
    shown = table([of(100, tested=10, killed=9), Score("thin path", 100, 10, 10, 0, 0)])

    names = [line.split("  ")[0] for line in shown.splitlines()]
    assert names[3:6] == ["pool", "thin path", "all"]
    assert len({len(line) for line in shown.splitlines() if line.startswith("=")}) == 1


@needs_tomllib
def test_reasons_are_read(tmp_path: Path) -> None:
    (tmp_path / "survivors.toml").write_text(ENTRY.format("only speed"))

    assert read_reasons(tmp_path / "survivors.toml") == {KEY: Reason("only speed")}


@needs_tomllib
def test_a_reason_may_say_that_the_mutant_is_equivalent(tmp_path: Path) -> None:
    text = ENTRY.format("overwritten before it is read") + "equivalent = true\n"
    (tmp_path / "survivors.toml").write_text(text)

    assert read_reasons(tmp_path / "survivors.toml")[KEY].is_equivalent


@needs_tomllib
@pytest.mark.parametrize(
    ("text", "wrong"),
    [(ENTRY.format(" "), "has no reason"), (ENTRY.format("a") + ENTRY.format("b"), "twice")],
)
def test_a_survivor_has_one_reason(tmp_path: Path, text: str, wrong: str) -> None:
    (tmp_path / "survivors.toml").write_text(text)

    with pytest.raises(ValueError, match=wrong):
        read_reasons(tmp_path / "survivors.toml")
