"""A slot of the pool for a connection: who uses it, since when, and when it is to be closed."""

from __future__ import annotations

import math
import weakref
from typing import Any


class PoolSlot:
    """One of the pool's ``maxsize`` slots for a connection, taken while this object lives.

    :param taken: the pool's dictionary of taken slots.
    """

    __slots__ = (
        "__weakref__", "asked_at", "closes_at", "connection", "counted", "taken", "taken_at",
        "taken_by", "turn_ends", "turn_of", "warned_at",
    )  # fmt: skip

    def __init__(self, taken: TakenSlots) -> None:
        # Not the queue: it refers to idle slots, and a reference back would keep their connections
        # open after the pool is dropped.
        self.taken = taken
        self.counted: weakref.ref[PoolSlot] | None = None
        self.connection: weakref.ref[Any] | None = None
        # All times are those of time.monotonic().
        self.asked_at: float | None = None  # for the connection; None if no times are recorded
        self.closes_at = math.inf
        self.taken_at = math.inf  # while no caller uses the connection
        self.turn_ends = -math.inf
        self.warned_at: float | None = None
        self.taken_by: Any = None
        self.turn_of: int | None = None  # identifier of a thread or greenlet

    def fill(self, connection: Any, closes_at: float) -> None:
        """Record the slot's connection, and the time after which it is replaced."""
        self.connection = weakref.ref(connection)
        self.closes_at = closes_at

    def check_in(self, connection: Any) -> float | None:
        """Record that the caller returns the connection.

        :returns: the time of the check-out, or ``None`` if it was returned before. If two
            threads return it at once, one of them gets the time.
        """
        state = connection.__dict__
        if state.pop("slot", None) is None:
            return None
        if "probe" in state:
            del state["probe"]
        taken_at, self.taken_at = self.taken_at, math.inf
        return taken_at

    def overdue(self, limit: float, now: float) -> float | None:
        """Return, once for each use, how long it has taken if that is ``limit`` seconds or more."""
        taken_at = self.taken_at
        if now - taken_at < limit or self.warned_at == taken_at:
            return None
        self.warned_at = taken_at
        return now - taken_at

    def expire(self) -> None:
        """Have the connection replaced at its next check-out, or closed at its return."""
        self.closes_at = -math.inf

    @property
    def is_expired(self) -> bool:
        """Return whether :meth:`expire` was called since the slot got its connection."""
        return self.closes_at == -math.inf

    def vacate(self) -> None:
        """Free the slot now, even if the traceback of an exception still refers to this object."""
        counted, self.counted = self.counted, None
        if counted is not None:
            self.taken.pop(counted, None)
            del counted  # before this slot is dropped: a dropped weak reference has no callback


TakenSlots = dict["weakref.ref[PoolSlot]", None]
