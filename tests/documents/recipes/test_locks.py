"""The recipe for locks: what happens when a lock is held, lost, slow to release or not needed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from pyramid.config import Configurator
from pyramid.response import Response
from redis.exceptions import LockNotOwnedError
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session
from webtest import TestApp

from docs.recipes.code import locks
from docs.recipes.code.locks import (
    BusyError,
    is_first_today,
    locked,
    rebuild,
    rebuild_all,
    rebuild_fenced,
    store,
    take_from_stock,
)
from pyramid_baseplate_redis import MonitoredRedisConnection

from ...support.servers import MakeClient, RecordedSpans, Server, running_server

LOCK = "lock:report:17"


@pytest.fixture
def client(valkey: Server, make_client: MakeClient) -> MonitoredRedisConnection:
    return make_client(valkey)


@pytest.fixture
def testapp(make_config: Callable[..., Configurator], valkey: Server) -> TestApp:
    config = make_config(foo__url=valkey.url)
    config.add_route("report", "/reports/{report}")
    config.add_view(rebuild, route_name="report", renderer="json")
    return TestApp(config.make_wsgi_app())


def get(testapp: TestApp) -> Response:
    return testapp.get("/reports/17", expect_errors=True)


def test_the_request_has_a_span_for_each_command_of_the_lock(
    testapp: TestApp, spans: RecordedSpans
) -> None:
    get(testapp)  # the first time, redis-py loads the script
    spans.clear()
    assert get(testapp).json == {"rows": 170}
    request = "GET /reports/{report}"
    assert spans.tree() == [(request, None), ("foo.SET", request), ("foo.EVALSHA", request)]


def test_a_lock_is_free_after_the_block(testapp: TestApp, client: redis.Redis) -> None:
    get(testapp)
    assert not client.exists(LOCK)


def test_a_caller_that_waits_too_long_gets_a_503(
    testapp: TestApp, client: redis.Redis, spans: RecordedSpans
) -> None:
    client.set(LOCK, "another's")
    spans.clear()
    response = get(testapp)
    assert (response.status_int, response.headers["Retry-After"]) == (503, "5")
    attempts = spans.named("foo.SET")
    assert 5 < len(attempts) <= 21
    assert all(span.status.is_ok for span in attempts)


def test_a_caller_that_waits_gets_the_lock_when_it_is_released(
    testapp: TestApp, client: redis.Redis
) -> None:
    client.set(LOCK, "another's")
    release = threading.Timer(0.2, client.delete, [LOCK])
    release.start()
    assert get(testapp).status_int == 200
    release.join()


def test_a_lock_ends_when_its_holder_dies(client: redis.Redis) -> None:
    client.lock(LOCK, timeout=0.2).acquire()  # and never releases it
    with locked(client, LOCK, timeout=30, wait=2):
        assert 25_000 < client.pttl(LOCK) <= 30_000


def test_a_lost_lock_is_logged_and_the_new_holder_keeps_its_own(
    client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    with locked(client, LOCK, timeout=30, wait=0):
        client.set(LOCK, "the new holder's")  # as after a failover
    assert client.get(LOCK) == b"the new holder's"
    (record,) = [record for record in caplog.records if record.name == locks.__name__]
    assert record.levelno == logging.WARNING


def test_a_failover_allows_a_second_holder(client: redis.Redis) -> None:
    with locked(client, LOCK, timeout=30, wait=0):
        client.flushall()  # the new primary has not got the key
        with locked(client, LOCK, timeout=30, wait=0):
            pass


def test_work_that_is_done_is_not_lost_if_the_release_fails(
    tmp_path: Path, make_client: MakeClient
) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        locked(make_client(server), LOCK, timeout=30, wait=0),
    ):
        server.kill()


def test_an_error_of_the_work_is_raised(client: redis.Redis) -> None:
    with pytest.raises(ZeroDivisionError), locked(client, LOCK, timeout=30, wait=0):
        raise ZeroDivisionError
    assert not client.exists(LOCK)


# Work that takes longer than the timeout


def test_long_work_extends_its_lock(client: redis.Redis) -> None:
    def reports() -> Iterator[int]:
        for report in range(3):
            client.pexpire("lock:reports", 5_000)  # nearly over
            yield report
            assert client.pttl("lock:reports") > 50_000

    rebuild_all(client, reports())


def test_long_work_stops_when_its_lock_is_lost(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[int] = []

    def build(report: int) -> None:
        built.append(report)
        if report == 2:
            client.delete("lock:reports")

    monkeypatch.setattr(locks, "build", build)
    with pytest.raises(LockNotOwnedError):
        rebuild_all(client, [1, 2, 3])
    assert built == [1, 2]


# Fencing


@pytest.fixture
def session() -> Iterator[Session]:
    engine = create_engine("sqlite://")
    with Session(engine) as session:
        session.execute(text("CREATE TABLE report (id INTEGER, rows INTEGER, fence INTEGER)"))
        session.execute(text("INSERT INTO report VALUES (17, 0, 0)"))
        yield session
    engine.dispose()


def rows(session: Session) -> Any:
    return session.scalar(text("SELECT rows FROM report"))


def test_the_holder_of_the_lock_stores_the_report(client: redis.Redis, session: Session) -> None:
    rebuild_fenced(client, session, 17)
    rebuild_fenced(client, session, 17)
    assert rows(session) == 170


def test_an_old_holder_cannot_overwrite_a_new_one(
    client: redis.Redis, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build_slowly(report: int) -> int:
        monkeypatch.undo()
        client.delete(LOCK)  # it expires while this holder is building
        rebuild_fenced(client, session, report)
        return -1

    monkeypatch.setattr(locks, "build", build_slowly)
    with pytest.raises(BusyError):
        rebuild_fenced(client, session, 17)
    assert rows(session) == 170


def test_a_counter_that_went_back_refuses_instead_of_overwriting(
    client: redis.Redis, session: Session
) -> None:
    store(session, 17, 170, fence=5)
    client.set("fence:report:17", 3)  # a failover lost two increments
    with pytest.raises(BusyError):
        rebuild_fenced(client, session, 17)
    assert rows(session) == 170


def test_a_counter_that_went_back_does_not_stop_a_holder_with_a_lost_number(
    client: redis.Redis, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build_during_failover(report: int) -> int:
        monkeypatch.undo()
        client.delete(LOCK)
        client.set("fence:report:17", 2)  # this holder has 4
        rebuild_fenced(client, session, report)
        return -1

    client.set("fence:report:17", 3)
    monkeypatch.setattr(locks, "build", build_during_failover)
    rebuild_fenced(client, session, 17)
    assert rows(session) == -1


# Without a lock


def in_threads(function: Callable[[], Any], calls: int = 40) -> list[Any]:
    with ThreadPoolExecutor(8) as executor:
        return [future.result() for future in [executor.submit(function) for _ in range(calls)]]


def test_only_one_call_is_the_first(client: redis.Redis) -> None:
    assert sum(in_threads(lambda: is_first_today(client, "ada", "2030-01-01"))) == 1
    assert 0 < client.ttl("greeted:ada:2030-01-01") <= 48 * 3600


def test_no_more_is_taken_than_there_is(client: redis.Redis) -> None:
    client.set("pens", 10)
    assert sum(in_threads(lambda: take_from_stock(client, "pens"))) == 10
    assert client.get("pens") == b"0"


def test_a_unique_message_is_in_the_queue_once(client: MonitoredRedisConnection) -> None:
    queue = client.durable_queue("jobs")
    in_threads(lambda: queue.put("report 17", unique="report 17"), 10)
    assert queue.stats().length == 1
