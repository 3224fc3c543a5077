"""OpenTelemetry's metrics: how long operations take, what pools do, how long queues are.

The names of the metrics are those of the conventions for database clients. What a pool does and how
long a queue is are read when a metric reader collects. Nothing is measured while there is no meter
provider.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.util.types import AttributeValue

from .measurement_buffer import measurements
from .otel import error_type
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
    DB_RESPONSE_STATUS_CODE,
    ERROR_TYPE,
    MESSAGING_DESTINATION_NAME,
    MESSAGING_SYSTEM,
)

if TYPE_CHECKING:
    from .stats import PoolStats, QueueStats

# The conventions have none for what is in a queue.
QUEUE_LENGTH = "pyramid_baseplate_redis.message_queue.length"
QUEUE_IN_FLIGHT = "pyramid_baseplate_redis.message_queue.in_flight"
QUEUE_OLDEST_AGE = "pyramid_baseplate_redis.message_queue.oldest_age"
QUEUE_DEAD_LETTERS = "pyramid_baseplate_redis.message_queue.dead_letters"
# Seconds; the conventions' for operations. For connections they name none: the same.
BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)


class _HasFigures(Protocol):
    times: PoolTimes | None

    @property
    def stats(self) -> PoolStats: ...


class _HasLength(Protocol):
    name: str
    stats: QueueStats | None

    def length(self) -> int | None: ...


_pools: weakref.WeakKeyDictionary[_HasFigures, str] = weakref.WeakKeyDictionary()
_queues: weakref.WeakSet[_HasLength] = weakref.WeakSet()


class PoolTimes:
    """Records how long a pool's connections were waited for, used and made.

    :param pool_name: ``db.client.connection.pool.name``, as on the spans.
    """

    def __init__(self, pool_name: str) -> None:
        self._attributes: dict[str, AttributeValue] = {DB_CLIENT_CONNECTION_POOL_NAME: pool_name}

    def waited(self, seconds: float) -> None:
        """Somebody got an open connection, after so long."""
        measurements.add(_wait_time, seconds, self._attributes)

    def used(self, seconds: float) -> None:
        """A connection was given back, after so long."""
        measurements.add(_use_time, seconds, self._attributes)

    def created(self, seconds: float) -> None:
        """A connection was made, which took so long."""
        measurements.add(_create_time, seconds, self._attributes)


def observe_pool(pool: _HasFigures, pool_name: str) -> None:
    """Have a pool's figures collected for as long as it lives, and its times recorded.

    :param pool_name: ``db.client.connection.pool.name``, as on the spans.
    """
    pool.times = PoolTimes(pool_name)
    _pools[pool] = pool_name


def observe_queue(queue: _HasLength) -> None:
    """Have a queue's length collected for as long as the object lives that asks for it."""
    _queues.add(queue)


def record_operation(
    seconds: float,
    attributes: Mapping[str, AttributeValue],
    error: BaseException | None,
    code: str | None,
) -> None:
    """Record how long an operation took.

    :param attributes: those of its span.
    :param error: what it failed with.
    :param code: the server's error code.
    """
    if error is not None or code is not None:
        attributes = dict(attributes)
        if error is not None:
            attributes[ERROR_TYPE] = error_type(error)
        if code is not None:
            attributes[DB_RESPONSE_STATUS_CODE] = code
    measurements.add(_duration, seconds, attributes)


def _figures() -> Iterator[tuple[str, PoolStats]]:
    for pool, name in list(_pools.items()):
        yield name, pool.stats


def _count(options: CallbackOptions) -> Iterable[Observation]:
    measurements.flush()  # before the histograms are collected, which is after all callbacks
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


# What is told of durable queues beside it has been asked for with the length, just before.


def _in_flight(options: CallbackOptions) -> Iterable[Observation]:
    for queue, stats in _stats():
        yield _of_queue(queue, stats.in_flight)


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


_meter = metrics.get_meter("pyramid_baseplate_redis")


def _histogram(name: str, description: str) -> metrics.Histogram:
    return _meter.create_histogram(
        name, unit="s", description=description, explicit_bucket_boundaries_advisory=BUCKETS
    )


_duration = _histogram(DB_CLIENT_OPERATION_DURATION, "Duration of database client operations.")
_wait_time = _histogram(
    DB_CLIENT_CONNECTION_WAIT_TIME, "How long it took to get an open connection from the pool."
)
_use_time = _histogram(
    DB_CLIENT_CONNECTION_USE_TIME, "How long a connection was used before it was given back."
)
_create_time = _histogram(
    DB_CLIENT_CONNECTION_CREATE_TIME, "How long it took to make a connection."
)
_meter.create_observable_up_down_counter(
    DB_CLIENT_CONNECTION_COUNT,
    [_count],
    unit="{connection}",
    description="How many connections are idle, or used.",
)
_meter.create_observable_up_down_counter(
    DB_CLIENT_CONNECTION_MAX,
    [_max],
    unit="{connection}",
    description="The most connections that the pool may open.",
)
_meter.create_observable_up_down_counter(
    DB_CLIENT_CONNECTION_PENDING_REQUESTS,
    [_pending_requests],
    unit="{request}",
    description="How many callers wait for a connection.",
)
_meter.create_observable_counter(
    DB_CLIENT_CONNECTION_TIMEOUTS,
    [_timeouts],
    unit="{timeout}",
    description="How many callers have waited for a connection in vain.",
)
_meter.create_observable_gauge(
    QUEUE_LENGTH,
    [_lengths],
    unit="{message}",
    description="How many messages are in the queue.",
)
_meter.create_observable_gauge(
    QUEUE_IN_FLIGHT,
    [_in_flight],
    unit="{message}",
    description="How many of them were received and aren't acknowledged.",
)
_meter.create_observable_gauge(
    QUEUE_OLDEST_AGE,
    [_oldest_age],
    unit="s",
    description="How long ago the oldest of them was put.",
)
_meter.create_observable_gauge(
    QUEUE_DEAD_LETTERS,
    [_dead_letters],
    unit="{message}",
    description="How many dead letters there are.",
)
