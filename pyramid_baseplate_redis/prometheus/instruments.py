"""The Prometheus metrics, with the names that baseplate 2.7.1 gives them; nothing else knows those.

Counters and histograms are written when an operation ends. Gauges are read, not counted, so that
nothing that is lost on the way leaves them wrong: at the scrape, or, where the scrape sees nothing
but files (prometheus_client's multiprocess mode), once a second by a thread.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from prometheus_client import Counter, Gauge, Histogram, values

from ..command_table import known_name
from ..runtime.background import start_background
from ..telemetry import otel

if TYPE_CHECKING:
    from ..telemetry.operations import Operation
    from ..telemetry.stats import PoolStats

_LABELS = ("redis_command", "redis_database", "redis_client_name", "redis_type")
_POOL_LABELS = ("redis_pool",)
# Seconds.
_BUCKETS = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15, 30)
_SECONDS_BETWEEN_READINGS = 1.0
_MOST_CACHED = 1024  # command names in any spelling; only known ones become labels


def _pool_gauge(name: str, documentation: str) -> Gauge:
    return Gauge(name, documentation, _POOL_LABELS, multiprocess_mode="livesum")


LATENCY = Histogram(
    "redis_client_latency_seconds",
    "How long a command or pipeline took, the wait for a connection and retries included",
    (*_LABELS, "redis_success"),
    buckets=_BUCKETS,
)
REQUESTS = Counter(
    "redis_client_requests_total",
    "How many commands and pipelines are over",
    (*_LABELS, "redis_success"),
)
ACTIVE = Gauge(
    "redis_client_active_requests",
    "How many commands and pipelines are under way",
    _LABELS,
    multiprocess_mode="livesum",
)
MAX_SIZE = _pool_gauge("redis_client_pool_max_size", "How many connections the pool may have open")
IDLE = _pool_gauge(
    "redis_client_pool_idle_connections", "How many connections are open and nobody uses them"
)
OPEN = _pool_gauge(
    "redis_client_pool_active_connections", "How many connections are open, idle ones included"
)


class HasFigures(Protocol):
    """A connection pool."""

    @property
    def stats(self) -> PoolStats:
        """What it is doing."""


class _Series:
    """What is measured under one set of labels."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels = labels
        # Weak: one whose end was never told, since a signal came in between, is none.
        self.active: weakref.WeakSet[Operation] = weakref.WeakSet()
        self._by_success: dict[bool, tuple[Counter, Histogram]] = {}

    def record(self, succeeded: bool, seconds: float) -> None:
        written = self._by_success.get(succeeded)
        if written is None:
            labels = (*self.labels, "true" if succeeded else "false")
            written = self._by_success[succeeded] = (
                REQUESTS.labels(*labels),
                LATENCY.labels(*labels),
            )
        requests, latency = written
        requests.inc()
        latency.observe(seconds)


