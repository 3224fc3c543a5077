"""Locks of a monitored client have spans and use the client that made them."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
import redis
from redis.lock import Lock

from pyramid_baseplate_redis import RedisContextFactory

from ..support.servers import MakeClient, RecordedSpans, Server
from .conftest import failures, tracer


def test_a_lock_is_taken_and_released_in_spans(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(server)
    client.script_flush()
    spans.clear()
    with tracer.start_as_current_span("request"), client.lock("door", timeout=5):
        assert client.exists("door")
    assert not client.exists("door")
    assert spans.tree() == [
        ("request", None),
        ("foo.SET", "request"),
        ("foo.EXISTS", "request"),
        ("foo.EVALSHA", "request"),
        ("foo.SCRIPT LOAD", "request"),
        ("foo.EVALSHA", "request"),
        ("foo.EXISTS", None),
    ]
    assert failures(spans) == []


def test_a_second_release_finds_the_script_loaded(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(valkey)
    with client.lock("door", timeout=5):
        pass
    spans.clear()
    with client.lock("door", timeout=5):
        pass
    assert spans.names == ["foo.SET", "foo.EVALSHA"]


def test_extending_and_reacquiring_a_lock(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(server)
    lock = client.lock("door", timeout=5)
    assert lock.acquire()
    assert lock.extend(100) is True
    assert client.ttl("door") > 50
    assert lock.reacquire() is True
    assert client.ttl("door") <= 5
    lock.release()
    assert failures(spans) == []


def test_a_lock_that_another_holds_is_no_failure(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(server)
    client.lock("door", timeout=5).acquire()
    assert client.lock("door", timeout=5, blocking=False).acquire() is False
    assert client.lock("door", timeout=5, sleep=0.01, blocking_timeout=0.05).acquire() is False
    assert failures(spans) == []


def test_losing_a_lock_is_reported_by_the_exception_alone(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(valkey)
    lock = client.lock("door", timeout=5)
    lock.acquire()
    client.delete("door")
    with pytest.raises(redis.exceptions.LockNotOwnedError):
        lock.release()
    assert failures(spans) == []


def test_a_lock_waits_for_another_request(valkey: Server, make_client: MakeClient) -> None:
    held = make_client(valkey).lock("door", timeout=5, thread_local=False)
    held.acquire()
    timer = threading.Timer(0.1, held.release)
    timer.start()
    assert make_client(valkey).lock("door", sleep=0.02).acquire(blocking_timeout=4) is True
    timer.join()


@pytest.fixture
def own_lock_class() -> type[Lock]:
    """A user's own kind of lock, of which no instance was made yet."""
    return type("OwnLock", (Lock,), {})


@pytest.fixture
def fresh_lock_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plain client of this process has made a lock yet."""
    for name in ("lua_release", "lua_extend", "lua_reacquire"):
        monkeypatch.setattr(Lock, name, None)


@pytest.mark.usefixtures("fresh_lock_class")
@pytest.mark.parametrize("own", [False, True], ids=["default", "own class"])
def test_a_lock_doesnt_keep_the_first_requests_client(
    factory: RedisContextFactory, own_lock_class: type[Lock], own: bool
) -> None:
    client = factory.make_object_for_context("foo", None)
    with client.lock("door", timeout=5, lock_class=own_lock_class if own else None):
        pass
    reference = weakref.ref(client)
    del client
    gc.collect()
    assert reference() is None


@pytest.mark.usefixtures("fresh_lock_class")
def test_a_users_own_lock_class_is_used(
    valkey: Server, make_client: MakeClient, own_lock_class: type[Lock], spans: RecordedSpans
) -> None:
    client = make_client(valkey)
    client.script_flush()
    lock = client.lock("door", timeout=5, lock_class=own_lock_class)
    assert isinstance(lock, own_lock_class)
    with lock:
        assert lock.owned()
    assert failures(spans) == []


@pytest.mark.usefixtures("fresh_lock_class")
def test_a_users_own_lock_class_that_a_plain_client_used_first(
    valkey: Server, make_client: MakeClient, own_lock_class: type[Lock], spans: RecordedSpans
) -> None:
    with redis.Redis(port=valkey.port) as plain, plain.lock("other", lock_class=own_lock_class):
        pass
    client = make_client(valkey)
    client.script_flush()
    with client.lock("door", timeout=5, lock_class=own_lock_class):
        pass
    assert failures(spans) == []


@pytest.mark.usefixtures("fresh_lock_class")
def test_a_lock_leaves_plain_clients_locks_alone(valkey: Server, make_client: MakeClient) -> None:
    with make_client(valkey).lock("door", timeout=5):
        pass
    assert (Lock.lua_release, Lock.lua_extend, Lock.lua_reacquire) == (None, None, None)
