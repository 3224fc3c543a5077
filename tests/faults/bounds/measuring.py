"""Measure the operations under one fault, all at the same time, and compare with the bounds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from .faults import Fault
from .formulae import promised
from .limits import Limits
from .operations import App, Operation

SLACK = 0.3  # seconds by which a busy machine may be late
_GIVEN_UP = 20.0  # seconds, after which a call is reported as one that does not end


@dataclass(frozen=True)
class Cell:
    """An operation under a fault. Times are in seconds.

    :param bound: the promise; ``None`` if the fault does not apply.
    :param formula: the name of the bound's formula.
    :param measured: the time that the operation took.
    :param outcome: the name of its error, or ``no error``.
    :param reason: why the fault does not apply.
    """

    fault: str
    operation: str
    bound: float | None = None
    formula: str = ""
    measured: float | None = None
    outcome: str = ""
    reason: str = ""

    def is_missed(self, slack: float = SLACK) -> bool:
        """Return whether the operation took longer than promised."""
        if self.bound is None or self.measured is None:
            return False
        return self.measured > self.bound + slack


class _Call(threading.Thread):
    """A call of an operation, which is given up if it does not end."""

    def __init__(self, operation: Operation, app: App, together: threading.Barrier) -> None:
        super().__init__(daemon=True)
        self.operation = operation
        self._app = app
        self._together = together
        self.seconds: float | None = None
        self.outcome = "does not end"

    def run(self) -> None:
        outcome = "no error"
        self._together.wait(_GIVEN_UP)
        started = time.monotonic()
        try:
            self.operation.run(self._app)
        except Exception as error:
            outcome = type(error).__name__
        self.seconds, self.outcome = time.monotonic() - started, outcome


def measured(fault: Fault, operations: Sequence[Operation], limits: Limits) -> list[Cell]:
    """Make the fault for each operation, and measure the operations; see :class:`Fault`."""
    affected = [each for each in operations if each.name not in fault.left_out]
    groups = [affected] if fault.together else [[each] for each in affected]
    slowest: dict[str, _Call] = {}
    for group in groups:
        for call in sorted(_called(fault, group), key=lambda call: call.seconds or _GIVEN_UP):
            slowest[call.operation.name] = call
    return [
        _cell(fault, operation, slowest.get(operation.name), limits) for operation in operations
    ]


def _called(fault: Fault, operations: Sequence[Operation]) -> list[_Call]:
    """Call operations at the same time, and wait for their ends."""
    with ExitStack() as stack:
        apps = [stack.enter_context(fault.stage(operation)) for operation in operations]
        together = threading.Barrier(max(1, len(apps) * fault.threads))
        stack.enter_context(fault.begin())
        calls = [
            _Call(operation, app, together)
            for operation, app in zip(operations, apps, strict=True)
            for _ in range(fault.threads)
        ]
        for call in calls:
            call.start()
        ends_at = time.monotonic() + _GIVEN_UP
        for call in calls:
            call.join(max(0.0, ends_at - time.monotonic()))
    return calls


def _cell(fault: Fault, operation: Operation, call: _Call | None, limits: Limits) -> Cell:
    if call is None:
        reason = fault.left_out[operation.name]
        return Cell(fault.name, operation.name, reason=reason)
    seconds = _GIVEN_UP if call.seconds is None else call.seconds
    bound = promised(fault.formula, operation, limits)
    return Cell(
        fault.name, operation.name, round(bound.seconds, 6), bound.formula.name, seconds,
        call.outcome,
    )  # fmt: skip


def missed(cells: Iterable[Cell], slack: float = SLACK) -> list[Cell]:
    """Return the cells whose bound is missed."""
    return [cell for cell in cells if cell.is_missed(slack)]


def as_json(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """Return the cells for programs; times in seconds."""
    return [{**vars(cell), "missed": cell.is_missed()} for cell in cells]
