"""The deadline of the call that runs now, for the code that waits: pools, connections, retries."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

# The phases of a call. The text of DeadlineExceededError names them.
WAITING = "waiting for a connection"
CONNECTING = "connecting"
PACKING = "packing the commands"
SENDING = "sending"
READING = "waiting for the reply"
RETRYING = "waiting before a retry"
LOOKING_UP = "looking up the layout of the Cluster"
DISCOVERING = "asking the Sentinels for a server"

LEAST_SECONDS = 0.001  # a timeout of 0 would mean something else to a socket
# A socket's timeout may end a little before the deadline for which it was set.
_TOLERANCE_SECONDS = 0.002
_TOLERATED_PART = 0.1  # of the time in all


class Deadline:
    """The end of the time for one call, and what the time was spent on so far.

    :param ends_at: a time of :func:`time.monotonic`.
    """

    def __init__(self, ends_at: float) -> None:
        self.ends_at = ends_at
        #: Seconds spent on each phase that has ended.
        self.spent: dict[str, float] = {}
        #: The phase that the call is in.
        self.phase = WAITING
        self._since = time.monotonic()
        self._tolerance = min(_TOLERANCE_SECONDS, (ends_at - self._since) * _TOLERATED_PART)
        #: Whether :func:`as_phase` records all of the time as one phase.
        self.is_in_one_phase = False

    def enter(self, phase: str) -> None:
        """Record that the call goes on with ``phase``."""
        if self.is_in_one_phase:
            return
        now = time.monotonic()
        self.spent[self.phase] = self.spent.get(self.phase, 0.0) + now - self._since
        self.phase, self._since = phase, now

    @property
    def left(self) -> float:
        """Return the seconds that are left; negative after the deadline."""
        return self.ends_at - time.monotonic()

    @property
    def has_passed(self) -> bool:
        """Return whether no time is left."""
        return self.left <= 0

    @property
    def has_run_out(self) -> bool:
        """Return whether an error just now may have been raised because no time was left."""
        return self.left <= self._tolerance

    def shorten(self, seconds: float | None) -> float:
        """Return ``seconds``, or what is left if that is less, but always more than 0.

        :param seconds: a timeout; ``None`` for none.
        """
        left = max(LEAST_SECONDS, self.left)
        return left if seconds is None else min(seconds, left)


_current: ContextVar[Deadline | None] = ContextVar("pyramid_baseplate_redis_deadline", default=None)

#: Return the deadline of the call that runs now; ``None`` if it has none.
current_deadline = _current.get


def called(deadline: Deadline, call: Callable[[], T]) -> T:
    """Call ``call`` with ``deadline`` as the current one, and return its result."""
    # This is neither a context manager nor a token to reset: a signal handler may raise right after
    # set(), and a deadline that stays would end all later calls of the thread.
    before = _current.get()
    try:
        _current.set(deadline)
        return call()
    finally:
        _current.set(before)


def shortened(seconds: float | None) -> float | None:
    """Return a timeout in seconds, or the rest of the current call's time if that is less."""
    deadline = _current.get()
    return seconds if deadline is None else deadline.shorten(seconds)


def enter_phase(phase: str) -> None:
    """Record that the current call, if it has a deadline, goes on with ``phase``."""
    deadline = _current.get()
    if deadline is not None:
        deadline.enter(phase)


@contextmanager
def as_phase(phase: str) -> Iterator[None]:
    """Record all that the current call does in this block as ``phase``.

    The block sends commands that prepare the call's own: to a Sentinel, or for a layout.
    """
    deadline = _current.get()
    if deadline is None or deadline.is_in_one_phase:
        yield
        return
    before = deadline.phase
    deadline.enter(phase)
    deadline.is_in_one_phase = True
    try:
        yield
    finally:
        deadline.is_in_one_phase = False
        if not deadline.has_run_out:  # otherwise this is the phase in which the time was up
            deadline.enter(before)


def ends_at() -> float:
    """Return the current call's deadline, a time of :func:`time.monotonic`; infinite for none."""
    deadline = _current.get()
    return math.inf if deadline is None else deadline.ends_at
