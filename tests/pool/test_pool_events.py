"""The events of a pool, and the state of a slot while its connection is checked out."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import pool_from_config
from pyramid_baseplate_redis.cluster.pool import ClusterConnectionPool
from pyramid_baseplate_redis.pool import blocking_pool
from pyramid_baseplate_redis.pool.connections.slot import PoolSlot
from pyramid_baseplate_redis.pool.fair_queue import FairLifoQueue
from pyramid_baseplate_redis.settings.sources import load_client_settings

from ..support.servers import Server


class Listener:
    """Notes the events, and how long ago each began."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.seconds: dict[str, float] = {}

    def _note(self, name: str, since: float) -> None:
        self.events.append(name)
        self.seconds[name] = time.monotonic() - since

    def waited(self, since: float) -> None:
        self._note("waited", since)

    def used(self, since: float) -> None:
        self._note("used", since)

    def created(self, since: float) -> None:
        self._note("created", since)


@pytest.fixture
def _meter_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the pool find a meter provider."""
    monkeypatch.setattr(blocking_pool, "has_meter_provider", lambda: True)


@pytest.mark.usefixtures("_meter_provider")
def test_each_listener_is_notified_of_each_event(valkey: Server) -> None:
    pool = pool_from_config({"foo.url": valkey.url}, "foo.")
    listeners = [Listener(), Listener()]
    pool.listeners.extend(listeners)
    for _ in range(2):
        pool.release(pool.get_connection())
    for listener in listeners:
        assert listener.events == ["created", "waited", "used", "waited", "used"]


@pytest.mark.parametrize("set_during_use", [False, True])
def test_a_use_is_measured_if_there_was_a_meter_provider_when_it_began(
    valkey: Server, monkeypatch: pytest.MonkeyPatch, set_during_use: bool
) -> None:
    pool = pool_from_config({"foo.url": valkey.url}, "foo.")
    pool.release(pool.get_connection())
    listener = Listener()
    pool.listeners.append(listener)
    monkeypatch.setattr(blocking_pool, "has_meter_provider", lambda: not set_during_use)
    connection = pool.get_connection()
    monkeypatch.setattr(blocking_pool, "has_meter_provider", lambda: set_during_use)
    pool.release(connection)
    assert listener.events == ([] if set_during_use else ["waited", "used"])


@pytest.mark.usefixtures("_meter_provider")
def test_a_use_begins_when_the_connection_is_checked_out(valkey: Server) -> None:
    pool = pool_from_config({"foo.url": valkey.url}, "foo.")
    listener = Listener()
    pool.listeners.append(listener)
    connection = pool.get_connection()
    time.sleep(0.05)
    pool.release(connection)
    assert 0.05 <= listener.seconds["used"] < 5
    assert listener.seconds["waited"] < 0.05


@pytest.mark.usefixtures("_meter_provider")
def test_a_caller_that_gets_no_connection_is_no_event() -> None:
    pool = pool_from_config({"foo.url": "redis://127.0.0.1:1"}, "foo.")
    listener = Listener()
    pool.listeners.append(listener)
    with pytest.raises(redis.ConnectionError):
        pool.get_connection()
    assert listener.events == []


def test_the_pools_of_a_cluster_s_nodes_share_its_listeners() -> None:
    settings = load_client_settings({"foo.url": "redis+cluster://127.0.0.1:7000"}, "foo.")
    pool = ClusterConnectionPool(settings)
    node: Any = pool._make_node_pool("127.0.0.1", 7000)
    listener = Listener()
    pool.listeners.append(listener)
    assert node.listeners == [listener]


# The state of a slot


@pytest.fixture
def slot() -> PoolSlot:
    return FairLifoQueue(1).get()[0]


def test_a_check_out_records_the_use(valkey: Server) -> None:
    pool = pool_from_config({"foo.url": valkey.url}, "foo.")
    before = time.monotonic()
    connection = pool.get_connection()
    slot = connection.slot
    assert before <= slot.taken_at <= time.monotonic()
    pool.release(connection)
    assert "slot" not in vars(connection)
    assert slot.taken_at == math.inf


def test_a_connection_is_checked_in_once(slot: PoolSlot) -> None:
    connection = SimpleNamespace(slot=slot)
    slot.taken_at = 10.0
    assert (slot.check_in(connection), slot.check_in(connection)) == (10.0, None)


def test_a_probe_ends_with_the_use(slot: PoolSlot) -> None:
    connection = SimpleNamespace(slot=slot, probe=object())
    slot.check_in(connection)
    assert vars(connection) == {}


def test_each_long_use_is_overdue_once(slot: PoolSlot) -> None:
    for start in (10.0, 20.0):
        assert slot.overdue(1.0, start + 5) is None  # not checked out
        connection = SimpleNamespace(slot=slot)
        slot.taken_at = start
        assert slot.overdue(1.0, start + 0.5) is None
        assert slot.overdue(1.0, start + 1.5) == 1.5
        assert slot.overdue(1.0, start + 2.5) is None
        slot.check_in(connection)


def test_a_use_of_exactly_the_limit_is_overdue(slot: PoolSlot) -> None:
    slot.taken_at = 10.0
    assert slot.overdue(1.0, 11.0) == 1.0
