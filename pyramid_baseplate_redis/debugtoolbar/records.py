"""The data that the recorder collects: operations, totals, and groups with a common origin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..runtime.call_stack import CallingLine

MOST_VALUES = 10_000


@dataclass(frozen=True)
class ReplySize:
    """The size of one reply, or of several together."""

    #: The bytes of the values, without those of the protocol. A character counts as one byte.
    bytes: int = 0
    #: True if there were too many values to count them all.
    is_least: bool = False

    def __add__(self, other: ReplySize) -> ReplySize:
        return ReplySize(self.bytes + other.bytes, self.is_least or other.is_least)


def reply_size(reply: object) -> ReplySize:
    """Return the size of a reply as redis-py returned it; count its first 10,000 values only."""
    total = seen = 0
    levels: list[Iterator[Any]] = [iter((reply,))]
    while levels:
        for value in levels[-1]:
            seen += 1
            if seen > MOST_VALUES:
                return ReplySize(total, is_least=True)
            if isinstance(value, (str, bytes)):
                total += len(value)
            elif isinstance(value, (int, float)):
                total += len(str(value))
            else:
                inside = _inside(value)
                if inside is not None:
                    levels.append(iter(inside))
                    break
        else:
            levels.pop()
    return ReplySize(total)


def _inside(value: object) -> Iterable[Any] | None:
    if isinstance(value, Mapping):
        return (part for item in value.items() for part in item)
    return value if isinstance(value, (list, tuple, set, frozenset)) else None


@dataclass(frozen=True)
class RecordedOperation:
    """A command, or the execution of a pipeline; times in seconds."""

    client: str
    #: ``GET``, or ``pipeline_load_page``.
    name: str
    is_pipeline: bool
    #: The commands sent; of a long pipeline, the first ones.
    commands: tuple[str, ...]
    #: The number of further commands of the pipeline.
    left_out: int
    #: The start, since the recorder began.
    at: float
    #: The duration, including the wait for a connection.
    duration: float
    #: The wait for a connection.
    waited: float
    size: ReplySize
    error: str | None
    #: The calling lines of the application, innermost first; empty if unknown.
    lines: tuple[CallingLine, ...]

    @property
    def executed(self) -> float:
        """The duration without the wait for a connection."""
        return self.duration - self.waited

    @property
    def origin(self) -> tuple[object, ...]:
        """The client, the name and the innermost line, which the operations of a group share."""
        return (self.client, self.name, self.lines[:1])


@dataclass
class Totals:
    """The totals of one client, or of all; times in seconds."""

    operations: int = 0
    #: The number of commands, each one in a pipeline counted.
    commands: int = 0
    duration: float = 0.0
    waited: float = 0.0
    size: ReplySize = field(default_factory=ReplySize)
    errors: int = 0

    def add(self, other: Totals) -> None:
        """Add other totals to these."""
        self.operations += other.operations
        self.commands += other.commands
        self.duration += other.duration
        self.waited += other.waited
        self.size += other.size
        self.errors += other.errors


@dataclass
class Group:
    """The operations of one name on one client from one line of the application.

    Times are in seconds.
    """

    first: RecordedOperation
    #: True if the command waits on the server, as BLPOP does.
    is_blocking: bool
    count: int = 0
    #: True if all had the same arguments, as far as they are shown.
    is_same: bool = True
    #: The longest duration, without the wait for a connection.
    longest: float = 0.0
    longest_wait: float = 0.0
    largest: ReplySize = field(default_factory=ReplySize)

    def add(self, operation: RecordedOperation) -> None:
        """Count an operation."""
        self.count += 1
        self.is_same = self.is_same and operation.commands == self.first.commands
        self.longest = max(self.longest, operation.executed)
        self.longest_wait = max(self.longest_wait, operation.waited)
        self.largest = max(self.largest, operation.size, key=lambda size: size.bytes)


@dataclass(frozen=True)
class Recording:
    """The result of a :class:`~.recorder.Recorder`; times in seconds since it began."""

    #: The operations in the order in which they started.
    operations: tuple[RecordedOperation, ...]
    #: The number of further operations, which only totals and groups count.
    left_out: int
    clients: dict[str, Totals]
    groups: tuple[Group, ...]
    #: The time when the handler returned; ``None`` before.
    handled: float | None

    @property
    def total(self) -> Totals:
        """The totals of all clients."""
        total = Totals()
        for totals in self.clients.values():
            total.add(totals)
        return total

    def is_after_response(self, operation: RecordedOperation) -> bool:
        """Return whether an operation started after the handler had returned."""
        return self.handled is not None and operation.at > self.handled

    @property
    def seconds_left_out(self) -> dict[str, float]:
        """The duration of each client's operations that only totals and groups count."""
        if not self.left_out:
            return {}
        seconds = {name: totals.duration for name, totals in self.clients.items()}
        for operation in self.operations:
            seconds[operation.client] -= operation.duration
        return {name: max(0.0, value) for name, value in seconds.items()}

    @property
    def seconds(self) -> float:
        """The duration of the request, including operations after the response."""
        ends = (operation.at + operation.duration for operation in self.operations)
        return max(self.handled or 0.0, *ends, 0.0)
