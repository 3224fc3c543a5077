"""The connection pool: redis-py's, in which callers take turns and replies are accounted for."""

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
    from .fair_queue import PoolSlot

_LIFETIME_JITTER = 0.1  # of max_lifetime: connections made together don't end together
_MOST_SECONDS_OF_A_ROUND = 30.0


class BlockingConnectionPool(redis.BlockingConnectionPool):
    """redis-py's pool, in which callers are served in order and nobody gets another's reply.

    A connection goes back only if every reply to what was sent has been read; otherwise it is
    closed. One that is lost (its holder was interrupted) is closed when the last reference to it
    goes, and its slot is free again. Whoever releases a connection twice, to another pool or
    behind a fork gets an error.

    If the server refuses a write because it is a replica (``READONLY``), idle connections are
    closed, and others when they are released: after a failover the host name leads to another
    server. This happens at most once a second, also where a replica is read on purpose.

    :param client_settings: what it was built from, or ``None``; public as an attribute.
    :param name: the client's name, for messages and the names of settings in them.
    :param max_idle_time: seconds after which an idle connection is closed; 0 never.
    :param max_lifetime: seconds after which a connection is replaced, less up to a tenth; 0 never.
    :param leak_warning: seconds after which it is logged, once, where a connection was taken that
        nobody gave back; 0 never.
    :param breaker: see :class:`~.pool.circuit_breaker.CircuitBreaker`; ``None`` for none.
    :param hot_keys: counts the keys of its clients' commands; ``None`` for none.
    :param connection_kwargs: as for :class:`redis.BlockingConnectionPool`; times are seconds.
    :raises ConfigurationError: if redis-py's client-side caching is turned on.
    :raises TypeError: if the connection class doesn't know a keyword argument. redis-py raises
        that on first use, and leaks a slot of the pool each time. If ``queue_class`` isn't a
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
        #: Told of the operations of its clients; see :class:`~.telemetry.operations.Observer`.
        self.observers: list[Observer] = []
        #: Where it is recorded how long connections are waited for and used; ``None`` nowhere.
        self.times: PoolTimes | None = None
        #: Makes a client with one connection, beside the pool's and not monitored; its keyword
        #: arguments win over the pool's. ``None`` if the pool wasn't made from settings.
        self.make_background_client: Callable[..., redis.Redis] | None = None
        self._on_read_only: PoolRenewal | None = PoolRenewal(self)
        self._has_retries = has_retries(connection_kwargs)
        times = [seconds for seconds in (max_idle_time, leak_warning) if seconds]
        self._round = min(_MOST_SECONDS_OF_A_ROUND, min(times) / 5) if times else 0.0
        self._kept = not times  # whether a thread keeps house, or none has to
        queue_class = connection_kwargs.setdefault("queue_class", FairLifoQueue)
        if not (isinstance(queue_class, type) and issubclass(queue_class, FairLifoQueue)):
            raise TypeError("queue_class: this pool serves callers in order, with its own queue")
        check_keywords(type(self), connection_kwargs)
        check_caching(name, connection_kwargs)
        super().__init__(**connection_kwargs)

    @property
    def is_plain(self) -> bool:
        """Whether redis-py's own retries are off."""
        return not self._has_retries

    @property
    def stats(self) -> PoolStats:
        """What the pool is doing now, and what it did; other threads go on meanwhile."""
        if self.pid != os.getpid():
            self._checkpid()  # what the parent's is doing isn't this process's
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
        """Without the address where the URL isn't to be shown."""
        settings = self.client_settings
        if settings is None:
            shown: str = super().__repr__()
            return shown
        return f"<{type(self).__module__}.{type(self).__name__}({self.name}, url={settings.url!r})>"

    # Taking and giving back

    def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        """A connection that is ready for a command; it has to be released.

        :raises PoolTimeoutError: if none became free within ``timeout`` seconds (``pool_timeout``).
        :raises CircuitOpenError: at once, while the circuit breaker is open.
        :raises redis.ConnectionError: if the server can't be reached.
        """
        if self.pid != os.getpid():
            self._checkpid()
        probe = None if self.breaker is None else self.breaker.enter()
        if self._in_maintenance:
            with self._get_pool_lock():
                pass  # the server is moving; redis-py holds new callers back for that long
        times = self.times if self.times is not None and otel.has_meter_provider() else None
        started = time.monotonic() if times is not None else 0.0
        try:
            slot, connection, _ = self.pool.get(self.timeout)
        except Empty:
            raise self._timed_out() from None
        created = connection is None
        try:
            if created:
                connection = self._filled(slot)
            slot.taken_at = time.monotonic()
            if self.leak_warning:
                slot.taken_by = calling_frames()
            connection.slot = slot
            if probe is not None:
                connection.probe = probe
            if not self._kept:
                self._kept = start_background(self, self._round)
            self._make_ready(connection, slot)
        except BaseException:
            self._drop(slot, connection)
            raise
        if times is not None:
            times.waited(time.monotonic() - started)
        return connection

    def release(self, connection: Any) -> None:
        """Take a connection back; it is closed unless every reply to what it sent was read.

        :raises PoolReleaseError: if it isn't this pool's to take back: it was released before, is
            another pool's, or was taken before a fork.
        """
        if self.pid != os.getpid():
            self._checkpid()
        state = connection.__dict__
        slot = state.get("slot")
        if slot is None or slot.home is not self.pool.home or state.pop("slot", None) is None:
            if state.get("is_adopted"):
                connection.disconnect()  # it was never counted in this process
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
                connection = connection.moved()
                slot.connection = weakref.ref(connection)
            self.pool.put((slot, connection, now), taken_at or now)
        else:
            slot.vacate()
            self.discards += 1
            connection.disconnect()
            self.pool.serve()

    def make_connection(self) -> Any:
        """Make a connection; redis-py's hook for subclasses."""
        made = pooled_class(self.connection_class)(**self.connection_kwargs)
        if isinstance(made, PooledConnection):
            made.attach(self.name, self.breaker, self._on_read_only)
        return made

    def _filled(self, slot: PoolSlot) -> Any:
        connection = self.make_connection()
        self.creations += 1
        slot.connection = weakref.ref(connection)
        self._limit_lifetime(slot)
        return connection

    def _make_ready(self, connection: Any, slot: PoolSlot) -> None:
        """See to it that the server has the connection open, and that nothing is to be read."""
        # A class that isn't redis-py's needn't have the property. Then connect() decides, as in
        # redis-py's own pool.
        if not getattr(connection, "is_connected", False):
            self._connect(connection)
            return
        ready = time.monotonic() < slot.closes_at and not connection.should_reconnect()
        if ready:
            try:
                ready = not connection.can_read() or bool(self.maint_notifications_enabled())
            except (redis.ConnectionError, redis.TimeoutError, OSError):
                ready = False
        if not ready:  # too old, or the server has closed it, or said what nobody asked for
            self._replaced(connection)
            self._connect(connection)

    def _connect(self, connection: Any) -> None:
        started = time.monotonic()
        connection.connect()
        if self.times is not None and otel.has_meter_provider():
            self.times.created(time.monotonic() - started)

    def _replaced(self, connection: Any) -> None:
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
            # A class of the application's own, whose replies aren't counted.
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
            f"{server_address(self.connection_kwargs)} were in use for {self.timeout:g} seconds; "
            f"raise {self.name}.max_connections or {self.name}.pool_timeout, or let "
            f"{self.name}.leak_warning tell who holds them"
        )

    def _refusal(self, connection: Any, slot: PoolSlot | None) -> PoolReleaseError:
        if connection.pid not in (0, self.pid):
            connection.disconnect()  # of a parent's, this closes our copy of the socket only
            return PoolReleaseError(
                f"{self.name}: this connection was taken by process {connection.pid}, from which "
                f"process {self.pid} was forked; it is the parent's to release"
            )
        if slot is None:
            return PoolReleaseError(
                f"{self.name}: this connection was released before, or never taken from a pool; "
                "release what get_connection() returned, once"
            )
        return PoolReleaseError(
            f"{self.name}: this connection belongs to another pool; release it there"
        )

    # What redis-py's own methods and the curious see of it

    @property
    def _connections(self) -> list[Any]:  # type: ignore[override]  # redis-py keeps a list
        slots = self.pool.slots()
        return [made for slot in slots if slot.connection and (made := slot.connection())]

    def _get_free_connections(self) -> set[Any]:
        return {connection for connection in self.pool.queue if connection is not None}

    def _get_in_use_connections(self) -> set[Any]:
        return {made for made in self._connections if "slot" in made.__dict__}

    def reset(self) -> None:
        """Forget all connections, as a forked process has to; idle ones are closed."""
        self.pool = self.queue_class(self.max_connections)
        self._kept = not self._round
        if vars(self).get("pid") != os.getpid():
            self.creations = self.discards = 0
        # The last step: other threads look at it to see whether this is done.
        self.pid = os.getpid()

    def disconnect(self, inuse_connections: bool = True) -> None:
        """Close the idle connections, and those in use too unless told not to."""
        self._checkpid()
        for _, connection, _ in self.pool.take_all_idle():
            self._close_idle(connection)
        self.pool.serve()
        if inuse_connections:
            for connection in self._get_in_use_connections():
                connection.disconnect()

    def disconnect_free_connections(self, moving_address_src: str | None = None) -> None:
        """Close the idle connections; called by redis-py, of a Cluster's nodes too.

        redis-py's own closes them where they are, while somebody may be taking one.
        """
        if moving_address_src is not None:
            super().disconnect_free_connections(moving_address_src)
            return
        self.disconnect(inuse_connections=False)

    def _close_idle(self, connection: Any) -> None:
        connection.disconnect()
        self.discards += 1

    def set_retry(self, retry: Retry) -> None:
        """Set redis-py's retries for all connections, those in use too.

        redis-py's own looks for attributes that only its non-blocking pool has.
        """
        self.connection_kwargs.update(retry=retry)
        self._has_retries = has_retries(self.connection_kwargs)
        for connection in self._connections:
            connection.retry = retry

    def re_auth_callback(self, token: Any) -> None:
        """Log in anew with a token: idle connections when they are used next, others soon.

        redis-py's own looks for attributes that only its non-blocking pool has.
        """
        for connection in self._get_free_connections():
            connection.mark_for_reconnect()
        for connection in self._get_in_use_connections():
            connection.set_re_auth_token(token)

    def keep_house(self) -> bool:
        """Close what is idle for too long, tell of what is held too long.

        Called now and then by :mod:`.runtime.background`. Return whether anything is left to do.
        """
        now = time.monotonic()
        if self.max_idle_time:
            while (place := self.pool.take_idle(now - self.max_idle_time)) is not None:
                self._close_idle(place[1])
                del place
        if self.leak_warning:
            for slot in self.pool.slots():
                warn_of_leak(self.name, self.leak_warning, slot, now)
        if not self.pool.open:
            self._kept = False
        return self._kept


logger = logging.getLogger(__package__)


def warn_of_leak(client: str, seconds: float, slot: PoolSlot, now: float) -> None:
    """Log, once, where a connection was taken that has been in use for too long.

    :param client: the client's name.
    :param seconds: its ``leak_warning``.
    """
    taken_at = slot.taken_at
    if taken_at is None or slot.warned_at == taken_at or now - taken_at < seconds:
        return
    slot.warned_at = taken_at
    logger.warning(
        "%s: a connection has been in use for %.1f seconds (%s.leak_warning); it was taken at\n%s",
        client,
        now - taken_at,
        client,
        stack_of(slot.taken_by or ()),
    )
