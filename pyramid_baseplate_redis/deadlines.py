"""Deadlines: how long a call may take in all, from ``foo.deadline`` and ``within()``."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import redis
from redis.exceptions import RedisClusterException

from .exceptions import DeadlineExceededError
from .runtime.deadline import READING, SENDING, Deadline, applied, current_deadline

if TYPE_CHECKING:
    from .settings.client import ClientSettings

T = TypeVar("T")

# What a wait raises when its time is up. The last is raised for a Cluster that does not answer.
_TIMED_OUT = (redis.ConnectionError, redis.TimeoutError, RedisClusterException)
# A socket's timeout may end a little before the deadline for which it was set.
_TOLERANCE_SECONDS = 0.002


class DeadlinePolicy:
    """Bounds each call of one client.

    :param client: the client's name.
    :param seconds: for each call; ``None`` for no limit.
    :param ends_at: a time of :func:`time.monotonic` at which all calls end; infinite for none.
    :param block: the seconds of the block that ends then, for messages.
    """

    def __init__(
        self,
        client: str,
        seconds: float | None,
        ends_at: float = math.inf,
        block: float | None = None,
    ) -> None:
        self._client = client
        self._seconds = seconds
        self._ends_at = ends_at
        self._block = block

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
        ends_at = time.monotonic() + seconds
        if ends_at < self._ends_at:
            return DeadlinePolicy(self._client, self._seconds, ends_at, seconds)
        return self

    def one_call(self, client: Any) -> Any:
        """Return ``client`` with a deadline for one call that sends several commands."""
        return client if self._seconds is None else client.within(self._seconds)

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
        text = self._text(each)
        if deadline.has_passed:
            raise DeadlineExceededError(f"{text} before the call began", {}, unsent=True)
        try:
            with applied(deadline):
                return call()
        except _TIMED_OUT as error:
            if deadline.left > _TOLERANCE_SECONDS:
                raise
            deadline.enter(deadline.phase)
            is_sent = SENDING in deadline.spent or READING in deadline.spent
            raise DeadlineExceededError(
                f"{text} while {deadline.phase}",
                deadline.spent,
                unsent=not is_sent or bool(getattr(error, "unsent", False)),
            ) from error

    def _text(self, each: float) -> str:
        if each <= self._ends_at:
            return f"{self._client}.deadline: the {self._seconds:g} seconds of this call passed"
        return f"{self._client}: the {self._block:g} seconds of within() passed"
