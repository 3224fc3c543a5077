"""Measure every bound that the documents promise.

    python -m tests.faults.bounds [--only FAULT] [--json] [--write] [--gevent]

The exit status is 1 if a bound is missed. ``--write`` records the table that
docs/explanation/bounds.rst shows.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from .faults import Fault
from .limits import Limits
from .measuring import Cell, as_json, measured, missed
from .operations import OPERATIONS
from .standalone import Standalone
from .table import rendered
from .topologies import BehindSentinels, OnCluster

SERVERS = (Standalone, BehindSentinels, OnCluster)
RECORDED = Path(__file__).parents[3] / "docs/explanation/bounds.txt"


def all_faults(directory: Path, limits: Limits, stack: ExitStack) -> Iterator[Fault]:
    """Yield all faults; the servers that they need live as long as the stack."""
    for servers in SERVERS:
        own = directory / servers.__name__
        own.mkdir()
        yield from stack.enter_context(servers(own, limits)).faults()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.bounds", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--only", metavar="FAULT", help="the faults whose name contains this")
    parser.add_argument("--json", action="store_true", help="print an object for each cell")
    parser.add_argument("--write", action="store_true", help=f"record the table in {RECORDED.name}")
    parser.add_argument("--gevent", action="store_true", help="greenlets instead of threads")
    given = parser.parse_args(arguments)
    if given.gevent and "gevent" not in sys.modules:  # it has to come before everything else
        module = ["-m", "gevent.monkey", "--module", "tests.faults.bounds"]
        os.execv(sys.executable, [sys.executable, *module, *sys.argv[1:]])
    if given.write and given.only is not None:
        parser.error("--write: records all faults. Leave out --only.")
    logging.disable(logging.CRITICAL)
    limits = Limits()
    cells: list[Cell] = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for fault in all_faults(directory, limits, stack):
            if given.only is None or given.only in fault.name:
                cells += measured(fault, list(OPERATIONS.values()), limits)
    if not cells:
        parser.error(f"--only: no fault has {given.only!r} in its name")
    text = rendered(cells)
    if given.write:
        RECORDED.write_text(text)
    output = "\n".join(map(json.dumps, as_json(cells))) if given.json else text
    sys.stdout.write(f"{output}\n")
    return 1 if missed(cells) else 0


if __name__ == "__main__":
    sys.exit(main())
