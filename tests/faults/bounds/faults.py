"""The faults of the table of bounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from .formulae import Formula
from .operations import App, Operation


@dataclass(frozen=True)
class Fault:
    """A fault, which is a row of the table.

    :param name: the row's name.
    :param stage: makes the fault for one operation; yields the application that meets it.
    :param formula: the bound of a command.
    :param left_out: the names of operations to which it does not apply, with reasons.
    :param together: whether all operations are measured at the same time. Those that need the CPU
        would disturb each other.
    :param threads: how many threads make the same call at the same time; the slowest counts.
    :param begin: makes the fault for all operations, when the applications are ready.
    """

    name: str
    stage: Callable[[Operation], AbstractContextManager[App]]
    formula: Formula
    left_out: Mapping[str, str] = field(default_factory=dict)
    together: bool = True
    threads: int = 1
    begin: Callable[[], AbstractContextManager[object]] = nullcontext
