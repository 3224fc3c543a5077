"""Connections that Sentinels name: the direct way does what redis-py's way does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis.maint_notifications import MaintNotificationsConfig
from redis.sentinel import SentinelManagedConnection

from pyramid_baseplate_redis import MonitoredRedisConnection
from pyramid_baseplate_redis.pool.blocking_pool import BlockingConnectionPool
from pyramid_baseplate_redis.pool.circuit_breaker import CircuitBreaker
from pyramid_baseplate_redis.pool.sentinel.pool import SentinelConnection

from .both_ways import compare
from .scripted_server import CLOSE, ScriptedServer, Step


class _Proxy:
    """Stands in for a pool behind Sentinel."""

    check_connection = False
    service_name = "mymaster"

    def __init__(self, port: int, is_master: bool) -> None:
        self.address = ("127.0.0.1", port)
        self.is_master = is_master
        self.calls: list[Any] = []

    def get_master_address(self) -> Any:
        return self.address

    def rotate_slaves(self) -> Any:
        yield self.address

    def is_right(self, address: Any) -> bool:
        return True

    def forget(self, address: Any) -> bool:
        self.calls.append(("forget", address))
        return False

    def demoted(self, address: Any) -> None:
        self.calls.append(("demoted", address))


def pool_of(cls: Any, proxy: _Proxy) -> BlockingConnectionPool:
    """Return a pool of connections that ask ``proxy`` for the server's address."""
    pool = BlockingConnectionPool(
        name="foo",
        connection_class=cls,
        socket_timeout=0.2,
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
        breaker=CircuitBreaker("foo", 3, 10),
    )
    pool.connection_kwargs["connection_pool"] = proxy
    return pool


SCRIPTS: dict[str, list[list[Step]]] = {
    "replies": [[b"+OK\r\n"]] * 3,
    "an error": [[b"-ERR no\r\n"]] * 3,
    "a replica": [[b"-READONLY You can't write against a read only replica.\r\n"]] * 3,
    "a replica, later": [
        [b"+OK\r\n"], [b"-READONLY You can't write against a read only replica.\r\n"],
        [b"+OK\r\n"],
    ],
    "no reply": [[]],
    "closed": [[CLOSE]],
    "a connection error": [[b"-LOADING x\r\n"]],
    "not the protocol": [[b"what\r\n"]],
}  # fmt: skip


def pipeline(client: MonitoredRedisConnection) -> Any:
    return client.pipeline(transaction=False).set("a", "b").get("c").set("d", "e").execute()


CALLS: dict[str, Callable[[MonitoredRedisConnection], Any]] = {
    "command": lambda client: client.set("key", "value"),
    "pipeline": pipeline,
}


@pytest.mark.parametrize("is_master", [True, False])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_command(
    server: ScriptedServer,
    monkeypatch: pytest.MonkeyPatch,
    script: list[list[Step]],
    call: Callable[[MonitoredRedisConnection], Any],
    is_master: bool,
) -> None:
    server.per_connection = script
    proxies = []
    pools = []

    def make() -> MonitoredRedisConnection:
        proxies.append(_Proxy(server.port, is_master))
        pools.append(pool_of(SentinelConnection, proxies[-1]))
        return MonitoredRedisConnection("foo", None, pools[-1])

    compare(monkeypatch, make, call)

    directly, otherwise = proxies
    assert directly.calls == otherwise.calls
    for pool in pools:
        pool.disconnect()


def test_redis_py_s_own_connections_are_not_direct(server: ScriptedServer) -> None:
    pool = pool_of(SentinelManagedConnection, _Proxy(server.port, True))
    connection = pool.get_connection()
    assert not connection.is_direct
    pool.release(connection)
    pool.disconnect()
