"""Asks each of the application's queues for its numbers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import redis
from redis.exceptions import RedisClusterException

from ...exceptions import SERVER_ERRORS
from ...interfaces import IMessageQueueFactory
from ...telemetry.stats import QueueStats

if TYPE_CHECKING:
    from pyramid.request import Request

T = TypeVar("T")

logger = logging.getLogger(__package__)

_UNREACHABLE = (redis.ConnectionError, redis.TimeoutError, RedisClusterException)


@dataclass(frozen=True)
class QueueReport:
    """The numbers of one queue, or the reason why there are none."""

    name: str
    client: str
    is_durable: bool
    length: int | None = None
    stats: QueueStats | None = None  #: only of a durable queue
    error: str | None = None


@dataclass(frozen=True)
class Listing(Generic[T]):
    """Some of a queue's messages or dead letters, or the reason why they cannot be shown."""

    items: Sequence[T]
    error: str | None = None


def queue_reports(request: Request) -> list[QueueReport]:
    """Return a report for each queue, in the order of their names.

    If the server of a client cannot be reached, the other queues of that client are not asked:
    each would wait for the same timeout.
    """
    reports = []
    unreachable: dict[str, str] = {}
    for name, factory in sorted(request.registry.getUtilitiesFor(IMessageQueueFactory)):
        client, is_durable = factory.client, factory.settings.durable
        error = unreachable.get(client)
        if error is None:
            try:
                reports.append(_report(request, name, client, is_durable))
                continue
            except SERVER_ERRORS as failure:
                error = reason(client, failure)
                if isinstance(failure, _UNREACHABLE):
                    unreachable[client] = error
        reports.append(QueueReport(name, client, is_durable, error=error))
    return reports


def _report(request: Request, name: str, client: str, is_durable: bool) -> QueueReport:
    queue: Any = getattr(request, name)
    if not is_durable:
        return QueueReport(name, client, False, queue.client.llen(queue.queue))
    stats: QueueStats = queue.stats()
    return QueueReport(name, client, True, stats.length, stats)


def listing(client: str, ask: Callable[[], list[T]]) -> Listing[T]:
    """Return what ``ask`` returns, or the reason why the client's server could not answer.

    A queue may have messages that are too large for ``socket_timeout``. The rest of its page is
    still shown then.
    """
    try:
        return Listing(ask())
    except SERVER_ERRORS as error:
        return Listing([], reason(client, error))


def reason(client: str, error: Exception) -> str:
    """Return and log why a client's server could not answer.

    :param error: an error of redis-py, whose text names the server but no password.
    """
    text = f"{type(error).__name__}: {error}"
    logger.warning("the queues page: the Redis client %s is failing: %s", client, text)
    return text
