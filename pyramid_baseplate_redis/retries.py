"""Retries: which commands may be sent again after a failure, how often and for how long."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import redis
from redis.backoff import AbstractBackoff, ExponentialWithJitterBackoff
from redis.exceptions import ClusterDownError, SlotNotCoveredError
from redis.retry import Retry

from .exceptions import CircuitOpenError, is_retryable
from .telemetry.call_details import note_retries

if TYPE_CHECKING:
    from .settings.client import ClientSettings

T = TypeVar("T")

_BASE_SECONDS = 0.01
_MOST_SECONDS = 1.0
_RETRIED = (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError)
# What a Cluster says of a command while a replica takes over.
_RETRIED_IN_CLUSTER = (*_RETRIED, ClusterDownError, SlotNotCoveredError)
# Nothing was sent, but whoever waits has waited for as long as the settings say.
_FINAL = (redis.exceptions.MaxConnectionsError, CircuitOpenError)


def was_unsent(error: BaseException) -> bool:
    """Return whether a node could not be reached, so that nothing of the command was sent to it.

    Not after a wrong password, nor when all connections to the node were in use.
    """
    if isinstance(error, CircuitOpenError):
        return True
    return bool(getattr(error, "unsent", False)) and is_retryable(error) is True


class _Backoff(AbstractBackoff):
    """redis-py's exponential backoff with jitter, which ends with the budget."""

    def __init__(self, budget: float) -> None:
        self._ends_at = time.monotonic() + budget
        self._backoff: Any = ExponentialWithJitterBackoff(cap=_MOST_SECONDS, base=_BASE_SECONDS)

    @property
    def is_spent(self) -> bool:
        return time.monotonic() >= self._ends_at

    def reset(self) -> None:
        self._backoff.reset()

    def compute(self, failures: int) -> float:
        seconds: float = self._backoff.compute(failures)
        return max(0.0, min(seconds, self._ends_at - time.monotonic()))


class RetryPolicy:
    """What ``foo.retries`` and ``foo.retry_budget`` say, for one client.

    A command is sent again if the server can't have executed it, because nothing of it was sent or
    the server refused it, or if it only reads. Never a write that may have been executed, whether
    idempotent or not: in between, somebody else may have written. Never after a wrong password.

    :param retries: how often, at most.
    :param budget: seconds, from the first attempt on, after which no further one begins.
    """

    def __init__(self, retries: int, budget: float) -> None:
        self.retries = retries
        self.budget = budget

    @classmethod
    def of(cls, settings: ClientSettings | None) -> RetryPolicy | None:
        """The policy of a client; ``None`` where nothing is to be tried again."""
        if settings is None or not settings.retries:
            return None
        return cls(settings.retries, settings.retry_budget.total_seconds())

    def call(self, do: Callable[[], T], *, reads: bool, in_cluster: bool = False) -> T:
        """Call ``do``, and again if that is safe; the last error goes on.

        :param reads: whether it changes nothing.
        :param in_cluster: whether it is a single command to a Cluster.
        """
        backoff = _Backoff(self.budget)

        def may_repeat(error: Exception) -> bool:
            if isinstance(error, _FINAL) or backoff.is_spent:
                return False
            if isinstance(error, redis.ReadOnlyError):
                # A refused command may go to the new primary, on a new connection. What came before
                # it in a pipeline may have been executed.
                return bool(getattr(error, "unsent", False))
            retryable = is_retryable(error)
            return reads if retryable is None else retryable

        def failed(error: Exception, failures: int) -> None:
            if failures <= self.retries:
                note_retries(failures)

        retry = Retry(backoff, self.retries, _RETRIED_IN_CLUSTER if in_cluster else _RETRIED)
        return retry.call_with_retry(do, failed, may_repeat, with_failure_count=True)


def is_passing(error: BaseException) -> bool:
    """Whether it makes sense to wait for the server."""
    return is_retryable(error) is not False and not isinstance(
        error, redis.exceptions.MaxConnectionsError
    )
