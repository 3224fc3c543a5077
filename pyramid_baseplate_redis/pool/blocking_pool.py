"""The connection pool: redis-py's blocking pool, made fair and safe against interruptions."""

from __future__ import annotations

import math
import os
import random
import time
import weakref
from collections.abc import Callable
from queue import Empty
from typing import TYPE_CHECKING, Any

import redis

from ..exceptions import PoolReleaseError, PoolTimeoutError
from ..runtime.background import start_background
from ..runtime.call_stack import calling_frames
from ..runtime.deadline import PACKING, READING, WAITING, current_deadline
from ..settings.client import ClientSettings
from ..telemetry.call_details import Peers
from ..telemetry.hot_keys.tracker import HotKeyTracker
from ..telemetry.otel import has_meter_provider
from ..telemetry.stats import PoolStats
from .circuit_breaker import CircuitBreaker
from .connection import PooledConnection, pooled_class
from .connection_kwargs import (
    add_driver_info,
    check_caching,
    check_keywords,
    server_address,
)
from .connections.slot import PoolSlot
from .demotion import PoolRenewal
from .fair_queue import FairLifoQueue
from .housekeeping import HousekeepingPool

if TYPE_CHECKING:
    from ..telemetry.metrics import PoolListener
    from ..telemetry.operations import Observer

_LIFETIME_JITTER = 0.1  # part of max_lifetime: connections made together don't end together


