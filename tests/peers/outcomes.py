"""The outcome of each test of a suite, and which outcomes are worse with our client."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

Outcomes = dict[str, str]
"""``passed``, ``skipped``, ``failed`` or ``error`` by test."""

Differences = Mapping[str, Sequence[str]]
"""Tests that pass with plain redis-py only, by the reason. A class stands for all of its tests."""

# pytest marks a test that failed as expected as skipped. The order is from good to bad.
_TAGS = {"skipped": "skipped", "failure": "failed", "error": "error"}
_ORDER = ("passed", *_TAGS.values())


def read_outcomes(report: Path) -> Outcomes:
    """Read pytest's JUnit XML; without a report, no test has run.

    A test that is reported twice, as when its teardown fails, has the worse of its outcomes.
    """
    outcomes: Outcomes = {}
    if not report.exists():  # pytest itself has crashed, or was killed
        return outcomes
    for case in ElementTree.parse(report).iter("testcase"):
        test = "::".join(filter(None, (case.get("classname"), case.get("name"))))
        found = [_TAGS[child.tag] for child in case if child.tag in _TAGS]
        outcomes[test] = max([outcomes.get(test, "passed"), *found], key=_ORDER.index)
    return outcomes


def read_used(report: Path) -> Counter[str]:
    """Read from pytest's JUnit XML how much of ours the tests used, such as clients."""
    used: Counter[str] = Counter()
    if report.exists():
        for found in ElementTree.parse(report).iter("property"):
            used[found.get("name", "")] += int(found.get("value", 0))
    return used


def worse(plain: Outcomes, ours: Outcomes) -> dict[str, str]:
    """Return what became of the tests that pass with plain redis-py and don't with our client.

    A test that is skipped or isn't there has not passed either.
    """
    found = {
        test: ours.get(test, "not run") for test, outcome in plain.items() if outcome == "passed"
    }
    return {test: outcome for test, outcome in found.items() if outcome != "passed"}


def reason_for(test: str, differences: Differences) -> str | None:
    """Return why a test passes with plain redis-py only; ``None`` if no reason is known."""
    names = _names(test)
    return next((why for why, tests in differences.items() if names.intersection(tests)), None)


def outdated(differences: Differences, plain: Outcomes, found: Mapping[str, str]) -> list[str]:
    """Return the differences of which nothing is found, although plain redis-py passes the tests.

    :param found: the tests that pass with plain redis-py only; see :func:`worse`.
    """
    passed = {name for test in plain if plain[test] == "passed" for name in _names(test)}
    differ = {name for test in found for name in _names(test)}
    listed = {test for tests in differences.values() for test in tests}
    return sorted((listed & passed) - differ)


def _names(test: str) -> set[str]:
    """Return a test's name without its parameters, and its class or module."""
    name = test.partition("[")[0]
    return {name, name.rpartition("::")[0]}


def better(plain: Outcomes, ours: Outcomes) -> list[str]:
    """Return the tests that pass with our client alone."""
    return [
        test
        for test, outcome in ours.items()
        if outcome == "passed" and plain.get(test) != "passed"
    ]


def summary(outcomes: Outcomes) -> str:
    """Return the numbers, such as ``3 passed, 1 failed``."""
    counted = Counter(outcomes.values())
    return ", ".join(f"{counted[outcome]} {outcome}" for outcome in _ORDER if counted[outcome])
