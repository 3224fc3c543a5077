"""The metrics of connection pools; nothing else knows their names.

Those of OpenTelemetry's conventions for database clients. They are read from the pools when a
metric reader collects, so they cost a command nothing.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.semconv._incubating.attributes.db_attributes import (
    DB_CLIENT_CONNECTION_POOL_NAME,
    DB_CLIENT_CONNECTION_STATE,
)
from opentelemetry.semconv._incubating.metrics.db_metrics import (
    DB_CLIENT_CONNECTION_COUNT,
    DB_CLIENT_CONNECTION_MAX,
    DB_CLIENT_CONNECTION_PENDING_REQUESTS,
    DB_CLIENT_CONNECTION_TIMEOUTS,
)

if TYPE_CHECKING:
    from .blocking_pool import PoolFigures


class _HasFigures(Protocol):
    @property
    def figures(self) -> PoolFigures: ...


_pools: weakref.WeakKeyDictionary[_HasFigures, str] = weakref.WeakKeyDictionary()


def observe_pool(pool: _HasFigures, pool_name: str) -> None:
    """Have a pool's figures collected for as long as it lives.

    :param pool_name: ``db.client.connection.pool.name``, as on the spans.
    """
    _pools[pool] = pool_name


def _figures() -> Iterator[tuple[str, PoolFigures]]:
    for pool, name in list(_pools.items()):
        yield name, pool.figures


def _count(options: CallbackOptions) -> Iterable[Observation]:
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


_meter = metrics.get_meter("pyramid_baseplate_redis")
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
