"""The outcome of each test of a suite, and which outcomes are worse with our client."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

Outcomes = dict[str, str]
"""``passed``, ``skipped``, ``failed`` or ``error`` by test."""

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


def worse(plain: Outcomes, ours: Outcomes) -> dict[str, str]:
    """Return what became of the tests that pass with plain redis-py and don't with our client.

    A test that is skipped or isn't there has not passed either.
    """
    found = {
        test: ours.get(test, "not run") for test, outcome in plain.items() if outcome == "passed"
    }
    return {test: outcome for test, outcome in found.items() if outcome != "passed"}


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
