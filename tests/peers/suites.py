"""Run a project's tests twice, with plain redis-py and with our client, and compare the outcomes.

``python -m tests.peers.suites NAME CHECKOUT`` exits with 1 if a test passes with plain redis-py
only; see :mod:`tests.peers`.
"""

from __future__ import annotations

import argparse
import enum
import os
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mirakuru.exceptions import AlreadyRunning

from ..support.servers import server_binary
from .environments import python_with
from .outcomes import (
    Outcomes,
    better,
    outdated,
    read_outcomes,
    read_used,
    reason_for,
    summary,
    worse,
)
from .projects import PROJECTS, Project
from .servers import running_servers

_HERE = Path(__file__).parent
_LONGEST_SECONDS = 1800
_STDERR = 2
_SECONDS_BEFORE_STACKS = 180  # a test that hangs shows where


class NothingCompared(Exception):  # noqa: N818  # a reason to end, with status 2
    """The suite does not run here, or not with our client."""


class Swapped(enum.Enum):
    """What of redis-py is replaced by ours."""

    NOTHING = "plain"
    CLIENT = "ours"
    POOLS = "ours, pools too"


@dataclass
class Run:
    """The outcomes of the tests, and how much of ours they used."""

    outcomes: Outcomes = field(default_factory=dict)
    used: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Suite:
    """A project's tests, ready to run.

    :param python: an interpreter that has what they need.
    :param binary: the program of their servers.
    :param more: further arguments for pytest.
    """

    project: Project
    checkout: Path
    python: str
    binary: str
    more: Sequence[str] = ()

    def run(self, swapped: Swapped) -> Run:
        """Run the tests on fresh servers.

        :raises subprocess.TimeoutExpired: if they don't end.
        """
        paths, options = [_HERE / "plugins", self.checkout], ""
        if swapped is not Swapped.NOTHING:
            paths.insert(0, _HERE / "swap")
            options = "-p check_swap"
        environment = {
            **os.environ,
            **self.project.environment,
            "PATH": f"{Path(self.python).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "PYTEST_ADDOPTS": options,
            "SWAP_POOLS": "1" if swapped is Swapped.POOLS else "",
        }
        run = Run()
        for line in self.project.tests.splitlines():
            self._run_process(shlex.split(line), environment, run)
        return run

    def _run_process(self, tests: Sequence[str], environment: dict[str, str], run: Run) -> None:
        with tempfile.TemporaryDirectory() as directory:
            report = Path(directory) / "report.xml"
            command = [
                self.python, "-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider",
                "-o", f"faulthandler_timeout={_SECONDS_BEFORE_STACKS}", f"--junitxml={report}",
                *tests, *self.more,
            ]  # fmt: skip
            with running_servers(self.project.servers, self.binary, Path(directory)):
                subprocess.run(
                    command,
                    cwd=self.checkout,
                    env=environment,
                    stdout=_STDERR,  # our own lines alone are on standard output
                    check=False,
                    timeout=_LONGEST_SECONDS,
                )
            run.outcomes |= read_outcomes(report)
            run.used += read_used(report)


def compare(suite: Suite, *, pools: bool = False) -> bool:
    """Run a suite with plain redis-py and with our client, and print how the outcomes differ.

    :param pools: run it once more, with our pool in the place of redis-py's, too.
    :returns: whether all that passes with plain redis-py passes with ours, other than the
        differences that the project names.
    :raises NothingCompared: if there is nothing to compare with, or the tests used no client of
        ours.
    """
    plain = suite.run(Swapped.NOTHING).outcomes
    print(f"plain: {summary(plain)}")  # noqa: T201
    if "passed" not in plain.values():
        raise NothingCompared("no test passes with plain redis-py; see the output of pytest above")
    runs = [Swapped.POOLS] if suite.project.has_pools else [Swapped.CLIENT]
    if pools and Swapped.POOLS not in runs:
        runs.append(Swapped.POOLS)
    are_equal = [_compare_run(suite, plain, swapped) for swapped in runs]
    return all(are_equal)


def _compare_run(suite: Suite, plain: Outcomes, swapped: Swapped) -> bool:
    run = suite.run(swapped)
    print(f"{swapped.value}: {summary(run.outcomes)}")  # noqa: T201
    for test in better(plain, run.outcomes):
        print(f"  passes only with {swapped.value}: {test}")  # noqa: T201
    reasons: Counter[str] = Counter()
    differences = suite.project.differences
    found = worse(plain, run.outcomes)
    is_equal = True
    for test, outcome in found.items():
        reason = reason_for(test, differences)
        if reason is None:
            is_equal = False
            print(f"  {outcome} only with {swapped.value}: {test}")  # noqa: T201
        else:
            reasons[reason] += 1
    for reason, number in reasons.items():
        print(f"  {number} differ: {reason}")  # noqa: T201
    for test in outdated(differences, plain, found):
        is_equal = False
        print(f"  differs no longer with {swapped.value}: {test}")  # noqa: T201
    unused = [name for name in suite.project.must_use if not run.used[name]]
    if is_equal and unused:
        raise NothingCompared(f"{swapped.value}: the tests used no {' and no '.join(unused)}")
    used = ", ".join(f"{number} {name}" for name, number in sorted(run.used.items()))
    print(f"  used: {used}")  # noqa: T201
    return is_equal


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.peers.suites", description=__doc__)
    parser.add_argument("name", choices=PROJECTS)
    parser.add_argument("checkout", type=Path, help="the project's files: a checkout or an sdist")
    parser.add_argument("--python", help="an interpreter with all that is needed; default: a venv")
    parser.add_argument("--server", default=server_binary("valkey"), help="default: %(default)s")
    parser.add_argument("--pools", action="store_true", help="run it with our pools, too")
    parser.add_argument("pytest", nargs=argparse.REMAINDER, help="further arguments for pytest")
    options = parser.parse_args(arguments)
    project, checkout = PROJECTS[options.name], options.checkout.resolve()
    python = options.python or python_with(options.name, project, checkout)
    suite = Suite(project, checkout, python, options.server, options.pytest)
    try:
        return 0 if compare(suite, pools=options.pools) else 1
    except (AlreadyRunning, NothingCompared) as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    sys.exit(main())
