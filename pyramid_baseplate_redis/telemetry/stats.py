"""The state of pools and queues as plain numbers, for metrics, Prometheus and predis."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class PoolStats:
    """What a pool is doing, and what it did since the process began; see the README."""

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
    """What is in a queue."""

    length: int  #: messages that aren't acknowledged, received or not
    in_flight: int  #: of these, how many were received
    oldest_age: timedelta | None  #: how long ago the oldest of them was put
    dead: int  #: dead letters
