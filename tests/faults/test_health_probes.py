"""Health probes of servers that are frozen, loading, gone and back: under threads and gevent."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import redis
from pyramid.config import Configurator

from pyramid_baseplate_redis import ClientHealth, ping_all
from pyramid_baseplate_redis.interfaces import IRedisContextFactory

from ..support.servers import Server, open_sockets_to, running_server, wait_until
from .everywhere import everywhere
from .helpers import frozen, in_threads


def registry_of(server: Server, **settings: str) -> Any:
    """The registry of an application with the client ``foo``, whose requests are patient."""
    times = "pool_timeout", "socket_timeout", "socket_connect_timeout"
    own = {
        f"foo.{key}": value for key, value in (dict.fromkeys(times, "1 hour") | settings).items()
    }
    config = Configurator(settings={"foo.url": server.url, **own})
    config.include("pyramid_baseplate_redis")
    config.commit()
    return config.registry


def health_of(registry: Any) -> ClientHealth:
    (health,) = ping_all(registry)
    return health


def probing() -> int:
    return sum(thread.name == "redis health foo" for thread in threading.enumerate())


@everywhere
def test_a_frozen_server_fails_when_the_time_is_up_and_is_found_again(tmp_path: Path) -> None:
    with running_server("valkey", tmp_path) as server:
        registry = registry_of(server, health_timeout="200 ms")
        with frozen(server):
            # Whose time is up first, the socket's or the probe's, is all the same.
            assert isinstance(health_of(registry).error, redis.TimeoutError)
        wait_until(lambda: health_of(registry).ok)


@everywhere
def test_probes_of_a_frozen_server_do_not_pile_up(tmp_path: Path) -> None:
    with running_server("valkey", tmp_path) as server:
        registry = registry_of(server, health_timeout="100 ms")
        with frozen(server):
            asking = [lambda: health_of(registry).ok] * 20
            for _ in range(3):
                assert in_threads(*asking) == [False] * 20
                assert probing() < 10  # one, and perhaps others that are about to end
        wait_until(lambda: not probing())


@everywhere
def test_a_probe_of_a_frozen_server_ends_by_itself(tmp_path: Path) -> None:
    with running_server("valkey", tmp_path) as server:
        registry = registry_of(server, health_timeout="200 ms")
        with frozen(server):
            health_of(registry)
            wait_until(lambda: not probing())


@everywhere
def test_a_busy_pool_of_a_frozen_server_does_not_hold_a_probe(tmp_path: Path) -> None:
    with running_server("valkey", tmp_path) as server:
        registry = registry_of(server, max_connections="1", health_timeout="200 ms")
        pool = registry.getUtility(IRedisContextFactory, "foo").connection_pool
        taken = pool.get_connection()
        with frozen(server):
            assert isinstance(health_of(registry).error, redis.TimeoutError)
        wait_until(lambda: health_of(registry).ok)
        pool.release(taken)


@everywhere
def test_a_server_that_is_gone_fails_and_is_found_when_it_is_back(tmp_path: Path) -> None:
    with running_server("valkey", tmp_path) as server:
        registry = registry_of(server, health_timeout="20 seconds")
        assert health_of(registry).ok
        server.kill()
        wait_until(lambda: not open_sockets_to(server.port))
        assert type(health_of(registry).error) is redis.ConnectionError
        server.restart()
        assert health_of(registry).ok


@pytest.mark.slow("starts a server that takes seconds to load")
@everywhere
def test_a_server_that_is_loading_fails_until_it_has_loaded(tmp_path: Path) -> None:
    with running_server("valkey", tmp_path) as server, redis.Redis(port=server.port) as admin:
        for number in range(2000):
            admin.set(f"key:{number}", number)
        admin.save()
    slow = ["--key-load-delay", "700", "--loading-process-events-interval-bytes", "1024"]
    with running_server("valkey", tmp_path, *slow) as server:
        registry = registry_of(server, health_timeout="20 seconds")
        assert isinstance(health_of(registry).error, redis.BusyLoadingError)
        wait_until(lambda: health_of(registry).ok)
