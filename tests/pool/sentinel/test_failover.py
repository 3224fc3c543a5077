"""After a switch, connections to the old primary are closed, and requests go to the new one."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import MonitoredRedisConnection, is_retryable, pool_from_config
from pyramid_baseplate_redis.pool.sentinel import pool as sentinel_module

from ...faults.helpers import tls_server
from ...support.fake_sentinel import told_of
from ...support.servers import RecordedSpans, needs_debian_redis, wait_until
from ...support.topologies import SentinelSet
from .conftest import MakeFoo, another_address, ask, error_of, pool_of, ports

# A switch that only the test knows of: a listener that starts meanwhile would ask the Sentinels.
NOBODY_LISTENS = pytest.mark.usefixtures("_no_listeners")


@pytest.fixture
def _no_listeners(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentinel_module, "start_listening", lambda *args: True)


@NOBODY_LISTENS
def test_an_announced_switch_closes_idle_connections(
    foo: MonitoredRedisConnection, valkeys: SentinelSet
) -> None:
    foo.ping()
    pool_of(foo).switched(another_address(valkeys))
    assert pool_of(foo).stats.open == 0


@NOBODY_LISTENS
def test_an_announced_switch_ends_a_command_that_waits_for_its_reply(
    foo: MonitoredRedisConnection, valkeys: SentinelSet
) -> None:
    errors: list[redis.RedisError] = []
    waiting = threading.Thread(target=lambda: errors.append(error_of(lambda: foo.blpop("k", 9))))
    waiting.start()
    admin = valkeys.primary().client
    wait_until(lambda: admin.info("clients")["blocked_clients"])
    pool_of(foo).switched(another_address(valkeys))
    waiting.join(2)
    assert isinstance(errors[0], redis.ConnectionError)


@NOBODY_LISTENS
def test_an_announced_switch_ends_a_subscription(
    foo: MonitoredRedisConnection, valkeys: SentinelSet
) -> None:
    with foo.pubsub() as subscriber:
        subscriber.subscribe("news")
        subscriber.get_message(timeout=1)
        pool_of(foo).switched(another_address(valkeys))
        with pytest.raises(redis.ConnectionError):
            subscriber.get_message(timeout=1)


@NOBODY_LISTENS
def test_an_announced_switch_ends_a_watch(
    foo: MonitoredRedisConnection, valkeys: SentinelSet
) -> None:
    with foo.pipeline() as pipeline:
        pipeline.watch("key")
        pool_of(foo).switched(another_address(valkeys))
        pipeline.multi()
        pipeline.set("key", "value")
        with pytest.raises(redis.WatchError):
            pipeline.execute()


@NOBODY_LISTENS
def test_an_announced_switch_closes_what_is_released_later(
    foo: MonitoredRedisConnection, valkeys: SentinelSet
) -> None:
    connection = pool_of(foo).get_connection()
    pool_of(foo).switched(another_address(valkeys))
    pool_of(foo).release(connection)
    assert pool_of(foo).stats.open == 0


@NOBODY_LISTENS
def test_connections_to_the_new_primary_stay(
    foo: MonitoredRedisConnection, valkeys: SentinelSet
) -> None:
    identity = foo.client_id()
    pool_of(foo).switched((valkeys.primary().host, valkeys.primary().port))
    assert foo.client_id() == identity


@pytest.mark.parametrize("news", ["demoted", "switched"])
def test_a_connection_that_is_released_meanwhile_keeps_no_other_from_being_left(
    foo: MonitoredRedisConnection,
    valkeys: SentinelSet,
    monkeypatch: pytest.MonkeyPatch,
    news: str,
) -> None:
    pool = pool_of(foo)
    released, held = pool.get_connection(), pool.get_connection()

    def seen_before() -> list[Any]:
        pool.release(released)
        return [released, held]

    # It is to be kept: the primary is the one that it was when that was decided.
    monkeypatch.setattr(sentinel_module.SentinelConnection, "is_reusable", lambda connection: True)
    monkeypatch.setattr(pool, "_get_in_use_connections", seen_before)
    if news == "demoted":
        pool.demoted((valkeys.primary().host, valkeys.primary().port))
    else:
        pool.switched(another_address(valkeys))
    with pytest.raises(redis.ConnectionError):
        ask(held)
    pool.release(held)


@NOBODY_LISTENS
def test_a_connection_that_is_being_made_meanwhile_goes_to_the_new_primary(
    foo: MonitoredRedisConnection, valkeys: SentinelSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, manager = pool_of(foo), pool_of(foo).sentinel_manager
    new = valkeys.replica()
    connect = redis.Connection._connect
    epoch = 1000  # newer than that of any switch which other tests have caused

    def connect_late(connection: Any) -> Any:
        is_ours = isinstance(connection, sentinel_module.SentinelConnection)
        if is_ours and manager.learn(epoch, (new.host, new.port)):
            pool.switched((new.host, new.port))  # with no socket yet to hang up
            told_of(manager, port=new.port, epoch=epoch)
        return connect(connection)

    monkeypatch.setattr(redis.Connection, "_connect", connect_late)
    assert pool.get_connection().port == new.port


def test_a_connection_is_given_up_when_the_primary_changes_all_the_time(
    foo: MonitoredRedisConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sentinel_module._Proxy, "is_right", lambda proxy, address: False)
    error = error_of(foo.ping)
    assert str(error).startswith("foo: The primary changed while connecting (asked Sentinels ")
    assert is_retryable(error) is True


@needs_debian_redis
def test_hanging_up_never_sends_anything_unencrypted(tmp_path: Path) -> None:
    with tls_server(tmp_path) as (_, url, trusted):
        pool = pool_from_config({"foo.url": url, "foo.ssl_ca_certs": trusted}, "foo.")
        connection = pool.get_connection()
        opened = connection._sock
        connection.shutdown_socket()
        # What its holder sends now fails; without the TLS object it would be plain text.
        assert opened._sslobj is not None
        with pytest.raises(redis.ConnectionError):
            ask(connection)
        pool.release(connection)


# Across a failover


def test_requests_go_to_the_new_primary(
    make_foo: MakeFoo, sentinels: SentinelSet, spans: RecordedSpans
) -> None:
    foo, old, new = make_foo(sentinels), sentinels.primary(), sentinels.replica()
    foo.set("key", "value")
    sentinels.failover()
    sentinels.wait_for_new_primary(old.port)
    wait_until(lambda: pool_of(foo).master_address == (new.host, new.port))
    spans.clear()
    foo.set("key", "another")
    assert ports(spans) == [("foo.SET", new.port)]


def failed_over(foo: MonitoredRedisConnection, sentinels: SentinelSet) -> None:
    new = sentinels.replica()
    sentinels.failover()
    wait_until(lambda: pool_of(foo).master_address == (new.host, new.port))


def test_a_lock_that_was_replicated_is_still_held(
    foo: MonitoredRedisConnection, valkeys: SentinelSet
) -> None:
    lock = foo.lock("lock", timeout=30)
    lock.acquire()
    assert foo.wait(1, 1000) == 1
    failed_over(foo, valkeys)
    assert not foo.lock("lock", blocking=False).acquire()
    lock.release()
    assert foo.lock("lock", timeout=1, blocking=False).acquire()


def test_a_subscriber_goes_on_at_the_new_primary(
    foo: MonitoredRedisConnection, valkeys: SentinelSet
) -> None:
    with foo.pubsub() as subscriber:
        subscriber.subscribe("news")
        subscriber.get_message(timeout=1)
        failed_over(foo, valkeys)
        messages = []
        deadline = time.monotonic() + 5
        while not messages and time.monotonic() < deadline:
            foo.publish("news", "a message")
            try:
                message = subscriber.get_message(timeout=0.1)
            except redis.ConnectionError:
                continue
            messages += [message["data"]] if message and message["type"] == "message" else []
        assert messages[:1] == [b"a message"]


def test_a_queue_that_waits_gets_what_is_put_at_the_new_primary(
    foo: MonitoredRedisConnection, valkeys: SentinelSet
) -> None:
    got: list[bytes] = []
    waiting = threading.Thread(
        target=lambda: got.append(foo.message_queue("jobs").get()), daemon=True
    )
    waiting.start()
    admin = valkeys.primary().client
    wait_until(lambda: admin.info("clients")["blocked_clients"])
    failed_over(foo, valkeys)
    foo.message_queue("jobs").put("a job")
    waiting.join(5)
    assert got == [b"a job"]
