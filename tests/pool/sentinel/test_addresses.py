"""The pool's address of the primary: what it does when the address changes."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import (
    CircuitOpenError,
    MonitoredRedisConnection,
    sentinel_pool_from_config,
)
from pyramid_baseplate_redis.pool.sentinel import pool as sentinel_module

from ...support.fake_sentinel import FakeSentinel
from ...support.topologies import SentinelSet
from .conftest import NOWHERE, MakeFoo, error_of, pool_of

OLD, NEW = ("10.0.0.1", 1), ("10.0.0.1", 2)


def pool_with(sentinel: FakeSentinel, **options: Any) -> Any:
    """Return a pool that asks this Sentinel, and collects the addresses of its switches."""
    settings = {"foo.url": "redis+sentinel://127.0.0.1:1/mymaster"}
    pool: Any = sentinel_pool_from_config(settings, "foo.", **options)
    pool.sentinel_manager.sentinels = [sentinel]
    pool.switches = []
    pool.switched = pool.switches.append
    return pool


def test_a_new_address_of_the_primary_is_a_switch() -> None:
    sentinel = FakeSentinel(1, port=1)
    pool = pool_with(sentinel)

    assert pool.get_master_address() == OLD
    assert pool.get_master_address() == OLD
    assert pool.switches == []
    sentinel.says = {"port": 2}
    assert pool.get_master_address() == NEW
    assert pool.switches == [NEW]


def test_a_new_address_is_no_switch_for_a_pool_of_replicas() -> None:
    sentinel = FakeSentinel(1, port=1)
    pool = pool_with(sentinel)
    pool.proxy.is_master = False
    pool.proxy.master_address = OLD
    sentinel.says = {"port": 2}
    pool.get_master_address()

    assert pool.switches == []


def test_a_pool_may_have_connections_to_the_primary_only() -> None:
    pool = pool_with(FakeSentinel(1, port=1))
    pool.get_master_address()

    assert pool.proxy.is_right(OLD)
    assert not pool.proxy.is_right(NEW)
    pool.sentinel_manager.distrust(OLD)
    assert not pool.proxy.is_right(OLD)


def test_a_pool_of_replicas_may_have_connections_to_any_server() -> None:
    pool = pool_with(FakeSentinel(1, port=1))
    pool.proxy.is_master = False

    assert pool.proxy.is_right(NEW)


def test_only_the_address_that_is_wrong_is_forgotten() -> None:
    pool = pool_with(FakeSentinel(1, port=1))
    pool.get_master_address()

    assert pool.proxy.forget(NEW) is False
    assert pool.master_address == OLD
    assert pool.proxy.forget(OLD) is False
    assert pool.master_address is None


def test_the_address_of_a_demoted_primary_is_asked_for_again() -> None:
    pool = pool_with(FakeSentinel(1, port=1))
    pool.get_master_address()
    pool.demoted(OLD)

    assert pool.master_address is None


@pytest.mark.parametrize("deadline", [None, "5 seconds"])
def test_sentinels_that_are_gone_open_the_circuit_breaker(
    make_foo: MakeFoo, deadline: str | None
) -> None:
    settings = {} if deadline is None else {"deadline": deadline}
    foo = make_foo(NOWHERE, breaker_failures="1", **settings)

    assert not isinstance(error_of(foo.ping), CircuitOpenError)
    assert isinstance(error_of(foo.ping), CircuitOpenError)


def test_a_connection_is_tried_three_times_while_the_primary_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connects = []
    pool = pool_with(FakeSentinel(1, port=1))
    connection = pool.make_connection()
    monkeypatch.setattr(sentinel_module._Proxy, "is_right", lambda proxy, address: False)
    monkeypatch.setattr(
        sentinel_module.SentinelManagedConnection, "connect", lambda self: connects.append(1)
    )
    connection.host, connection.port = OLD

    with pytest.raises(redis.ConnectionError, match="changed while connecting"):
        connection.connect()
    assert len(connects) == 3


# Idle connections of a Sentinel set


def number_of_idle(foo: MonitoredRedisConnection) -> int:
    """Return the server's number for the connection that is idle when this returns."""
    return int(foo.client_id())


def test_an_idle_connection_to_another_server_than_the_primary_is_not_used(
    foo: MonitoredRedisConnection,
) -> None:
    number = number_of_idle(foo)
    pool_of(foo).proxy.master_address = NEW

    assert number_of_idle(foo) != number


def test_an_idle_connection_that_the_primary_has_closed_is_not_used(
    foo: MonitoredRedisConnection, valkeys: SentinelSet
) -> None:
    number = number_of_idle(foo)
    valkeys.primary().client.client_kill_filter(_id=str(number))

    assert number_of_idle(foo) != number


def test_a_connection_to_another_server_than_the_primary_is_closed_at_its_return(
    foo: MonitoredRedisConnection,
) -> None:
    pool = pool_of(foo)
    connection = pool.get_connection()
    pool.proxy.master_address = NEW
    pool.release(connection)

    assert pool.stats.open == 0


def test_a_connection_with_an_unread_reply_is_closed_at_its_return(
    foo: MonitoredRedisConnection,
) -> None:
    pool = pool_of(foo)
    connection = pool.get_connection()
    connection.send_command("PING")
    pool.release(connection)

    assert pool.stats.open == 0
