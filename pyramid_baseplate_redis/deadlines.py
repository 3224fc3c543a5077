"""Deadlines: how long a call may take in all, from ``foo.deadline`` and ``within()``."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import redis
from redis.exceptions import RedisClusterException

from .exceptions import CircuitOpenError, DeadlineExceededError, ForkedConnectionError
from .runtime.deadline import READING, SENDING, WAITING, Deadline, called, current_deadline

if TYPE_CHECKING:
    from .settings.client import ClientSettings

T = TypeVar("T")

# What a wait raises when its time is up: RedisClusterException if no node of a Cluster has
# answered, WatchError while keys are watched.
_TIMED_OUT = (
    redis.ConnectionError, redis.TimeoutError, RedisClusterException, redis.WatchError,
)  # fmt: skip
# Errors of these classes that are raised at once, or that the server replied.
_NO_WAIT = (CircuitOpenError, ForkedConnectionError, redis.AuthenticationError)
_LEAST_SHOWN_SECONDS = 0.001


class DeadlinePolicy:
    """Bounds each call of one client.

    :param client: the client's name.
    :param seconds: for each call; ``None`` for no limit.
    :param ends_at: a time of :func:`time.monotonic` at which all calls end; infinite for none.
    :param limit: what ends then, for messages: ``within()`` or ``foo.deadline``.
    :param limit_seconds: the seconds of that limit.
    """

    def __init__(
        self,
        client: str,
        seconds: float | None,
        ends_at: float = math.inf,
        limit: str = "",
        limit_seconds: float = 0.0,
    ) -> None:
        self._client = client
        self._seconds = seconds
        self._ends_at = ends_at
        self._limit = limit
        self._limit_seconds = limit_seconds

    @classmethod
    def of(cls, settings: ClientSettings | None, client: str) -> DeadlinePolicy | None:
        """Return the policy for a client's settings; ``None`` if it has no deadline.

        :param client: the client's name.
        """
        if settings is None or settings.deadline is None:
            return None
        return cls(client, settings.deadline.total_seconds())

    def within(self, seconds: float | timedelta) -> DeadlinePolicy:
        """Return a policy with which all calls end ``seconds`` from now, or earlier.

        :raises ValueError: ``seconds`` is not a positive, finite number.
        """
        if isinstance(seconds, timedelta):
            seconds = seconds.total_seconds()
        if not 0 < seconds < math.inf:
            raise ValueError(
                f"within: {seconds!r} is out of range. Write a positive number of seconds."
            )
        return self._ending_in(seconds, f"{self._client}.within()")

    def pause(self, seconds: float) -> float:
        """Return the pause between attempts with which the last one is at the end of the block.

        :param seconds: the longest pause.
        """
        left = self._ends_at - time.monotonic()
        if seconds <= 0 or not 0 < left < math.inf:
            return seconds
        return left / math.ceil(left / seconds)

    def for_one_call(self) -> DeadlinePolicy:
        """Return a policy for one call of the caller's that sends several commands."""
        if self._seconds is None:
            return self
        return self._ending_in(self._seconds, f"{self._client}.deadline")

    def _ending_in(self, seconds: float, limit: str) -> DeadlinePolicy:
        ends_at = time.monotonic() + seconds
        if ends_at < self._ends_at:
            return DeadlinePolicy(self._client, self._seconds, ends_at, limit, seconds)
        return self

    def run(self, call: Callable[[], T]) -> T:
        """Call ``call`` with a deadline and return its result.

        :raises DeadlineExceededError: the deadline passed before there was a result or an error
            that the server replied.
        """
        started = time.monotonic()
        each = math.inf if self._seconds is None else started + self._seconds
        outer = current_deadline()
        if outer is not None and outer.ends_at <= min(each, self._ends_at):
            return call()  # inside of a call that ends earlier
        deadline = Deadline(min(each, self._ends_at))
        if deadline.has_passed:
            raise self._error(each, deadline, "before the call began", unsent=True)
        try:
            return called(deadline, call)
        except _TIMED_OUT as error:
            if not deadline.has_run_out or isinstance(error, _NO_WAIT) or _is_conflict(error):
                raise
            unsent = bool(getattr(error, "unsent", False))
            if not deadline.spent:  # the pool is not one of ours: its connections record no phase
                raise self._error(each, deadline, "during the call", unsent=unsent) from error
            deadline.enter(deadline.phase)
            unsent = unsent or not (SENDING in deadline.spent or READING in deadline.spent)
            made = self._error(each, deadline, f"while {deadline.phase}", unsent=unsent)
            raise made from error

    def _error(
        self, each: float, deadline: Deadline, when: str, *, unsent: bool
    ) -> DeadlineExceededError:
        limit, seconds = self._limit, self._limit_seconds
        if self._seconds is not None and each <= self._ends_at:
            limit, seconds = f"{self._client}.deadline", self._seconds
        parts = [f"{spent:.3g} seconds {phase}" for phase, spent in deadline.spent.items()
                 if spent >= _LEAST_SHOWN_SECONDS]  # fmt: skip
        details = f" ({', '.join(parts)})" if parts else ""
        advice = f"Allow more than {seconds:g} seconds if this call may take longer."
        if deadline.spent and deadline.phase == WAITING:
            advice = (
                f"Raise {self._client}.max_connections, or allow more than {seconds:g} seconds."
            )
        return DeadlineExceededError(
            f"{limit}: the {seconds:g} seconds passed {when}{details}. {advice}",
            deadline.spent,
            unsent,
            deadline.phase if deadline.spent else "",
        )


def _is_conflict(error: Exception) -> bool:
    """Return whether a watched key has changed.

    redis-py also raises a WatchError in place of a timeout while keys are watched.
    """
    return isinstance(error, redis.WatchError) and not isinstance(
        error.__context__, (redis.ConnectionError, redis.TimeoutError)
    )
