"""Pools that were just made: what they do by default, and what they refuse."""

from __future__ import annotations

import re
from typing import Any

import pytest
from redis.cache import CacheConfig

from pyramid_baseplate_redis import BlockingConnectionPool, ConfigurationError, PoolTimeoutError


def test_a_pool_closes_and_reports_nothing_of_its_own_accord() -> None:
    pool = BlockingConnectionPool()

    assert (pool.max_idle_time, pool.max_lifetime, pool.leak_warning) == (0, 0, 0)


def test_a_keyword_that_no_connection_takes_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="socket_timeot"):
        BlockingConnectionPool(socket_timeot=5)


def test_client_side_caching_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="cach"):
        BlockingConnectionPool(cache_config=CacheConfig(), protocol=3)


def test_an_error_of_a_pool_without_a_port_names_redis_pys_default() -> None:
    pool = BlockingConnectionPool(host="127.0.0.1", port=None, max_connections=1, timeout=0.01)
    taken, _, _ = pool.pool.get()  # its only slot

    with pytest.raises(PoolTimeoutError, match=re.escape("all 1 to 127.0.0.1:6379 were in use")):
        pool.get_connection()
    del taken


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        ({}, 0),
        ({"max_idle_time": 10}, 2),
        ({"leak_warning": 5}, 1),
        ({"max_idle_time": 10, "leak_warning": 5}, 1),
        ({"max_idle_time": 1000}, 30),
    ],
)
def test_the_background_looks_five_times_in_the_shortest_time_and_each_half_minute(
    times: Any, seconds: float
) -> None:
    pool = BlockingConnectionPool(**times)

    assert pool._round == seconds
    assert pool._has_background == (not times)
