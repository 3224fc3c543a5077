"""OpenTelemetry's metrics: durations of operations, the state of pools, lengths of queues.

The metrics are named as in the conventions for database clients. The state of pools and queues is
read when a metric reader collects. Nothing is measured while no meter provider is set.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.util.types import AttributeValue

from ..command_table import COMMAND_NAMES, OTHER, known_name
from .measurements.buffer import measurements
from .otel import error_type, has_meter_provider, meter
from .semantic_conventions import (
    DB_CLIENT_CONNECTION_COUNT,
    DB_CLIENT_CONNECTION_CREATE_TIME,
    DB_CLIENT_CONNECTION_MAX,
    DB_CLIENT_CONNECTION_PENDING_REQUESTS,
    DB_CLIENT_CONNECTION_POOL_NAME,
    DB_CLIENT_CONNECTION_STATE,
    DB_CLIENT_CONNECTION_TIMEOUTS,
    DB_CLIENT_CONNECTION_USE_TIME,
    DB_CLIENT_CONNECTION_WAIT_TIME,
    DB_CLIENT_OPERATION_DURATION,
    DB_OPERATION_NAME,
    DB_RESPONSE_STATUS_CODE,
    ERROR_TYPE,
    MESSAGING_DESTINATION_NAME,
    MESSAGING_SYSTEM,
)

if TYPE_CHECKING:
    from .stats import PoolStats, QueueStats

# The conventions have no metrics for the contents of a queue.
QUEUE_LENGTH = "pyramid_baseplate_redis.message_queue.length"
QUEUE_IN_FLIGHT = "pyramid_baseplate_redis.message_queue.in_flight"
QUEUE_DELAYED = "pyramid_baseplate_redis.message_queue.delayed"
QUEUE_WAITING = "pyramid_baseplate_redis.message_queue.waiting"
QUEUE_OLDEST_AGE = "pyramid_baseplate_redis.message_queue.oldest_age"
QUEUE_DEAD_LETTERS = "pyramid_baseplate_redis.message_queue.dead_letters"
# Seconds. The conventions define them for operations only; connections use the same.
BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
_BATCHES = frozenset({"MULTI", "PIPELINE"})  # a pipeline's operation, alone or before a command
_BOUNDED_NAMES = (
    COMMAND_NAMES | _BATCHES | {f"{batch} {name}" for batch in _BATCHES for name in COMMAND_NAMES}
)


class PoolListener(Protocol):
    """An object that a pool notifies of what has just ended, in the caller's thread.

    The methods must not raise. All times are those of :func:`time.monotonic`.
    """

    def waited(self, since: float) -> None:
        """Note that a caller got a connection, for which it asked at ``since``.

        Called if a meter provider was set at ``since``, like :meth:`used`.
        """

    def used(self, since: float) -> None:
        """Note that a caller releases a connection, which it checked out at ``since``."""

    def created(self, since: float) -> None:
        """Note that a new connection is ready, after the pool began to connect at ``since``."""


class _HasFigures(Protocol):
    listeners: list[PoolListener]

    @property
    def stats(self) -> PoolStats: ...


class _HasLength(Protocol):
    name: str
    stats: QueueStats | None

    def length(self) -> int | None: ...


_add = measurements.add
_pools: weakref.WeakKeyDictionary[_HasFigures, str] = weakref.WeakKeyDictionary()
_queues: weakref.WeakSet[_HasLength] = weakref.WeakSet()


class PoolTimes:
    """Records three durations of a pool: waiting for connections, using them, creating them.

    :param pool_name: the value of ``db.client.connection.pool.name``, as on the spans.
    """

    def __init__(self, pool_name: str) -> None:
        self._attributes: dict[str, AttributeValue] = {DB_CLIENT_CONNECTION_POOL_NAME: pool_name}

    def waited(self, since: float) -> None:
        """Record how long a caller waited for a connection."""
        _add(_wait_time, monotonic() - since, self._attributes)

    def used(self, since: float) -> None:
        """Record how long a connection was checked out."""
        _add(_use_time, monotonic() - since, self._attributes)

    def created(self, since: float) -> None:
        """Record how long it took to create a connection."""
        if has_meter_provider():
            _add(_create_time, monotonic() - since, self._attributes)


def observe_pool(pool: _HasFigures, pool_name: str) -> None:
    """Record a pool's times, and collect its state for as long as it lives.

    :param pool_name: the value of ``db.client.connection.pool.name``, as on the spans.
    """
    pool.listeners.append(PoolTimes(pool_name))
    _pools[pool] = pool_name


def observe_queue(queue: _HasLength) -> None:
    """Collect a queue's length, and its other figures if any, for as long as ``queue`` lives."""
    _queues.add(queue)


def record_operation(
    seconds: float,
    attributes: Mapping[str, AttributeValue],
    error: BaseException | None,
    code: str | None,
) -> None:
    """Record how long an operation took.

    :param attributes: the attributes of its span; do not modify them afterward.
    :param error: the exception that it failed with, if it failed.
    :param code: the server's error code, such as ``WRONGTYPE``.
    """
    name = attributes[DB_OPERATION_NAME]
    if name not in _BOUNDED_NAMES:
        attributes = {**attributes, DB_OPERATION_NAME: _bounded_name(str(name))}
    if error is not None or code is not None:
        attributes = dict(attributes)
        if error is not None:
            attributes[ERROR_TYPE] = code or error_type(error)
        if code is not None:
            attributes[DB_RESPONSE_STATUS_CODE] = code
    _add(_duration, seconds, attributes)


