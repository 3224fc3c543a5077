"""The state of pools and queues as plain numbers, for metrics, Prometheus and predis."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class PoolStats:
    """The state of a pool and its totals; docs/pools-and-timeouts.rst explains the fields."""

    max: int
    open: int
    idle: int
    in_use: int
    waiting: int
    waits: int
    timeouts: int
    creations: int
    discards: int


@dataclass(frozen=True)
class QueueStats:
    """The contents of a queue."""

    length: int  #: messages that may be received or are being processed
    in_flight: int  #: those of them that were received
    oldest_age: timedelta | None  #: the age of the oldest of them
    dead: int  #: number of dead letters
    waiting: int = 0  #: failed messages that wait until they are due
    delayed: int = 0  #: messages of ``put(delay=...)`` and ``put(at=...)`` that are not due yet