class _Process:
    """What this process measures."""

    def __init__(self) -> None:
        # prometheus_client has decided so when it was imported.
        self.has_files: bool = values.ValueClass is not values.MutexValue
        self.series: dict[tuple[str, ...], _Series] = {}
        self._pools: weakref.WeakKeyDictionary[HasFigures, str] = weakref.WeakKeyDictionary()
        self._gauges: dict[tuple[Gauge, tuple[str, ...]], Callable[[], int]] = {}
        self._is_read = False
        self.lock = threading.RLock()
        self._tasks: deque[Callable[[], None]] = deque()
        self._is_busy = False
        self._pid = os.getpid()

    def carry_out(self, task: Callable[[], None]) -> None:
        """Do what takes prometheus_client's locks, one task after the other.

        Those locks wait for ever when the thread that has one takes it again, as a signal handler
        or a destructor with a command of its own would; and in a forked process when another
        thread had one.
        """
        with self.lock:
            self._tasks.append(task)
            if self._is_busy:
                return  # it is this thread: the interrupted call below goes on with it
            self._is_busy = True
            try:
                while self._tasks:
                    self._tasks.popleft()()
            finally:
                self._is_busy = False

    def begin_if_forked(self) -> None:
        """In a forked process, forget what its parent has under way."""
        if self._pid == os.getpid():
            return
        with self.lock:
            if self._pid != os.getpid():
                for series in list(self.series.values()):
                    series.active = weakref.WeakSet()
                self._is_read = False
                self._pid = os.getpid()

    def series_of(self, *labels: str) -> _Series:
        series = self.series.get(labels)
        if series is None:
            series = self.series.setdefault(labels, _Series(labels))
            self._show(ACTIVE, labels, partial(self._count_active, series))
        return series

    def _count_active(self, series: _Series) -> int:
        self.begin_if_forked()
        return len(series.active)

    def show_pool(self, pool: HasFigures, name: str) -> None:
        """Show a pool's figures for as long as it lives; those of one name are added up."""
        self._pools[pool] = name
        for gauge, figure in ((MAX_SIZE, "max"), (IDLE, "idle"), (OPEN, "open")):
            self._show(gauge, (name,), partial(self._sum, name, figure))

    def _sum(self, name: str, figure: str) -> int:
        pools = [pool for pool, own in list(self._pools.items()) if own == name]
        return sum(getattr(pool.stats, figure) for pool in pools)

    def _show(self, gauge: Gauge, labels: tuple[str, ...], read: Callable[[], int]) -> None:
        if self.has_files:
            # Not written at once: this process may be one that only forks those that work.
            self._gauges[gauge, labels] = read
        else:
            self.carry_out(lambda: gauge.labels(*labels).set_function(read))

    def keep_reading(self) -> None:
        """See to it that the gauges are read while this process lives."""
        if self.has_files and not self._is_read:
            self._is_read = start_background(self, _SECONDS_BETWEEN_READINGS)

    def keep_house(self) -> bool:
        """Called by :mod:`.runtime.background`."""
        try:
            self.carry_out(self._write_gauges)
        except Exception:
            otel.log_once("writing Prometheus's gauges failed")
        return True

    def _write_gauges(self) -> None:
        for (gauge, labels), read in list(self._gauges.items()):
            gauge.labels(*labels).set(read())


PROCESS = _Process()
# Whoever forks has the lock, so that no other thread has one of prometheus_client's. Nothing else
# is done then: tracers of Python code have locks as well, which may be held for ever in a fork.
os.register_at_fork(
    before=PROCESS.lock.acquire,
    after_in_parent=PROCESS.lock.release,
    after_in_child=PROCESS.lock.release,
)


class PrometheusObserver:
    """Counts and times the operations of the clients of one pool.

    :param database: the label ``redis_database``.
    :param client_name: the label ``redis_client_name``.
    :param redis_type: the label ``redis_type``.
    """

    def __init__(self, database: str, client_name: str, redis_type: str) -> None:
        self._labels = (database, client_name, redis_type)
        self._series: dict[object, _Series] = {}

    def started(self, operation: Operation) -> None:
        """See :class:`~.telemetry.operations.Observer`."""
        PROCESS.begin_if_forked()
        self._series_of(operation).active.add(operation)
        PROCESS.keep_reading()

    def ended(self, operation: Operation, result: object) -> None:
        """See :class:`~.telemetry.operations.Observer`."""
        series = self._series_of(operation)
        series.active.discard(operation)
        PROCESS.carry_out(partial(series.record, operation.error is None, operation.duration))

    def _series_of(self, operation: Operation) -> _Series:
        command = operation.args[0] if operation.commands is None else None
        try:
            return self._series[command]
        except (KeyError, TypeError):
            name = "pipeline" if command is None else known_name(command).lower()
            series = PROCESS.series_of(name, *self._labels)
            if isinstance(command, str | None) and len(self._series) < _MOST_CACHED:
                self._series[command] = series
            return series
