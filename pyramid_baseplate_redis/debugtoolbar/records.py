"""What was recorded of a request's Redis: operations, totals, and what one line issued often."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..runtime.call_stack import CallingLine

MOST_VALUES = 10_000


@dataclass(frozen=True)
class ReplySize:
    """The size of a reply, or of several."""

    #: Bytes of the values, without the protocol's own; a character of a text counts as one.
    bytes: int = 0
    #: Whether it has so many values that the rest wasn't counted.
    is_least: bool = False

    def __add__(self, other: ReplySize) -> ReplySize:
        return ReplySize(self.bytes + other.bytes, self.is_least or other.is_least)


def reply_size(reply: object) -> ReplySize:
    """The size of what redis-py returned; only the first 10,000 values are looked at."""
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
    """A command, or the execution of a pipeline."""

    client: str
    #: ``GET``, or ``pipeline_load_page``.
    name: str
    is_pipeline: bool
    #: What was sent; the first ones of a long pipeline.
    commands: tuple[str, ...]
    #: How many more there were.
    left_out: int
    #: Seconds since the recorder was made.
    at: float
    #: Seconds, the wait for a connection included.
    duration: float
    #: Seconds that it waited for a connection.
    waited: float
    size: ReplySize
    error: str | None
    #: Of the application, innermost first; none if no one knows.
    lines: tuple[CallingLine, ...]


@dataclass
class Totals:
    """Of a client, or of all."""

    operations: int = 0
    #: Those in pipelines are counted one by one.
    commands: int = 0
    #: Seconds, as are all times.
    duration: float = 0.0
    waited: float = 0.0
    size: ReplySize = field(default_factory=ReplySize)
    errors: int = 0

    def add(self, other: Totals) -> None:
        """Add what another has counted."""
        self.operations += other.operations
        self.commands += other.commands
        self.duration += other.duration
        self.waited += other.waited
        self.size += other.size
        self.errors += other.errors


@dataclass
class Group:
    """The operations of one name and one client that one line of the application issued."""

    first: RecordedOperation
    #: Whether it is meant to wait.
    is_blocking: bool
    count: int = 0
    #: Whether all had the same arguments, as far as they are shown.
    is_same: bool = True
    #: Seconds, without the wait for a connection.
    longest: float = 0.0
    longest_wait: float = 0.0
    largest: ReplySize = field(default_factory=ReplySize)

    def add(self, operation: RecordedOperation) -> None:
        """Count one more."""
        self.count += 1
        self.is_same = self.is_same and operation.commands == self.first.commands
        self.longest = max(self.longest, operation.duration - operation.waited)
        self.longest_wait = max(self.longest_wait, operation.waited)
        self.largest = max(self.largest, operation.size, key=lambda size: size.bytes)


@dataclass(frozen=True)
class Recording:
    """What a :class:`Recorder` has recorded; times in seconds since it began."""

    #: In the order in which they started.
    operations: tuple[RecordedOperation, ...]
    #: How many operations more there were, of which only the totals and the groups tell.
    left_out: int
    clients: dict[str, Totals]
    groups: tuple[Group, ...]
    #: When the response was there; ``None`` if it isn't yet.
    handled: float | None

    @property
    def total(self) -> Totals:
        """Of all clients."""
        total = Totals()
        for totals in self.clients.values():
            total.add(totals)
        return total

    @property
    def seconds(self) -> float:
        """How long the request took, with what its clients did behind the response."""
        ends = (operation.at + operation.duration for operation in self.operations)
        return max(self.handled or 0.0, *ends, 0.0)
