"""The report of a hunt: what was done, which faults there were, and what was found."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from .hunt import Hunt

_MOST_EXAMPLES = 6  # of each kind of failure


def report(hunt: Hunt, faults: dict[str, int], found: dict[str, list[str]]) -> int:
    """Print the report, and return the exit code: 0 if nothing was found.

    :param faults: how many of each there were.
    :param found: examples of each kind of failure.
    """
    workers = hunt.workers
    errors: Counter[str] = sum((worker.errors for worker in workers), Counter())
    table = Table("what", "how many", title=f"the hunt, {hunt.topology}, seed {hunt.seed}")
    table.add_row("workers", str(len(workers)))
    table.add_row("replies checked", str(sum(worker.commands for worker in workers)))
    table.add_row("interrupts", str(sum(worker.interrupts for worker in workers)))
    table.add_row("misuses refused", str(sum(worker.refusals for worker in workers)))
    table.add_row("children", str(hunt.forks.children))
    for name, count in hunt.checked.items():
        table.add_row(name, str(count))
    table.add_section()
    for name, count in sorted(faults.items()):
        table.add_row(name, str(count))
    table.add_section()
    for name, count in errors.most_common():
        table.add_row(name, str(count))
    table.add_section()
    for name, items in found.items():
        table.add_row(name, str(len(items)))
    console = Console(highlight=False)
    for name, items in found.items():
        for item in _examples(items):
            console.print(f"--- {name}:\n{item}", markup=False, soft_wrap=True)
    console.print(table)
    failed = {name: len(items) for name, items in found.items() if items}
    text = ", ".join(f"{count} {name}" for name, count in failed.items()) or "nothing"
    console.print(f"found {text}", markup=False)
    return 1 if failed else 0


def _examples(items: list[str]) -> list[str]:
    """Return up to six items, one for each kind of error at first."""
    kinds: dict[str, str] = {}
    for item in items:
        kinds.setdefault(item.strip().rpartition("\n")[2].partition(":")[0], item)
    return [*kinds.values()][:_MOST_EXAMPLES]
