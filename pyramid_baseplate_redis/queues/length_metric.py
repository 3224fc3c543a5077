"""How long a queue is, and what else is to be told of it, asked in the background for metrics."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import redis

from ..telemetry.metrics import observe_queue
from ..telemetry.otel import suppressed
from ..telemetry.stats import QueueStats

_MOST_SECONDS = 1.0  # whoever collects metrics waits for no frozen server

logger = logging.getLogger(__package__)


class QueueLength:
    """The length of a queue, as one server or Cluster tells it.

    :param name: the queue's name, which is the key of a list.
    :param make_client: makes a client that takes no connection from the requests'; called once in
        each process, when the length is first asked for.
    :param stats: asks for what is in a durable queue, on that client; without it the queue is a
        list.
    """

    def __init__(
        self,
        name: str,
        make_client: Callable[[], Any],
        stats: Callable[[Any], QueueStats] | None = None,
    ) -> None:
        self.name = name
        self._stats = stats
        self._make_client = make_client
        self._client: Any = None
        self._pid = 0
        #: What :meth:`length` has found out of a durable queue, beside it.
        self.stats: QueueStats | None = None

    def length(self) -> int | None:
        """How many messages are in the queue; ``None`` if the server can't tell now."""
        self.stats = None
        # Neither spans nor durations: nobody has asked for this but the metrics.
        try:
            with suppressed():
                if self._pid != os.getpid():
                    self._client, self._pid = self._make_client(), os.getpid()
                if self._stats is None:
                    length: int = self._client.llen(self.name)
                    return length
                self.stats = self._stats(self._client)
                return self.stats.length
        except (redis.RedisError, redis.exceptions.RedisClusterException) as error:
            logger.debug("queue %s: its length is unknown: %s", self.name, error)
            return None


def observed_length(
    name: str, pool: Any, stats: Callable[[Any], QueueStats] | None = None
) -> QueueLength | None:
    """Have the length of a queue collected as a metric, for as long as what is returned lives.

    :param pool: that of the queue's client; where ``foo.metrics`` is false, or nobody knows how to
        make another client like it, ``None`` is returned.
    :param stats: see :class:`QueueLength`.
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