class BlockingConnectionPool(HousekeepingPool):
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
        self.max_lifetime = max_lifetime
        self.breaker = breaker
        self.hot_keys = hot_keys
        #: Notified of the clients' operations; see :class:`~.telemetry.operations.Observer`.
        self.observers: list[Observer] = []
        #: Notified of the connections' events; see :class:`~.telemetry.metrics.PoolListener`.
        self.listeners: list[PoolListener] = []
        self.peers = Peers()
        #: Makes a client with one connection outside of the pool, without telemetry; its arguments
        #: win over the pool's. ``None`` if the pool wasn't made from settings.
        self.make_background_client: Callable[..., redis.Redis] | None = None
        self._on_read_only: PoolRenewal | None = PoolRenewal(self)
        queue_class = connection_kwargs.setdefault("queue_class", FairLifoQueue)
        if not (isinstance(queue_class, type) and issubclass(queue_class, FairLifoQueue)):
            raise TypeError("queue_class: not a FairLifoQueue. Leave this argument out.")
        check_keywords(type(self), connection_kwargs)
        check_caching(name, connection_kwargs)
        add_driver_info(connection_kwargs)
        super().__init__(
            name=name, max_idle_time=max_idle_time, leak_warning=leak_warning, **connection_kwargs
        )

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
        # Decided once for each use, since every look at it would delay the command.
        asked_at = time.monotonic() if self.listeners and has_meter_provider() else None
        probe = None if self.breaker is None else self.breaker.enter()
        if self._in_maintenance:
            with self._get_pool_lock():
                pass  # the server is moving, and redis-py makes new callers wait
        timeout = self.timeout
        if (deadline := current_deadline()) is not None:
            deadline.enter(WAITING)
            timeout = deadline.shorten(timeout)
        try:
            slot, connection, _ = self.pool.get(timeout)
        except Empty:
            probe = None  # it ends now, even if the traceback is kept
            raise self._timed_out(timeout) from None
        try:
            if connection is None:
                connection = self._fill(slot)
            slot.asked_at = asked_at
            slot.taken_at = now = time.monotonic()
            slot.taken_by = calling_frames() if self.leak_warning else None
            # While in use, the connection refers to the slot: if the last reference to it goes
            # away, the slot becomes free.
            connection.slot = slot
            if probe is not None:
                connection.probe = probe  # ends with the use
            if not self._has_background:
                self._start_background()
            if not (
                # It is connected, and as redis-py made it.
                getattr(connection, "is_direct", False)
                and now < slot.closes_at
                and connection.is_quiet()
            ):
                self._make_ready(connection, slot)
            if deadline is not None:
                # An application's class records nothing: from now on it may have sent something.
                deadline.enter(PACKING if isinstance(connection, PooledConnection) else READING)
        except BaseException:
            probe = None  # as above
            self._drop(slot, connection)
            raise
        if asked_at is not None:
            for listener in self.listeners:
                listener.waited(asked_at)
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
        # 3. It has no slot, because it was checked out before a fork and this process connected it
        #    again, or because it is for a look-up of a Cluster's layout: it is closed.
        # 4. It isn't this pool's, or was released before: an error. If two threads release it at
        #    once, check_in() succeeds for one of them.
        if self.pid != os.getpid():
            self._checkpid()
        slot = connection.__dict__.get("slot")
        if (
            slot is None
            or slot.taken is not self.pool.taken
            or (taken_at := slot.check_in(connection)) is None
        ):
            if connection.__dict__.get("is_unpooled"):
                connection.disconnect()
                return
            raise self._refusal(connection, slot)
        if slot.asked_at is not None:
            for listener in self.listeners:
                listener.used(taken_at)
        now = time.monotonic()
        is_kept = False
        if now < slot.closes_at:
            if isinstance(connection, PooledConnection):
                is_reusable = connection.is_reusable()
                if is_reusable and (connection.is_direct or not self.maint_notifications_enabled()):
                    connection = connection.reissue()
                    slot.connection = weakref.ref(connection)
            else:
                # A connection class of the application's, whose replies aren't counted.
                is_reusable = (
                    getattr(connection, "is_connected", True) and not connection.should_reconnect()
                )
            is_kept = is_reusable and self.pool.put((slot, connection, now), taken_at)
        if not is_kept:
            self.discards += 1
            self._discard(slot, connection)
            if isinstance(connection, PooledConnection):
                connection.bury()

    def leave_replica(self, connection: Any) -> None:
        """Close a connection in use if its server was found to be a replica since its check-out.

        The next command connects again. A caller that keeps its connection calls this before a
        command. There is no effect if that would lose more than what the settings restore: if a
        reply is unread, keys are watched or another database is selected. ``max_lifetime`` has no
        effect either, since a new connection has no ``CLIENT SETNAME`` of the caller's.
        """
        slot = connection.__dict__.get("slot")
        if slot is None or not slot.is_expired:
            return
        if not getattr(connection, "is_connected", True):
            slot.fill(connection, self._closing_time())  # the next command connects again
        elif getattr(connection, "is_settled", False):
            self._replace(connection, slot)

    def make_connection(self) -> Any:
        """Make a connection; redis-py's pool calls it, and subclasses may override it."""
        made = pooled_class(self.connection_class)(**self.connection_kwargs)
        if isinstance(made, PooledConnection):
            made.attach(self.name, self.breaker, self._on_read_only, self.peers)
        return made

    def _start_background(self) -> None:
        claim = self._starting.take()
        if claim is not None and not self._has_background:  # no other caller has started it
            self._has_background = start_background(self, self._round)

    def _fill(self, slot: PoolSlot) -> Any:
        connection = self.make_connection()
        self.creations += 1
        slot.fill(connection, self._closing_time())
        return connection

    def _make_ready(self, connection: Any, slot: PoolSlot) -> None:
        """Connect unless the connection is open, young enough and has no unread data.

        A direct connection that has just been found quiet is ready without it.
        """
        # An application's own class may lack is_connected: as in redis-py, connect() decides then.
        if not getattr(connection, "is_connected", False):
            self._connect(connection)
            return
        ready = slot.taken_at < slot.closes_at and not getattr(connection, "is_direct", False)
        if ready:
            try:
                ready = not connection.should_reconnect() and (
                    not connection.can_read() or bool(self.maint_notifications_enabled())
                )
            except (redis.ConnectionError, redis.TimeoutError, OSError):
                ready = False
        if not ready:  # expired, closed by the server, or holding unsolicited data
            self._replace(connection, slot)
            self._connect(connection)

    def _connect(self, connection: Any) -> None:
        started = time.monotonic()
        connection.connect()
        for listener in self.listeners:
            listener.created(started)

    def _replace(self, connection: Any, slot: PoolSlot) -> None:
        connection.disconnect()
        self.discards += 1
        self.creations += 1
        slot.fill(connection, self._closing_time())

    def _closing_time(self) -> float:
        if not self.max_lifetime:
            return math.inf
        return time.monotonic() + self.max_lifetime * random.uniform(1 - _LIFETIME_JITTER, 1)

    def _drop(self, slot: PoolSlot, connection: Any) -> None:
        if connection is not None:
            slot.check_in(connection)
            self.discards += 1
        self._discard(slot, connection)

    def _discard(self, slot: PoolSlot, connection: Any) -> None:
        """Close a connection, then free its slot: the next caller may connect at once."""
        try:
            if connection is not None:
                connection.disconnect()
        finally:
            slot.vacate()
            self.pool.serve()

    def _timed_out(self, seconds: float) -> PoolTimeoutError:
        return PoolTimeoutError(
            f"{self.name}: No connection available: all {self.max_connections} to "
            f"{server_address(self.connection_kwargs)} were in use for {seconds:g} seconds. "
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
        if slot is None or slot.taken is self.pool.taken:
            return PoolReleaseError(
                f"{self.name}: this connection was released before, or was not checked out from a "
                "pool. Release what get_connection() returned, and only once."
            )
        return PoolReleaseError(
            f"{self.name}: this connection belongs to another pool. Release it there."
        )
