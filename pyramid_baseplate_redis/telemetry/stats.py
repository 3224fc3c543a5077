"""The state of pools and queues as plain numbers, for metrics, Prometheus and predis."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class PoolStats:
    """The state of a connection pool, and its totals since the process started."""

    max: int  #: connections that the pool may have
    open: int  #: connections that it has, idle and in use
    idle: int  #: connections that are open and not in use
    in_use: int  #: connections that were checked out and not returned
    waiting: int  #: callers that wait for a connection now
    waits: int  #: callers that had to wait, so far
    timeouts: int  #: callers that waited in vain, so far
    creations: int  #: connections that were made, so far
    discards: int  #: connections that were closed: too old, broken, or with an unread reply


@dataclass(frozen=True)
class QueueStats:
    """The contents of a queue."""

    length: int  #: messages that may be received or are being processed
    in_flight: int  #: those of them that were received
    oldest_age: timedelta | None  #: the age of the oldest of them
    dead: int  #: number of dead letters
    waiting: int = 0  #: failed messages that wait until they are due
    delayed: int = 0  #: messages of ``put(delay=...)`` and ``put(at=...)`` that are not due yet
