"""redis-py's client-side caching, which deadlocks when threads share a client."""

from __future__ import annotations

import pytest
import redis
from redis.cache import CacheConfig

from pyramid_baseplate_redis import ConfigurationError, MonitoredRedisConnection

from ..support.servers import Server


def test_it_is_refused_without_a_pool_too(valkey: Server) -> None:
    with pytest.raises(ConfigurationError, match=r"^redis\.cache_config: .*deadlocks"):
        MonitoredRedisConnection(
            host="127.0.0.1", port=valkey.port, protocol=3, cache_config=CacheConfig()
        )


def test_it_is_refused_in_from_url(valkey: Server) -> None:
    with pytest.raises(ConfigurationError, match=r"^redis\.connection_pool: .*deadlocks"):
        MonitoredRedisConnection.from_url(valkey.url, protocol=3, cache_config=CacheConfig())


def test_it_is_refused_in_a_pool_of_redis_py(valkey: Server) -> None:
    pool = redis.ConnectionPool.from_url(valkey.url, protocol=3, cache_config=CacheConfig())
    with pytest.raises(ConfigurationError, match=r"^foo\.connection_pool: .*deadlocks"):
        MonitoredRedisConnection("foo", connection_pool=pool)


def test_arguments_that_leave_it_off_are_accepted(valkey: Server) -> None:
    with MonitoredRedisConnection(
        host="127.0.0.1", port=valkey.port, cache=None, cache_config=None
    ) as client:
        assert client.ping()