def _bounded_name(operation: str) -> str:
    """Return ``other`` in place of the name of a command that no server has.

    Callers can make up any number of names, and a metric reader keeps each one for ever.
    """
    batch, _, command = operation.partition(" ")
    if batch in _BATCHES:
        return f"{batch} {_bounded_name(command)}"
    known = known_name(operation)
    return "other" if known == OTHER else known


def _figures() -> Iterator[tuple[str, PoolStats]]:
    for pool, name in list(_pools.items()):
        yield name, pool.stats


def _count(options: CallbackOptions) -> Iterable[Observation]:
    measurements.flush()  # the SDK runs all callbacks first, then collects the histograms
    for name, figures in _figures():
        for state, number in (("idle", figures.idle), ("used", figures.in_use)):
            yield Observation(
                number, {DB_CLIENT_CONNECTION_POOL_NAME: name, DB_CLIENT_CONNECTION_STATE: state}
            )


def _max(options: CallbackOptions) -> Iterable[Observation]:
    for name, figures in _figures():
        yield Observation(figures.max, {DB_CLIENT_CONNECTION_POOL_NAME: name})


def _pending_requests(options: CallbackOptions) -> Iterable[Observation]:
    for name, figures in _figures():
        yield Observation(figures.waiting, {DB_CLIENT_CONNECTION_POOL_NAME: name})


def _timeouts(options: CallbackOptions) -> Iterable[Observation]:
    for name, figures in _figures():
        yield Observation(figures.timeouts, {DB_CLIENT_CONNECTION_POOL_NAME: name})


def _lengths(options: CallbackOptions) -> Iterable[Observation]:
    for queue in list(_queues):
        length = queue.length()
        if length is not None:
            yield _of_queue(queue, length)


# Asking for a durable queue's length, just before, has also brought its other figures.


def _in_flight(options: CallbackOptions) -> Iterable[Observation]:
    for queue, stats in _stats():
        yield _of_queue(queue, stats.in_flight)


def _delayed(options: CallbackOptions) -> Iterable[Observation]:
    for queue, stats in _stats():
        yield _of_queue(queue, stats.delayed)


def _waiting(options: CallbackOptions) -> Iterable[Observation]:
    for queue, stats in _stats():
        yield _of_queue(queue, stats.waiting)


def _oldest_age(options: CallbackOptions) -> Iterable[Observation]:
    for queue, stats in _stats():
        age = stats.oldest_age
        yield _of_queue(queue, 0.0 if age is None else age.total_seconds())


def _dead_letters(options: CallbackOptions) -> Iterable[Observation]:
    for queue, stats in _stats():
        yield _of_queue(queue, stats.dead)


def _stats() -> Iterator[tuple[_HasLength, QueueStats]]:
    for queue in list(_queues):
        if queue.stats is not None:
            yield queue, queue.stats


def _of_queue(queue: _HasLength, value: float) -> Observation:
    return Observation(value, {MESSAGING_SYSTEM: "redis", MESSAGING_DESTINATION_NAME: queue.name})


def _histogram(name: str, description: str) -> metrics.Histogram:
    return meter.create_histogram(
        name, unit="s", description=description, explicit_bucket_boundaries_advisory=BUCKETS
    )


_duration = _histogram(DB_CLIENT_OPERATION_DURATION, "Duration of database client operations.")
_wait_time = _histogram(
    DB_CLIENT_CONNECTION_WAIT_TIME, "How long it took to get an open connection from the pool."
)
_use_time = _histogram(
    DB_CLIENT_CONNECTION_USE_TIME, "How long a connection was used before it was returned."
)
_create_time = _histogram(
    DB_CLIENT_CONNECTION_CREATE_TIME, "How long it took to create a connection."
)
meter.create_observable_up_down_counter(
    DB_CLIENT_CONNECTION_COUNT,
    [_count],
    unit="{connection}",
    description="The number of connections, idle or used.",
)
meter.create_observable_up_down_counter(
    DB_CLIENT_CONNECTION_MAX,
    [_max],
    unit="{connection}",
    description="The number of connections that the pool may open at most.",
)
meter.create_observable_up_down_counter(
    DB_CLIENT_CONNECTION_PENDING_REQUESTS,
    [_pending_requests],
    unit="{request}",
    description="The number of callers that wait for a connection.",
)
meter.create_observable_counter(
    DB_CLIENT_CONNECTION_TIMEOUTS,
    [_timeouts],
    unit="{timeout}",
    description="The number of callers that waited for a connection and got none.",
)
meter.create_observable_gauge(
    QUEUE_LENGTH,
    [_lengths],
    unit="{message}",
    description="The number of messages in the queue.",
)
meter.create_observable_gauge(
    QUEUE_IN_FLIGHT,
    [_in_flight],
    unit="{message}",
    description="The number of messages that were received and are not acknowledged yet.",
)
meter.create_observable_gauge(
    QUEUE_DELAYED,
    [_delayed],
    unit="{message}",
    description="The number of delayed messages that are not due yet.",
)
meter.create_observable_gauge(
    QUEUE_WAITING,
    [_waiting],
    unit="{message}",
    description="The number of failed messages that wait until they are due.",
)
meter.create_observable_gauge(
    QUEUE_OLDEST_AGE,
    [_oldest_age],
    unit="s",
    description="The age of the oldest message in the queue.",
)
meter.create_observable_gauge(
    QUEUE_DEAD_LETTERS,
    [_dead_letters],
    unit="{message}",
    description="The number of dead letters.",
)
