"""The Prometheus metrics, with the names, labels and buckets of baseplate 2.7.1.

Counters and histograms are written when an operation ends. Gauges are not counted up and down but
read from the live objects, so an interrupted operation can't leave a wrong value. They are read by
the scrape. In prometheus_client's multiprocess mode, where the scrape only sees files, a thread
reads them once a second.
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
from ..runtime.process_local import ProcessLocal
from ..telemetry import otel

if TYPE_CHECKING:
    from ..telemetry.operations import Operation
    from ..telemetry.stats import PoolStats

_LABELS = ("redis_command", "redis_database", "redis_client_name", "redis_type")
_POOL_LABELS = ("redis_pool",)
# Seconds.
_BUCKETS = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15, 30)
_SECONDS_BETWEEN_READINGS = 1.0
_MOST_CACHED = 1024  # spellings of command names; only known commands become labels


def _pool_gauge(name: str, documentation: str) -> Gauge:
    return Gauge(name, documentation, _POOL_LABELS, multiprocess_mode="livesum")


LATENCY = Histogram(
    "redis_client_latency_seconds",
    "Duration of commands and pipelines, including the wait for a connection and retries",
    (*_LABELS, "redis_success"),
    buckets=_BUCKETS,
)
REQUESTS = Counter(
    "redis_client_requests_total",
    "Number of commands and pipelines that have ended",
    (*_LABELS, "redis_success"),
)
ACTIVE = Gauge(
    "redis_client_active_requests",
    "Number of commands and pipelines in progress",
    _LABELS,
    multiprocess_mode="livesum",
)
MAX_SIZE = _pool_gauge("redis_client_pool_max_size", "Number of connections the pool may open")
IDLE = _pool_gauge("redis_client_pool_idle_connections", "Number of open connections not in use")
OPEN = _pool_gauge(
    "redis_client_pool_active_connections", "Number of open connections, including idle ones"
)


class HasFigures(Protocol):
    """A connection pool."""

    @property
    def stats(self) -> PoolStats:
        """The pool's numbers of connections."""


class _Series:
    """The measurements with one set of labels."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels = labels
        # Weak references: an operation whose end was not reported, because a signal handler raised
        # in between, disappears by itself.
        self.active: ProcessLocal[weakref.WeakSet[Operation]] = ProcessLocal(weakref.WeakSet)
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
    """The measurements of this process."""

    def __init__(self) -> None:
        # True in multiprocess mode, on which prometheus_client decides when it is imported.
        self.has_files: bool = values.ValueClass is not values.MutexValue
        self.series: dict[tuple[str, ...], _Series] = {}
        self._pools: weakref.WeakKeyDictionary[HasFigures, str] = weakref.WeakKeyDictionary()
        self._gauges: dict[tuple[Gauge, tuple[str, ...]], Callable[[], int]] = {}
        self._is_read = ProcessLocal(threading.Event)
        self.lock = threading.RLock()
        self._tasks: deque[Callable[[], None]] = deque()
        self._is_busy = False

    def carry_out(self, task: Callable[[], None]) -> None:
        """Run a task that takes prometheus_client's locks, one task at a time.

        Those locks are not reentrant. A thread would wait forever

        1. if it already holds the lock and a signal handler or a finalizer runs a command, which
           is why the task of that command is queued here;
        2. in a forked process, if another thread of the parent held the lock, which is why
           ``lock`` is acquired around forks.
        """
        with self.lock:
            self._tasks.append(task)
            if self._is_busy:
                return  # this thread is in the loop below, which runs the task when it goes on
            self._is_busy = True
            try:
                while self._tasks:
                    self._tasks.popleft()()
            finally:
                self._is_busy = False

    def series_of(self, *labels: str) -> _Series:
        series = self.series.get(labels)
        if series is None:
            series = self.series.setdefault(labels, _Series(labels))
            self._show(ACTIVE, labels, lambda: len(series.active.own()))
        return series

    def show_pool(self, pool: HasFigures, name: str) -> None:
        """Export the gauges of a pool while it lives; pools of the same name are added up."""
        self._pools[pool] = name
        for gauge, figure in ((MAX_SIZE, "max"), (IDLE, "idle"), (OPEN, "open")):
            self._show(gauge, (name,), partial(self._sum, name, figure))

    def _sum(self, name: str, figure: str) -> int:
        pools = [pool for pool, own in list(self._pools.items()) if own == name]
        return sum(getattr(pool.stats, figure) for pool in pools)

    def _show(self, gauge: Gauge, labels: tuple[str, ...], read: Callable[[], int]) -> None:
        if self.has_files:
            # Written later, by the thread: this process may only fork the workers.
            self._gauges[gauge, labels] = read
        else:
            self.carry_out(lambda: gauge.labels(*labels).set_function(read))

    def keep_reading(self) -> None:
        """Start the thread that reads the gauges, in multiprocess mode."""
        if not self.has_files:
            return
        is_read = self._is_read.own()
        if not is_read.is_set() and start_background(self, _SECONDS_BETWEEN_READINGS):
            is_read.set()

    def keep_house(self) -> bool:
        """Write the gauges; called once a second by :mod:`.runtime.background`."""
        try:
            self.carry_out(self._write_gauges)
        except Exception:
            otel.log_once("writing the Prometheus gauges failed")
        return True

    def _write_gauges(self) -> None:
        for (gauge, labels), read in list(self._gauges.items()):
            gauge.labels(*labels).set(read())


PROCESS = _Process()
# The forking thread holds our lock, so no other thread holds one of prometheus_client's. The hooks
# call no Python code: a tracer or a profiler may have locks that stay held in the child.
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
        self._series_of(operation).active.own().add(operation)
        PROCESS.keep_reading()

    def ended(self, operation: Operation, result: object) -> None:
        """See :class:`~.telemetry.operations.Observer`."""
        series = self._series_of(operation)
        series.active.own().discard(operation)
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
