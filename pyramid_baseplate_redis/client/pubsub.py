"""Monitored subscribers: commands and message handlers have spans, waiting has none."""

from __future__ import annotations

import math
import os
import threading
import time
from typing import Any

from opentelemetry.trace import Span
from redis.client import PubSub

from ..pool.connection import PooledConnection
from ..telemetry.messaging.spans import start_handler
from ..telemetry.operations import ClientTelemetry

_POLL_SECONDS = 0.01


class _Flag:
    """A :class:`threading.Event` without a lock.

    An interruption inside ``Event.set()`` may leave the Event's lock locked. ``clear()`` would then
    wait forever, and with it the end of the subscriber. Polling is good enough here: redis-py waits
    for this flag only before the first subscription, and mostly with a timeout of 0.
    """

    def __init__(self) -> None:
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        ends_at = math.inf if timeout is None else time.monotonic() + timeout
        while not self._is_set and (left := ends_at - time.monotonic()) > 0:
            # Not time.sleep: see runtime/background.py. This Event is private to this call.
            threading.Event().wait(min(left, _POLL_SECONDS))
        return self._is_set


class MonitoredPubSubMixin(PubSub):
    """Mixin that monitors a subscriber, for redis-py's PubSub and ClusterPubSub."""

    connection: Any = None
    subscribed_event: Any
    outlives_request = False

    def __init__(
        self, *args: Any, telemetry: ClientTelemetry, server_span: Span, **kwargs: Any
    ) -> None:
        self._telemetry = telemetry
        self._server_span = server_span
        super().__init__(*args, **kwargs)

    def execute_command(self, *args: Any) -> Any:
        """Send a command such as SUBSCRIBE in a span."""
        execute = super().execute_command
        return self._telemetry.run(self._server_span, args, lambda: execute(*args))

    def parse_response(self, block: bool = True, timeout: float = 0) -> Any:
        """Wait for a message; see :meth:`redis.client.PubSub.parse_response`.

        :raises ForkedConnectionError: the subscription was made before a fork, by the parent.
        """
        if isinstance(self.connection, PooledConnection):
            self.connection.check_owner()
        return super().parse_response(block, timeout)

    def _reconnect(
        self, conn: Any, error: Exception | None = None, *args: Any, **kwargs: Any
    ) -> None:
        """Connect again after an error; redis-py calls this.

        If connecting has just failed, redis-py would try it once more, at once. A caller would then
        wait for two timeouts.
        """
        if not getattr(error, "unsent", False):
            super()._reconnect(conn, error, *args, **kwargs)

    def handle_message(self, response: Any, ignore_subscribe_messages: bool = False) -> Any:
        """Turn a reply into a message. If the message has a handler, call it in a span."""
        if not self._has_handler(response):
            return super().handle_message(response, ignore_subscribe_messages)
        span = start_handler(self._telemetry.tracer, self._server_span, response[1])
        if span is None:
            return super().handle_message(response, ignore_subscribe_messages)
        # The span is current while the handler runs: the handler's own spans are its children.
        try:
            result = super().handle_message(response, ignore_subscribe_messages)
        except BaseException as error:
            span.end(error)
            raise
        span.end()
        return result

    def reset(self) -> None:
        """Discard all subscriptions and return the connection to the pool.

        Unlike in redis-py, an interruption neither returns the connection twice nor keeps it.
        """
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.disconnect()
            connection.deregister_connect_callback(self.on_connect)
            if connection.pid == os.getpid():  # otherwise the parent returns it
                self.connection_pool.release(connection)
        if not isinstance(self.subscribed_event, _Flag):  # redis-py's constructor set an Event
            self.subscribed_event = _Flag()
        super().reset()

    def run_in_thread(self, *args: Any, **kwargs: Any) -> Any:
        """See :meth:`redis.client.PubSub.run_in_thread`; the thread may outlive the request."""
        self.outlives_request = True
        return super().run_in_thread(*args, **kwargs)

    def _has_handler(self, response: Any) -> bool:
        if not isinstance(response, list) or len(response) < 3:
            return False
        handlers = {
            "message": self.channels,
            "pmessage": self.patterns,
            "smessage": self.shard_channels,
        }.get(_as_text(response[0]), {})
        return bool(handlers.get(response[1]))


class MonitoredPubSub(MonitoredPubSubMixin):
    """A monitored :class:`~redis.client.PubSub`, created by ``request.foo.pubsub()``."""


def _as_text(value: Any) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
