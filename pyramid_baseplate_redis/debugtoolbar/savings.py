"""Estimates of the time that a suggestion would save."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from .marks import is_large, is_slow
from .quantities import milliseconds
from .records import Group, RecordedOperation, Recording
from .timeline import Interval, covered


@dataclass(frozen=True)
class Saving:
    """The most that a suggestion can save, which is never more than the time spent."""

    seconds: float
    #: The explanation: ``11 of 12 round trips at the median of 0.12 ms``.
    basis: str


class Savings:
    """Estimates for one recording.

    They use the operations that were kept. Operations that overlap, as those of several threads
    do, count once.
    """

    def __init__(self, recording: Recording) -> None:
        self._operations = recording.operations
        self._seconds_left_out = recording.seconds_left_out
        self._kept: dict[object, list[RecordedOperation]] = {}
        for operation in recording.operations:
            self._kept.setdefault(operation.origin, []).append(operation)

    def of_many(self, group: Group) -> Saving:
        """Estimate what is saved if one round trip replaces those of the group."""
        kept = self._kept_of(group)
        typical = median(operation.executed for operation in kept)
        left_out = self._seconds_left_out.get(group.first.client, 0.0)
        spent = covered(map(_execution, kept)) + (left_out if group.count > len(kept) else 0.0)
        trips = (group.count - 1) * typical
        basis = (
            f"{group.count - 1} of {group.count} round trips at the median of "
            f"{milliseconds(typical)}"
        )
        most = max(0.0, spent - typical)
        if trips <= most * 1.01:
            return Saving(min(trips, most), basis)
        return Saving(most, f"{basis}, but not more than they took together")

    def of_slow(self, group: Group) -> Saving:
        """Estimate what is saved if the slow operations took as long as the fastest one."""
        fastest, basis = self._fastest(group.first.client)
        slow = [each for each in self._kept_of(group) if is_slow(each.executed)]
        seconds = covered(_beyond(each, fastest) for each in slow)
        return Saving(max(seconds, group.longest - fastest), basis)

    def of_large(self, group: Group) -> Saving | None:
        """Estimate what is saved if the large replies took as long as the fastest operation.

        Return ``None`` if no operation with a large reply was kept.
        """
        fastest, basis = self._fastest(group.first.client)
        large = [each for each in self._kept_of(group) if is_large(each.size)]
        if not large:
            return None
        return Saving(covered(_beyond(each, fastest) for each in large), basis)

    def of_wait(self, group: Group) -> Saving:
        """Estimate what is saved if the group never waits for a connection."""
        waits = [(each.at, each.at + each.waited) for each in self._kept_of(group)]
        return Saving(max(covered(waits), group.longest_wait), "the whole wait")

    def _kept_of(self, group: Group) -> Sequence[RecordedOperation]:
        return self._kept.get(group.first.origin) or (group.first,)

    def _fastest(self, client: str) -> tuple[float, str]:
        """Return the fastest round trip of a client, and the basis of what is saved beyond it."""
        fastest = min(
            (
                each.executed
                for each in self._operations
                if each.client == client and _is_fine(each)
            ),
            default=None,
        )
        if fastest is None:
            return 0.0, "the whole time"
        return fastest, f"the time beyond the fastest operation's {milliseconds(fastest)}"


def _is_fine(operation: RecordedOperation) -> bool:
    return not (operation.error or is_slow(operation.executed) or is_large(operation.size))


def _execution(operation: RecordedOperation) -> Interval:
    return (operation.at + operation.waited, operation.at + operation.duration)


def _beyond(operation: RecordedOperation, fastest: float) -> Interval:
    start, end = _execution(operation)
    return (min(end, start + fastest), end)
