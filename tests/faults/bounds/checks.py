"""Checks that no bound is missed under a fault."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from . import __main__ as command
from .faults import Fault
from .limits import Limits
from .measuring import measured, missed
from .operations import COMMAND, OPERATIONS
from .table import complaint

LIMITS = Limits()
# Nothing starts before a fault is made.
FAULTS = [fault.name for kind in command.SERVERS for fault in kind(Path(), LIMITS).faults()]
_BUSY = 1.0  # seconds by which a machine that runs other tests may be late
_HARMLESS = (
    "each reply just in time",
    "the same with health checks",
    "Sentinel: 1 of 3 frozen",
    "Sentinel: 2 of 3 frozen",
    "Sentinel: 1 of 3 drops SYN",
    "Sentinel: 2 of 3 drop SYN",
    "Sentinel: reads, primary frozen",
    "Cluster: reads, primary frozen",
)


@contextmanager
def all_faults(directory: Path) -> Iterator[dict[str, Fault]]:
    """Yield all faults by name. Their servers start when they are needed, and stop at the end."""
    with ExitStack() as stack:
        yield {fault.name: fault for fault in command.all_faults(directory, LIMITS, stack)}


def no_bound_is_missed(fault: Fault) -> None:
    """Check the time of each operation under a fault.

    :raises AssertionError: one took too long, or the command did not meet the fault.
    """
    cells = measured(fault, list(OPERATIONS.values()), LIMITS)
    assert [complaint(cell) for cell in missed(cells, _BUSY)] == []
    (outcome,) = [cell.outcome for cell in cells if cell.operation == COMMAND.name]
    assert outcome != "no error" or fault.name in _HARMLESS
