"""Asks for a queue's length and statistics in the background, for metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import redis

from ..runtime.process_local import ProcessLocal
from ..telemetry.metrics import observe_queue
from ..telemetry.otel import suppressed
from ..telemetry.stats import QueueStats

_MOST_SECONDS = 1.0  # the collection of metrics does not wait longer for a hung server

logger = logging.getLogger(__package__)


class QueueLength:
    """The length of a queue on one server or Cluster.

    :param name: the queue's name, which is the key of the list.
    :param make_client: returns a client that takes no connections from the requests' pool. Called
        once in each process, on first use.
    :param stats: returns the statistics of a durable queue, given that client; without it the queue
        is a list.
    """

    def __init__(
        self,
        name: str,
        make_client: Callable[[], Any],
        stats: Callable[[Any], QueueStats] | None = None,
    ) -> None:
        self.name = name
        self._stats = stats
        self._client = ProcessLocal(make_client)
        #: A durable queue's statistics, as of the last call of :meth:`length`.
        self.stats: QueueStats | None = None

    def length(self) -> int | None:
        """Return the number of messages in the queue; ``None`` if the server failed."""
        self.stats = None
        # Record neither spans nor durations, since the application did not send this command.
        try:
            with suppressed():
                client = self._client.own()
                if self._stats is None:
                    length: int = client.llen(self.name)
                    return length
                self.stats = self._stats(client)
                return self.stats.length
        except (redis.RedisError, redis.exceptions.RedisClusterException) as error:
            logger.debug("queue %s: the length is unknown: %s", self.name, error)
            return None


def observed_length(
    name: str, pool: Any, stats: Callable[[Any], QueueStats] | None = None
) -> QueueLength | None:
    """Collect the length of a queue as a metric, for as long as the returned object exists.

    :param pool: the pool of the queue's client.
    :param stats: see :class:`QueueLength`.
    :returns: ``None`` if ``foo.metrics`` is false, or the pool cannot make background clients.
    """
    make_client = getattr(pool, "make_background_client", None)
    settings = getattr(pool, "client_settings", None)
    if make_client is None or settings is None or not settings.metrics:
        return None
    seconds = min(_MOST_SECONDS, settings.socket_timeout.total_seconds())
    connect = min(_MOST_SECONDS, settings.socket_connect_timeout.total_seconds())
    own = partial(make_client, socket_timeout=seconds, socket_connect_timeout=connect)
    length = QueueLength(name, own, stats)
    observe_queue(length)
    return length
