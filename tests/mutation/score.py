"""The mutation score: what was killed, what survived, and what is said about survivors."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

CONFIDENCE = 1.96  # standard deviations, for 95 %
Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Result:
    """The result of testing one mutant.

    :param key: the mutant's module, function, line before and line after.
    :param killed_by: the test that failed; an empty string if the mutant survived.
    :param hung: whether that test did not end.
    """

    group: str
    key: Key
    killed: bool
    killed_by: str = ""
    hung: bool = False


@dataclass(frozen=True)
class Score:
    """The figures of a group, or of all groups.

    :param population: how many mutants there are; ``tested`` of them were tried.
    :param equivalent: how many survivors behave as the package does, by ``survivors.toml``.
    :param explained: how many other survivors are in ``survivors.toml``.
    """

    name: str
    population: int
    tested: int
    killed: int
    equivalent: int
    explained: int

    @property
    def counted(self) -> int:
        """Return the number of tested mutants that a test could kill."""
        return self.tested - self.equivalent

    @property
    def percent(self) -> float:
        """Return the share of the counted mutants that were killed, in percent."""
        return 100 * self.killed / self.counted if self.counted else 0.0

    @property
    def unexplained(self) -> int:
        """Return the number of survivors without a reason."""
        return self.counted - self.killed - self.explained

    def interval(self) -> tuple[float, float]:
        """Return Wilson's 95 % interval, in percent; a point if each mutant was tested."""
        if not self.counted or self.tested == self.population:
            return self.percent, self.percent
        share, size, z = self.killed / self.counted, self.counted, CONFIDENCE
        middle = (share + z * z / (2 * size)) / (1 + z * z / size)
        spread = z * math.sqrt(share * (1 - share) / size + z * z / (4 * size * size))
        spread /= 1 + z * z / size
        return 100 * max(0.0, middle - spread), 100 * min(1.0, middle + spread)


@dataclass(frozen=True)
class Reason:
    """The reason why no test kills a mutant.

    :param is_equivalent: no test could: nothing that can be observed is different.
    """

    text: str
    is_equivalent: bool = False


def read_reasons(path: Path) -> dict[Key, Reason]:
    """Return the reason of each survivor in the file.

    :raises ValueError: a survivor has no reason, or is listed twice.
    """
    tomllib: Any = importlib.import_module("tomllib")  # Python 3.11
    reasons: dict[Key, Reason] = {}
    for entry in tomllib.loads(path.read_text()).get("survivor", []):
        key = entry["module"], entry["function"], entry["line"], entry["mutant"]
        if not entry["reason"].strip():
            raise ValueError(f"{path.name}: {key} has no reason. Say why no test can notice it.")
        if key in reasons:
            raise ValueError(f"{path.name}: {key} is listed twice. Remove one of them.")
        reasons[key] = Reason(entry["reason"], entry.get("equivalent", False))
    return reasons


def read_results(path: Path) -> list[Result]:
    """Return what :func:`append_result` has written; of a mutant's results the last one."""
    if not path.exists():
        return []
    results: dict[tuple[str, Key], Result] = {}
    for line in path.read_text().splitlines():
        values: dict[str, Any] = json.loads(line)
        result = Result(**{**values, "key": tuple(values["key"])})
        results[result.group, result.key] = result
    return list(results.values())


def append_result(path: Path, result: Result) -> None:
    """Add a result to a file with a JSON object a line."""
    with path.open("a") as file:
        file.write(json.dumps(vars(result)) + "\n")


def score(
    name: str, results: Iterable[Result], population: int, reasons: dict[Key, Reason]
) -> Score:
    """Count the results of one group."""
    results = list(results)
    survivors = [result.key for result in results if not result.killed]
    explained = [reasons[key] for key in survivors if key in reasons]
    equivalent = sum(reason.is_equivalent for reason in explained)
    return Score(
        name,
        population,
        tested=len(results),
        killed=len(results) - len(survivors),
        equivalent=equivalent,
        explained=len(explained) - equivalent,
    )


def total(scores: list[Score]) -> tuple[float, float, float]:
    """Return the score of all groups in percent, and its 95 % interval.

    Each group counts by the number of its mutants, not by the size of its sample.
    """
    scores = [entry for entry in scores if entry.counted]
    sizes = [entry.population * entry.counted / entry.tested for entry in scores]
    share = variance = 0.0
    for entry, size in zip(scores, sizes, strict=True):
        weight = size / sum(sizes)
        share += weight * entry.killed / entry.counted
        if entry.tested < entry.population:
            # Two kills and two survivors more, so that a sample without survivors isn't certain.
            adjusted = (entry.killed + 2) / (entry.counted + 4)
            variance += weight**2 * adjusted * (1 - adjusted) / (entry.counted + 4)
    spread = CONFIDENCE * math.sqrt(variance)
    return 100 * share, 100 * max(0.0, share - spread), 100 * min(1.0, share + spread)


def total_with_equivalent(scores: list[Score]) -> tuple[float, float, float]:
    """Return what :func:`total` does if equivalent mutants count as survivors."""
    return total([replace(entry, equivalent=0) for entry in scores])


def failures(scores: list[Score], floor: float, *, strict: bool) -> list[str]:
    """Return what is wrong: a score below ``floor`` percent, or with ``strict`` unknown reasons."""
    found = []
    if not any(entry.tested for entry in scores):
        return ["No mutant was tested."]
    percent = total(scores)[0]
    if percent < floor:
        found.append(f"The score is {percent:.1f} %, which is below the floor of {floor:g} %.")
    unexplained = sum(entry.unexplained for entry in scores)
    if strict and unexplained:
        found.append(f"{unexplained} mutants survived without a reason in survivors.toml.")
    return found


_COLUMNS = (
    "Group", "Mutants", "Tested", "Killed", "Equivalent", "Explained", "Unknown", "Score", "95 %",
)  # fmt: skip
_WIDTHS = (11, 7, 6, 6, 10, 9, 7, 7, 12)


def table(scores: list[Score]) -> str:
    """Return the scores in reStructuredText: a table, and the score with equivalent mutants."""
    scores = [entry for entry in scores if entry.tested]
    fields = ("population", "tested", "killed", "equivalent", "explained")
    sums = Score("all", *(sum(getattr(entry, field) for entry in scores) for field in fields))
    rule = _line(*("=" * width for width in _WIDTHS))
    rows = [_row(entry, entry.percent, *entry.interval()) for entry in scores]
    if scores:
        rows.append(_row(sums, *total(scores)))
    percent, low, high = total_with_equivalent(scores)
    both = (
        f"If equivalent mutants counted as survivors, the score would be {percent:.1f} % "
        f"({low:.0f} to {high:.0f} %)."
    )
    return "\n".join([rule, _line(*_COLUMNS), rule, *rows, rule, "", both])


def _row(entry: Score, percent: float, low: float, high: float) -> str:
    counts = (
        entry.population, entry.tested, entry.killed,
        entry.equivalent, entry.explained, entry.unexplained,
    )  # fmt: skip
    return _line(entry.name, *counts, f"{percent:.1f} %", f"{low:.0f} to {high:.0f} %")


def _line(name: str, *cells: object) -> str:
    aligned = [f"{cell:>{width}}" for cell, width in zip(map(str, cells), _WIDTHS[1:], strict=True)]
    return "  ".join([f"{name:<{_WIDTHS[0]}}", *aligned])
