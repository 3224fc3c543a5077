"""The threads that listen to Sentinels: one for each, in each process, as long as the pool."""

from __future__ import annotations

import _thread
import gc
import os
import threading
import time
import weakref
from collections import deque
from typing import Any
from unittest import mock

import pytest
import redis

from pyramid_baseplate_redis import MonitoredRedisConnection, sentinel_pool_from_config
from pyramid_baseplate_redis.pool.sentinel.events import start_listening

from ...faults.helpers import in_child
from ...support.servers import wait_until
from ...support.topologies import SentinelSet
from .conftest import MakeFoo, listeners_at, pool_of


def test_each_sentinel_is_listened_to_once(valkeys: SentinelSet, make_foo: MakeFoo) -> None:
    foo = make_foo(valkeys)
    threads = [threading.Thread(target=foo.ping) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: listeners_at(valkeys, pool_of(foo)) >= 3)
    time.sleep(0.1)
    assert listeners_at(valkeys, pool_of(foo)) == 3


def test_where_no_thread_can_be_started_the_next_request_tries_again(
    valkeys: SentinelSet, make_foo: MakeFoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    foo = make_foo(valkeys)
    start, started = _thread.start_new_thread, []

    def start_one(*args: Any) -> int:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(args)
        return start(*args)

    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", start_one)
        foo.ping()
        foo.ping()
    foo.ping()
    wait_until(lambda: listeners_at(valkeys, pool_of(foo)) >= 3)
    time.sleep(0.1)
    assert listeners_at(valkeys, pool_of(foo)) == 3


def dropped_pool(sentinels: SentinelSet, name: str) -> weakref.ref[Any]:
    """Make a pool that all Sentinels are listened to for, and drop it."""
    pool = sentinel_pool_from_config({"foo.url": sentinels.url, "foo.client_name": name}, "foo.")
    pool.release(pool.get_connection())
    wait_until(lambda: listeners_at(sentinels, name) == 3)
    return weakref.ref(pool)


def test_the_listeners_end_when_the_pool_is_dropped(valkeys: SentinelSet) -> None:
    dropped_pool(valkeys, "dropped")
    wait_until(lambda: listeners_at(valkeys, "dropped") == 0, 2.5)


def test_a_pool_that_is_dropped_is_freed_at_once(valkeys: SentinelSet) -> None:
    gc.disable()
    try:
        pool = dropped_pool(valkeys, "freed")
        wait_until(lambda: pool() is None, 0.5)
    finally:
        gc.enable()


def test_a_listener_whose_sentinel_hangs_up_comes_back(
    foo: MonitoredRedisConnection, valkeys: SentinelSet
) -> None:
    foo.ping()
    wait_until(lambda: listeners_at(valkeys, pool_of(foo)) == 3)
    for node in valkeys.sentinels:
        node.client.client_kill_filter(_type="pubsub")
    wait_until(lambda: listeners_at(valkeys, pool_of(foo)) == 3, 3)


def test_a_forked_process_listens_for_itself(
    foo: MonitoredRedisConnection, valkeys: SentinelSet
) -> None:
    foo.ping()
    wait_until(lambda: listeners_at(valkeys, pool_of(foo)) == 3)

    def in_the_child() -> int:
        foo.ping()
        wait_until(lambda: listeners_at(valkeys, pool_of(foo)) == 6)
        return listeners_at(valkeys, pool_of(foo))

    assert in_child(in_the_child) == 6


def test_a_forked_process_has_connections_of_its_own(
    foo: MonitoredRedisConnection, valkeys: SentinelSet
) -> None:
    number = foo.client_id()
    assert in_child(foo.client_id) != number
    assert foo.client_id() == number


class _UnreachableSentinel:
    attempts = 0

    def pubsub(self, **options: Any) -> Any:
        self.attempts += 1
        raise redis.ConnectionError("Connection refused")


class _Pool:
    service_name = "mymaster"
    sentinel_manager = None

    def __init__(self, sentinel: Any) -> None:
        self.pid = os.getpid()
        self.unsubscribed = deque([sentinel])


def test_a_sentinel_is_tried_again_after_a_pause_while_time_sleep_is_replaced() -> None:
    sentinel = _UnreachableSentinel()
    pool: Any = _Pool(sentinel)
    with mock.patch("time.sleep"):  # which replaces it in every thread
        start_listening(pool)
        threading.Event().wait(0.2)
    assert 0 < sentinel.attempts < 100
