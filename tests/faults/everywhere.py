"""Where a test of this folder runs: under threads here, or in a process of its own, with gevent."""

from __future__ import annotations

import functools
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]
SECONDS = 90


def runs_under(*ways: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a test run in each of these ways.

    ``threads``: here. ``process``: in a process of its own, so that a signal, a crash or a deadlock
    is no one else's. ``gevent``: the same, where all that blocks is patched first.

    Of fixtures the test has ``tmp_path`` alone; its parameters have to fit into JSON.
    """

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        def run(how: str, **keywords: Any) -> None:
            if how == "threads":
                test(**keywords)
            else:
                _run_in_process(how, test, keywords)

        signature = inspect.signature(test)
        how = inspect.Parameter("how", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        made: Any = run
        functools.update_wrapper(made, test)  # its marks too
        made.__signature__ = signature.replace(parameters=[how, *signature.parameters.values()])
        del made.__wrapped__
        made.itself = test
        return pytest.mark.parametrize("how", [_marked(way) for way in ways])(run)

    return decorate


everywhere = runs_under("threads", "gevent")


def _marked(way: str) -> Any:
    reason = pytest.mark.slow("starts a process, which imports everything again")
    return way if way == "threads" else pytest.param(way, marks=reason)


def _run_in_process(how: str, test: Callable[..., None], keywords: dict[str, Any]) -> None:
    arguments = json.dumps({**keywords, "tmp_path": str(keywords["tmp_path"])})
    command = [sys.executable, "-m", "tests.faults.runner"]
    command += [how, test.__module__, test.__name__, arguments]
    # Without the coverage of this process, which slows the package alone and is all Python code,
    # where one may be interrupted too.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    ended = subprocess.run(
        command, cwd=PROJECT, timeout=SECONDS, capture_output=True, text=True, check=False,
        env=environment,
    )  # fmt: skip
    assert ended.returncode == 0, f"ended with {ended.returncode}:\n{ended.stderr[-8000:]}"
