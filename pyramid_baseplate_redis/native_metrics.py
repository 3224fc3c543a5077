"""redis-py's own metrics of pools, for whoever has switched them on; ours are elsewhere.

Our pool has its own ways to take and give back connections, so it tells redis-py's recorder what
redis-py's pool would tell.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from redis.observability import recorder
from redis.observability.attributes import ConnectionState, get_pool_name

if TYPE_CHECKING:
    from redis import BlockingConnectionPool

is_enabled = recorder.is_enabled


def _count(pool: BlockingConnectionPool, state: ConnectionState, number: int) -> None:
    recorder.record_connection_count(
        pool_name=get_pool_name(pool), connection_state=state, counter=number
    )


def created(pool: BlockingConnectionPool) -> None:
    """A connection was made."""
    _count(pool, ConnectionState.IDLE, 1)


def taken(pool: BlockingConnectionPool) -> None:
    """A connection was taken from the pool."""
    _count(pool, ConnectionState.IDLE, -1)
    _count(pool, ConnectionState.USED, 1)


def ready(pool: BlockingConnectionPool, started: float, is_new: bool) -> None:
    """Taking it, which began at ``started`` (of time.monotonic()), is done: it is connected."""
    seconds = time.monotonic() - started
    if is_new:
        recorder.record_connection_create_time(connection_pool=pool, duration_seconds=seconds)
    recorder.record_connection_wait_time(pool_name=get_pool_name(pool), duration_seconds=seconds)


def released(pool: BlockingConnectionPool, *, kept: bool) -> None:
    """A connection was given back, and kept or closed."""
    _count(pool, ConnectionState.USED, -1)
    if kept:
        _count(pool, ConnectionState.IDLE, 1)


def idle_closed(pool: BlockingConnectionPool) -> None:
    """An idle connection was closed."""
    _count(pool, ConnectionState.IDLE, -1)
