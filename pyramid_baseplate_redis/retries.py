"""Retries: decides which commands are sent again after a failure, how often and for how long."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import redis
from redis.backoff import AbstractBackoff, ExponentialWithJitterBackoff
from redis.exceptions import ClusterDownError, SlotNotCoveredError
from redis.retry import Retry

from .exceptions import CircuitOpenError, is_retryable
from .runtime.deadline import RETRYING, ends_at, enter_phase
from .telemetry.call_details import note_retries

if TYPE_CHECKING:
    from .settings.client import ClientSettings

T = TypeVar("T")

_BASE_SECONDS = 0.01
_MOST_SECONDS = 1.0
_RETRIED = (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError)
# A Cluster also answers with these while a replica takes over.
_RETRIED_IN_CLUSTER = (*_RETRIED, ClusterDownError, SlotNotCoveredError)
# Nothing was sent, but the configured waiting time is already spent.
_FINAL = (redis.exceptions.MaxConnectionsError, CircuitOpenError)


def was_unsent(error: BaseException) -> bool:
    """Return whether a node could not be reached, and nothing of the command was sent to it.

    False if the password was wrong or if all connections to the node were in use.
    """
    if isinstance(error, CircuitOpenError):
        return True
    return bool(getattr(error, "unsent", False)) and is_retryable(error) is True


class _Backoff(AbstractBackoff):
    """redis-py's exponential backoff with jitter, until the budget or the call's deadline ends."""

    def __init__(self, budget: float) -> None:
        self._ends_at = min(time.monotonic() + budget, ends_at())
        self._backoff: Any = ExponentialWithJitterBackoff(cap=_MOST_SECONDS, base=_BASE_SECONDS)

    @property
    def is_spent(self) -> bool:
        return time.monotonic() >= self._ends_at

    def reset(self) -> None:
        self._backoff.reset()

    def compute(self, failures: int) -> float:
        enter_phase(RETRYING)
        seconds: float = self._backoff.compute(failures)
        return max(0.0, min(seconds, self._ends_at - time.monotonic()))


class RetryPolicy:
    """The retries of one client, from ``foo.retries`` and ``foo.retry_budget``.

    A command is sent again in two cases:

    1. The server cannot have executed it: nothing of it was sent, or the server refused it.
    2. It only reads.

    A write that may have been executed is never repeated, not even an idempotent one: another
    client may have written in between. Nothing is repeated after a wrong password.

    :param retries: the maximal number of attempts after the first one.
    :param budget: seconds since the first attempt, after which no further attempt starts.
    """

    def __init__(self, retries: int, budget: float) -> None:
        self.retries = retries
        self.budget = budget

    @classmethod
    def of(cls, settings: ClientSettings | None) -> RetryPolicy | None:
        """Return the policy for a client's settings; ``None`` if it has no retries."""
        if settings is None or not settings.retries:
            return None
        return cls(settings.retries, settings.retry_budget.total_seconds())

    def call(self, do: Callable[[], T], *, reads: bool, in_cluster: bool = False) -> T:
        """Call ``do`` until it succeeds, as long as repeating it is safe; return its result.

        :param do: sends one command or one pipeline.
        :param reads: whether its commands only read.
        :param in_cluster: whether it is a single command to a Cluster.
        :raises redis.RedisError: the error of the last attempt.
        """
        backoff = _Backoff(self.budget)

        def may_repeat(error: Exception) -> bool:
            if isinstance(error, _FINAL) or backoff.is_spent:
                return False
            if isinstance(error, redis.ReadOnlyError):
                # A refused command can go to the new primary, on a new connection. In a pipeline
                # it isn't marked unsent: the commands before it may have been executed.
                return bool(getattr(error, "unsent", False))
            retryable = is_retryable(error)
            return reads if retryable is None else retryable

        def failed(error: Exception, failures: int) -> None:
            if failures <= self.retries:
                note_retries(failures)

        retry = Retry(backoff, self.retries, _RETRIED_IN_CLUSTER if in_cluster else _RETRIED)
        return retry.call_with_retry(do, failed, may_repeat, with_failure_count=True)


def is_passing(error: BaseException) -> bool:
    """Return whether waiting for the server may help: the error can pass by itself."""
    return is_retryable(error) is not False and not isinstance(
        error, redis.exceptions.MaxConnectionsError
    )
