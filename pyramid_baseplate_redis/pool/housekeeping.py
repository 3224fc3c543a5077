"""The work on all connections of a pool together: list them, close them, log those held too long.

:mod:`.blocking_pool` has the work on a single one: its check-out and its release.
"""

from __future__ import annotations

import logging
import os
import time
from typing import Any

import redis
from redis.retry import Retry

from ..runtime.call_stack import stack_of
from ..runtime.claims import Claims
from .connection_kwargs import has_retries
from .connections.slot import PoolSlot
from .fair_queue import FairLifoQueue

logger = logging.getLogger(__package__)

_MOST_SECONDS_OF_A_ROUND = 30.0


class HousekeepingPool(redis.BlockingConnectionPool):
    """redis-py's blocking pool on a :class:`~.fair_queue.FairLifoQueue`.

    redis-py's own methods for all connections would take locks and need its list of connections.

    :param name: the client's name, for the log.
    :param max_idle_time: seconds after which an idle connection is closed; 0 for never.
    :param leak_warning: seconds in use after which a connection's call site is logged; 0 for never.
    :param connection_kwargs: as for :class:`redis.BlockingConnectionPool`.
    """

    pool: FairLifoQueue

    def __init__(
        self, *, name: str, max_idle_time: float, leak_warning: float, **connection_kwargs: Any
    ) -> None:
        self.name = name
        self.max_idle_time = max_idle_time
        self.leak_warning = leak_warning
        self.creations = 0
        self.discards = 0
        #: Whether redis-py's own retries are off.
        self.is_plain = not has_retries(connection_kwargs)
        times = [seconds for seconds in (max_idle_time, leak_warning) if seconds]
        self._round = min(_MOST_SECONDS_OF_A_ROUND, min(times) / 5) if times else 0.0
        self._has_background = not times  # the background thread runs, or isn't needed
        self._starting = Claims()
        super().__init__(**connection_kwargs)

    # redis-py's own methods and debuggers use the next three.

    @property
    def _connections(self) -> list[Any]:  # type: ignore[override]  # redis-py keeps a list
        slots = self.pool.slots()
        return [made for slot in slots if slot.connection and (made := slot.connection())]

    def _get_free_connections(self) -> set[Any]:
        return {connection for connection in self.pool.queue if connection is not None}

    def _get_in_use_connections(self) -> set[Any]:
        return {made for made in self._connections if "slot" in made.__dict__}

    def reset(self) -> None:
        """Forget all connections, as redis-py does in a forked process; idle ones are closed."""
        self.pool = self.queue_class(self.max_connections)
        self._has_background = not self._round
        if vars(self).get("pid") != os.getpid():
            self.creations = self.discards = 0
        # The last step: other threads read it to see whether the reset is done.
        self.pid = os.getpid()

    def disconnect(self, inuse_connections: bool = True) -> None:
        """Close the idle connections and, unless ``inuse_connections`` is false, those in use."""
        self._checkpid()
        for slot, connection, _ in self.pool.take_all_idle():
            self._close_idle(slot, connection)
        self.pool.serve()
        if inuse_connections:
            for connection in self._get_in_use_connections():
                connection.disconnect()

    def disconnect_free_connections(self, moving_address_src: str | None = None) -> None:
        """Close the idle connections; redis-py calls it, on the pools of a Cluster's nodes too.

        redis-py's own method closes them in the queue, while another thread may be taking one.
        """
        if moving_address_src is not None:
            super().disconnect_free_connections(moving_address_src)
            return
        self.disconnect(inuse_connections=False)

    def _close_idle(self, slot: PoolSlot, connection: Any) -> None:
        connection.disconnect()
        slot.vacate()  # the thread that returned it may still refer to the slot
        self.discards += 1

    # redis-py's versions of the next two need attributes that only its non-blocking pool has.

    def set_retry(self, retry: Retry) -> None:
        """Set redis-py's retries for all connections, those in use too."""
        self.connection_kwargs.update(retry=retry)
        self.is_plain = not has_retries(self.connection_kwargs)
        for connection in self._connections:
            connection.retry = retry

    def re_auth_callback(self, token: Any) -> None:
        """Log in with a new token: idle connections at their next use, the others soon."""
        for connection in self._get_free_connections():
            connection.mark_for_reconnect()
        for connection in self._get_in_use_connections():
            connection.set_re_auth_token(token)

    def keep_house(self) -> bool:
        """Close connections idle longer than ``max_idle_time``; log those held too long.

        :mod:`.runtime.background` calls it regularly, as long as it returns ``True``.
        """
        now = time.monotonic()
        if self.max_idle_time:
            while (entry := self.pool.take_idle(now - self.max_idle_time)) is not None:
                self._close_idle(entry[0], entry[1])
                del entry
                self.pool.serve()  # a caller may have come meanwhile
        if self.leak_warning:
            self._warn_of_leaks(now)
        return bool(self.pool.open) or self._is_relied_on()

    def _is_relied_on(self) -> bool:
        """Return whether a caller has come while the background thread is about to end."""
        self._has_background = False
        while True:
            claim = self._starting.take()
            if claim is None or self._has_background:
                return False  # the caller starts another thread
            if self.pool.open:
                self._has_background = True
                return True
            del claim
            # A caller that came while this thread had the claim has started no other one.
            if not self.pool.open:
                return False

    def _warn_of_leaks(self, now: float) -> None:
        for slot in self.pool.slots():
            seconds = slot.overdue(self.leak_warning, now)
            if seconds is not None:
                logger.warning(
                    "%s: connection held for %.1f seconds (%s.leak_warning is %g seconds), "
                    "checked out at\n%s",
                    self.name, seconds, self.name, self.leak_warning, stack_of(slot.taken_by or ()),
                )  # fmt: skip
