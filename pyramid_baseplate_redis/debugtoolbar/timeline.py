"""The part of a request that Redis took."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .records import Recording

#: The start and the end of an interval, in seconds since the recorder began.
Interval = tuple[float, float]


def covered(intervals: Iterable[Interval]) -> float:
    """Return how many seconds are in at least one of the intervals.

    Operations of several threads overlap. This counts the time that they share once.
    """
    seconds, until = 0.0, float("-inf")
    for start, end in sorted(intervals):
        seconds += max(0.0, end - max(start, until))
        until = max(until, end)
    return seconds


@dataclass(frozen=True)
class Share:
    """The time of a request and the part that Redis took; in seconds."""

    #: The time until the handler returned: views, templates and tweens.
    request: float
    #: The time in which an operation was running or waiting for a connection.
    redis: float
    #: The part of it in which operations did nothing but wait for a connection.
    waiting: float
    #: The sum of the operations' durations, which is larger if operations overlap.
    added: float
    #: True if some operations were not kept. Then ``redis`` is the most that it can have been.
    is_most: bool

    @property
    def application(self) -> float:
        """The time in which no operation was running or waiting."""
        return self.request - self.redis


def share_of(recording: Recording) -> Share:
    """Return the part of a request that Redis took; operations after the response don't count."""
    handled = recording.handled
    request = recording.seconds if handled is None else handled
    whole, executed = [], []
    for operation in recording.operations:
        start, end = max(0.0, operation.at), min(request, operation.at + operation.duration)
        if start < end:
            whole.append((start, end))
            executed.append((min(end, max(start, operation.at + operation.waited)), end))
    left_out = sum(recording.seconds_left_out.values())
    redis = min(request, covered(whole) + left_out)
    return Share(
        request=request,
        redis=redis,
        waiting=max(0.0, covered(whole) - covered(executed)),
        added=sum(end - start for start, end in whole) + left_out,
        is_most=recording.left_out > 0,
    )
