"""The connection pool: redis-py's blocking pool, made fair and safe against interruptions."""

from __future__ import annotations

import logging
import math
import os
import random
import time
import weakref
from collections.abc import Callable
from queue import Empty
from typing import TYPE_CHECKING, Any

import redis
from redis.retry import Retry

from ..exceptions import PoolReleaseError, PoolTimeoutError
from ..runtime.background import start_background
from ..runtime.call_stack import calling_frames, stack_of
from ..settings.client import ClientSettings
from ..telemetry import otel
from ..telemetry.hot_keys import HotKeyTracker
from ..telemetry.metrics import PoolTimes
from ..telemetry.stats import PoolStats
from .circuit_breaker import CircuitBreaker
from .connection import PooledConnection, pooled_class
from .connection_kwargs import check_caching, check_keywords, has_retries, server_address
from .demotion import PoolRenewal
from .fair_queue import FairLifoQueue, PoolSlot

if TYPE_CHECKING:
    from ..telemetry.operations import Observer

_LIFETIME_JITTER = 0.1  # part of max_lifetime: connections made together don't end together
_MOST_SECONDS_OF_A_ROUND = 30.0


class BlockingConnectionPool(redis.BlockingConnectionPool):
    """redis-py's blocking pool, which serves callers in order and never mixes up their replies.

    A connection goes back to the pool only if every reply to what was sent has been read;
    otherwise it is closed. A connection that is lost because its holder was interrupted is closed
    when the last reference to it goes away, and its slot becomes free. Releasing a connection
    twice, to another pool or after a fork is an error.

    If the server refuses a write because it is a replica (``READONLY``), idle connections are
    closed at once and the others when they are released: after a failover the host name leads to
    another server. This happens at most once a second, also where a replica is read on purpose.

    :param client_settings: the settings of the client, or ``None``; public as an attribute.
    :param name: the client's name, for messages and the names of settings in them.
    :param max_idle_time: seconds after which an idle connection is closed; 0 for never.
    :param max_lifetime: seconds after which it is replaced, less up to a tenth; 0 for never.
    :param leak_warning: seconds in use after which a connection's call site is logged; 0 for never.
    :param breaker: the pool's circuit breaker; ``None`` for none.
    :param hot_keys: counts the keys of the clients' commands; ``None`` for none.
    :param connection_kwargs: as for :class:`redis.BlockingConnectionPool`; times are seconds.
    :raises ConfigurationError: redis-py's client-side caching is turned on.
    :raises TypeError: the connection class doesn't accept a keyword argument (redis-py raises that
        on first use, and leaks a slot of the pool each time), or ``queue_class`` is not a
        :class:`~.pool.fair_queue.FairLifoQueue`.
    """

    pool: FairLifoQueue

    def __init__(
        self,
        *,
        client_settings: ClientSettings | None = None,
        name: str = "redis",
        max_idle_time: float = 0,
        max_lifetime: float = 0,
        leak_warning: float = 0,
        breaker: CircuitBreaker | None = None,
        hot_keys: HotKeyTracker | None = None,
        **connection_kwargs: Any,
    ) -> None:
        self.client_settings = client_settings
        self.name = name
        self.max_idle_time = max_idle_time
        self.max_lifetime = max_lifetime
        self.leak_warning = leak_warning
        self.breaker = breaker
        self.hot_keys = hot_keys
        self.creations = 0
        self.discards = 0
        #: Notified of the clients' operations; see :class:`~.telemetry.operations.Observer`.
        self.observers: list[Observer] = []
        #: Records how long callers wait for connections and use them; ``None`` for no records.
        self.times: PoolTimes | None = None
        #: Makes a client with one connection outside of the pool, without telemetry; its arguments
        #: win over the pool's. ``None`` if the pool wasn't made from settings.
        self.make_background_client: Callable[..., redis.Redis] | None = None
        self._on_read_only: PoolRenewal | None = PoolRenewal(self)
        self._has_retries = has_retries(connection_kwargs)
        times = [seconds for seconds in (max_idle_time, leak_warning) if seconds]
        self._round = min(_MOST_SECONDS_OF_A_ROUND, min(times) / 5) if times else 0.0
        self._has_background = not times  # the background thread runs, or isn't needed
        queue_class = connection_kwargs.setdefault("queue_class", FairLifoQueue)
        if not (isinstance(queue_class, type) and issubclass(queue_class, FairLifoQueue)):
            raise TypeError("queue_class: not a FairLifoQueue. Leave this argument out.")
        check_keywords(type(self), connection_kwargs)
        check_caching(name, connection_kwargs)
        super().__init__(**connection_kwargs)

    @property
    def is_plain(self) -> bool:
        """Return whether redis-py's own retries are off."""
        return not self._has_retries

    @property
    def stats(self) -> PoolStats:
        """Return the numbers of connections and callers; other threads change them meanwhile."""
        if self.pid != os.getpid():
            self._checkpid()  # after a fork the numbers are the parent's
        slots = self.pool
        opened, idle = slots.open, slots.idle
        return PoolStats(
            max=self.max_connections,
            open=opened,
            idle=idle,
            in_use=max(0, opened - idle),
            waiting=slots.waiting,
            waits=slots.waits,
            timeouts=slots.timeouts,
            creations=self.creations,
            discards=self.discards,
        )

    def __repr__(self) -> str:
        """Show the URL as the settings do, which hide its secrets."""
        settings = self.client_settings
        if settings is None:
            shown: str = super().__repr__()
            return shown
        return f"<{type(self).__name__}({self.name}, url={settings.url!r})>"

    # Check-out and release

    def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        """Check out a connection that is ready for a command.

        The caller must pass it to :meth:`release` when done. redis-py's parameters are ignored.

        :raises PoolTimeoutError: no connection became free within ``timeout`` (``pool_timeout``).
        :raises CircuitOpenError: the circuit breaker is open; raised at once.
        :raises redis.ConnectionError: the server cannot be reached.
        """
        # The queue hands out a slot, after a wait if need be. There are three cases:
        #
        # 1. Its connection is alive: the caller gets it.
        # 2. Its connection is too old, or the server has closed it: it is connected again.
        # 3. It has no connection yet: one is made and connected.
        #
        # If anything raises from here on, even a signal handler, _drop() frees the slot. If that
        # is interrupted, too, the slot is free with the last reference to the connection.
        if self.pid != os.getpid():
            self._checkpid()
        probe = None if self.breaker is None else self.breaker.enter()
        if self._in_maintenance:
            with self._get_pool_lock():
                pass  # the server is moving, and redis-py makes new callers wait
        times = self.times if self.times is not None and otel.has_meter_provider() else None
        started = time.monotonic() if times is not None else 0.0
        try:
            slot, connection, _ = self.pool.get(self.timeout)
        except Empty:
            raise self._timed_out() from None
        created = connection is None
        try:
            if created:
                connection = self._fill(slot)
            slot.taken_at = time.monotonic()
            if self.leak_warning:
                slot.taken_by = calling_frames()
            connection.slot = slot
            if probe is not None:
                connection.probe = probe
            if not self._has_background:
                self._has_background = start_background(self, self._round)
            self._make_ready(connection, slot)
        except BaseException:
            self._drop(slot, connection)
            raise
        if times is not None:
            times.waited(time.monotonic() - started)
        return connection

    def release(self, connection: Any) -> None:
        """Return a connection to the pool, or close it.

        :raises PoolReleaseError: the connection was not checked out from this pool, was released
            before, or was checked out by the process from which this one was forked.
        """
        # There are four cases:
        #
        # 1. All replies were read, and it is young enough: it goes to the first waiter or is idle.
        # 2. It is closed if a reply is unread (its next user would read that), if it is in a
        #    transaction or another database, or if it is too old.
        # 3. It was checked out before a fork, and this process connected it again: it is closed.
        # 4. It isn't this pool's, or was released before: an error. The thread that pops "slot"
        #    is the one that releases it, even if two threads try at once.
        if self.pid != os.getpid():
            self._checkpid()
        state = connection.__dict__
        slot = state.get("slot")
        if slot is None or slot.taken is not self.pool.taken or state.pop("slot", None) is None:
            if state.get("is_adopted"):
                connection.disconnect()
                return
            raise self._refusal(connection, slot)
        if self.breaker is not None:
            state.pop("probe", None)
        taken_at, slot.taken_at = slot.taken_at, None
        now = time.monotonic()
        if self.times is not None and otel.has_meter_provider():
            self.times.used(now - (taken_at or now))
        kept = self._may_be_used_again(connection, slot, now)
        if kept:
            if isinstance(connection, PooledConnection) and not self.maint_notifications_enabled():
                connection = connection.reissue()
                slot.connection = weakref.ref(connection)
            self.pool.put((slot, connection, now), taken_at or now)
        else:
            slot.vacate()
            self.discards += 1
            connection.disconnect()
            self.pool.serve()

    def make_connection(self) -> Any:
        """Make a connection; redis-py's pool calls it, and subclasses may override it."""
        made = pooled_class(self.connection_class)(**self.connection_kwargs)
        if isinstance(made, PooledConnection):
            made.attach(self.name, self.breaker, self._on_read_only)
        return made

    def _fill(self, slot: PoolSlot) -> Any:
        connection = self.make_connection()
        self.creations += 1
        slot.connection = weakref.ref(connection)
        self._limit_lifetime(slot)
        return connection

    def _make_ready(self, connection: Any, slot: PoolSlot) -> None:
        """Connect unless the connection is open, young enough and has no unread data."""
        # An application's own class may lack is_connected: as in redis-py, connect() decides then.
        if not getattr(connection, "is_connected", False):
            self._connect(connection)
            return
        ready = time.monotonic() < slot.closes_at and not connection.should_reconnect()
        if ready:
            try:
                ready = not connection.can_read() or bool(self.maint_notifications_enabled())
            except (redis.ConnectionError, redis.TimeoutError, OSError):
                ready = False
        if not ready:  # expired, closed by the server, or holding unsolicited data
            self._replace(connection)
            self._connect(connection)

    def _connect(self, connection: Any) -> None:
        started = time.monotonic()
        connection.connect()
        if self.times is not None and otel.has_meter_provider():
            self.times.created(time.monotonic() - started)

    def _replace(self, connection: Any) -> None:
        connection.disconnect()
        self.discards += 1
        self.creations += 1
        self._limit_lifetime(connection.slot)

    def _limit_lifetime(self, slot: PoolSlot) -> None:
        slot.closes_at = math.inf
        if self.max_lifetime:
            jitter = random.uniform(1 - _LIFETIME_JITTER, 1)
            slot.closes_at = time.monotonic() + self.max_lifetime * jitter

    def _may_be_used_again(self, connection: Any, slot: PoolSlot, now: float) -> bool:
        if isinstance(connection, PooledConnection):
            settled = connection.is_settled
        else:
            # A connection class of the application's, whose replies aren't counted.
            settled = getattr(connection, "is_connected", True)
        return (
            settled and now < slot.closes_at and not connection.should_reconnect() and slot.is_taken
        )

    def _drop(self, slot: PoolSlot, connection: Any) -> None:
        slot.vacate()
        if connection is not None:
            connection.__dict__.pop("slot", None)
            connection.__dict__.pop("probe", None)
            self.discards += 1
            connection.disconnect()
        self.pool.serve()

    def _timed_out(self) -> PoolTimeoutError:
        return PoolTimeoutError(
            f"{self.name}: No connection available: all {self.max_connections} to "
            f"{server_address(self.connection_kwargs)} were in use for {self.timeout:g} seconds. "
            f"Raise {self.name}.max_connections or {self.name}.pool_timeout, or set "
            f"{self.name}.leak_warning to log where connections are held."
        )

    def _refusal(self, connection: Any, slot: PoolSlot | None) -> PoolReleaseError:
        if connection.pid not in (0, self.pid):
            connection.disconnect()  # closes this process's copy of the socket only
            return PoolReleaseError(
                f"{self.name}: this connection was checked out by process {connection.pid}, from "
                f"which process {self.pid} was forked. Release it in process {connection.pid} only."
            )
        if slot is None:
            return PoolReleaseError(
                f"{self.name}: this connection was released before, or was not checked out from a "
                "pool. Release what get_connection() returned, and only once."
            )
        return PoolReleaseError(
            f"{self.name}: this connection belongs to another pool. Release it there."
        )

    # The views that redis-py's base class and debuggers expect

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
        for _, connection, _ in self.pool.take_all_idle():
            self._close_idle(connection)
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

    def _close_idle(self, connection: Any) -> None:
        connection.disconnect()
        self.discards += 1

    # redis-py's versions of the next two need attributes that only its non-blocking pool has.

    def set_retry(self, retry: Retry) -> None:
        """Set redis-py's retries for all connections, those in use too."""
        self.connection_kwargs.update(retry=retry)
        self._has_retries = has_retries(self.connection_kwargs)
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
                self._close_idle(entry[1])
                del entry
        if self.leak_warning:
            for slot in self.pool.slots():
                warn_of_leak(self.name, self.leak_warning, slot, now)
        if not self.pool.open:
            self._has_background = False
        return self._has_background


logger = logging.getLogger(__package__)


def warn_of_leak(client: str, seconds: float, slot: PoolSlot, now: float) -> None:
    """Log, once, where a connection was checked out that has been in use for too long.

    :param client: the client's name.
    :param seconds: its ``leak_warning``.
    :param now: the time of :func:`time.monotonic`.
    """
    taken_at = slot.taken_at
    if taken_at is None or slot.warned_at == taken_at or now - taken_at < seconds:
        return
    slot.warned_at = taken_at
    logger.warning(
        "%s: connection held for %.1f seconds (%s.leak_warning is %g seconds), checked out at\n%s",
        client, now - taken_at, client, seconds, stack_of(slot.taken_by or ()),
    )  # fmt: skip
