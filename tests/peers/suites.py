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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mirakuru.exceptions import AlreadyRunning

from ..support.servers import server_binary
from .environments import python_with
from .outcomes import Outcomes, better, read_outcomes, summary, worse
from .projects import PROJECTS, Project
from .servers import running_servers

_HERE = Path(__file__).parent
_LONGEST_SECONDS = 1800
_STDERR = 2
_SECONDS_BEFORE_STACKS = 180  # a test that hangs shows where


class NothingPassed(Exception):  # noqa: N818  # a reason to end, with status 2
    """The suite does not run here."""


class Swapped(enum.Enum):
    """What of redis-py is replaced by ours."""

    NOTHING = "plain"
    CLIENT = "ours"
    POOLS = "ours, pools too"


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

    def run(self, swapped: Swapped) -> Outcomes:
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
        outcomes: Outcomes = {}
        for line in self.project.tests.splitlines():
            outcomes |= self._run_process(shlex.split(line), environment)
        return outcomes

    def _run_process(self, tests: Sequence[str], environment: dict[str, str]) -> Outcomes:
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
            return read_outcomes(report)


def compare(suite: Suite, *, pools: bool = False) -> bool:
    """Run a suite with plain redis-py and with our client, and print how the outcomes differ.

    :param pools: run it once more, with our pool in the place of redis-py's, too.
    :returns: whether all that passes with plain redis-py passes with ours.
    :raises NothingPassed: if there is nothing to compare with.
    """
    plain = suite.run(Swapped.NOTHING)
    print(f"plain: {summary(plain)}")  # noqa: T201
    if "passed" not in plain.values():
        raise NothingPassed("no test passes with plain redis-py; see the output of pytest above")
    all_found: dict[str, str] = {}
    for swapped in (Swapped.CLIENT, Swapped.POOLS) if pools else (Swapped.CLIENT,):
        ours = suite.run(swapped)
        print(f"{swapped.value}: {summary(ours)}")  # noqa: T201
        for test in better(plain, ours):
            print(f"  passes only with {swapped.value}: {test}")  # noqa: T201
        found = worse(plain, ours)
        all_found |= found
        for test, outcome in found.items():
            print(f"  {outcome} only with {swapped.value}: {test}")  # noqa: T201
    return not all_found


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
    except (AlreadyRunning, NothingPassed) as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    sys.exit(main())
