"""The table of bounds as text, and what a recorded one says."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from .measuring import Cell, missed

_WIDTH = 132
_NOT_APPLICABLE = "-"


def rendered(cells: Sequence[Cell]) -> str:
    """Return the table as text: the time measured, and below it the bound, in milliseconds."""
    operations = list(dict.fromkeys(cell.operation for cell in cells))
    made = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), leading=1)
    made.add_column("fault")
    for operation in operations:
        head = operation.replace(" ", "\n").replace("transaction", "trans-\naction")
        made.add_column(head, justify="right", vertical="bottom")
    for fault in dict.fromkeys(cell.fault for cell in cells):
        row = {cell.operation: cell for cell in cells if cell.fault == fault}
        shown = [_shown(row.get(operation)) for operation in operations]
        made.add_row(fault, *shown)
    stream = io.StringIO()
    console = Console(file=stream, width=_WIDTH, color_system=None, highlight=False, markup=False)
    console.print(made)
    text = "\n".join(line.rstrip() for line in stream.getvalue().splitlines())
    return "\n".join([text.strip("\n"), "", *_notes(cells), ""])


def _shown(cell: Cell | None) -> str:
    if cell is None:
        return ""
    if cell.bound is None or cell.measured is None:
        return _NOT_APPLICABLE
    mark = "!" if cell.is_missed() else ""
    return f"{mark}{cell.measured * 1000:.0f}\n≤ {cell.bound * 1000:.0f}"


def _notes(cells: Sequence[Cell]) -> list[str]:
    notes: dict[str, list[str]] = {}
    for cell in cells:
        if cell.reason:
            operations = notes.setdefault(f"{cell.fault}: {cell.reason}", [])
            operations.append(cell.operation)
    lines = ["Milliseconds: the time measured, and below it the bound. -: does not apply:"]
    lines += [f"  {note} ({', '.join(operations)})" for note, operations in notes.items()]
    return lines + [complaint(cell) for cell in missed(cells)]


def complaint(cell: Cell) -> str:
    """Return a line that says which bound is missed."""
    assert cell.measured is not None
    assert cell.bound is not None
    return (
        f"missed: {cell.operation} with the fault {cell.fault!r} took {cell.measured:.3f} seconds. "
        f"The bound is {cell.bound:.3f} seconds ({cell.formula}); it ended with: {cell.outcome}"
    )


def recorded_bounds(text: str) -> dict[str, list[str]]:
    """Return the bounds of a rendered table by fault; ``-`` where the fault does not apply."""
    rows: dict[str, list[str]] = {}
    for times, bounds in itertools.pairwise(text.splitlines()):
        name = re.match(r" (\S.*?)  +!?\d", times)
        if name and "≤" in bounds:
            rows[name[1]] = re.findall(r"\d+|-", bounds)
    return rows
