"""The worker of a durable queue: how it starts, ends, survives, and what its exit code tells."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from opentelemetry import trace
from pyramid.config import Configurator

from pyramid_baseplate_redis import ConfigurationError, DurableMessageQueue, worker
from pyramid_baseplate_redis.worker import FAILED, FINISHED, UNFINISHED, engine, work

from ..support.servers import RecordedSpans, Server, running_server, wait_until
from ..support.workers_in_threads import Working

MakeConfig = Callable[..., Configurator]
PROJECT = Path(__file__).parents[2]


def test_each_message_is_a_call_of_the_handler(
    make_registry: Callable[..., Any], valkey: Server, queue: DurableMessageQueue
) -> None:
    got = []

    def handle(request: Any, message: Any) -> None:
        request.foo.set("seen", message.body)
        got.append(message.body)

    queue.put_many(["a", "b"])
    working = Working(make_registry(valkey), handle)
    wait_until(lambda: queue.stats().length == 0)
    assert working.end() == FINISHED
    assert got == [b"a", b"b"]


def test_a_thread_that_has_nothing_to_do_takes_no_second_to_stop(
    make_registry: Callable[..., Any], valkey: Server
) -> None:
    assert engine._WAIT_SECONDS <= 1
    assert Working(make_registry(valkey), lambda *_: None, concurrency=3).end() == FINISHED


def test_as_many_messages_are_processed_at_once_as_there_are_threads(
    make_registry: Callable[..., Any], valkey: Server, queue: DurableMessageQueue
) -> None:
    together = threading.Barrier(3, timeout=20)
    queue.put_many(["a", "b", "c"])
    working = Working(make_registry(valkey), lambda *_: together.wait(), concurrency=3)
    wait_until(lambda: queue.stats().length == 0, 20)
    assert working.end() == FINISHED


def test_a_handler_that_fails_gives_the_message_back_and_goes_on(
    make_registry: Callable[..., Any], valkey: Server, queue: DurableMessageQueue
) -> None:
    attempts = []

    def handle(request: Any, message: Any) -> None:
        attempts.append((message.body, message.attempts))
        if message.attempts == 1:
            raise KeyError("the first time")

    queue.put("job")
    working = Working(make_registry(valkey, jobs__backoff="none"), handle)
    wait_until(lambda: not queue.peek())
    assert working.end() == FINISHED
    assert attempts == [(b"job", 1), (b"job", 2)]


def test_each_message_is_one_line_in_the_log(
    make_registry: Callable[..., Any], valkey: Server, queue: DurableMessageQueue,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO, worker.__name__)

    def handle(request: Any, message: Any) -> None:
        if message.body == b"bad":
            raise KeyError

    good, bad = queue.put("good"), queue.put("bad")
    working = Working(make_registry(valkey, jobs__max_attempts="1"), handle)
    wait_until(lambda: queue.stats().length == 0)
    working.end()
    lines = [r.getMessage() for r in caplog.records if r.name == worker.__name__]
    (of_good,) = [line for line in lines if good in line]
    (of_bad,) = [line for line in lines if bad in line]
    assert of_good.startswith(f"jobs: {good} processed in ")
    assert of_good.endswith(" ms, attempt 1 of 1")
    assert of_bad.startswith(f"jobs: {bad} failed in ")
    assert of_bad.endswith(" ms, attempt 1 of 1: KeyError")


def test_the_context_belongs_to_the_process_span(
    make_registry: Callable[..., Any], valkey: Server, queue: DurableMessageQueue,
    spans: RecordedSpans,
) -> None:  # fmt: skip
    def handle(request: Any, message: Any) -> None:
        assert request.span is trace.get_current_span()
        request.foo.get("key")

    queue.put("job")
    working = Working(make_registry(valkey), handle)
    wait_until(lambda: queue.stats().length == 0)
    working.end()
    assert spans.parent_of(spans.one("foo.GET")) is spans.one("process jobs")


def test_what_a_handler_leaves_open_is_given_back(
    make_registry: Callable[..., Any], valkey: Server, queue: DurableMessageQueue
) -> None:
    subscribers = []

    def handle(request: Any, message: Any) -> None:
        subscribers.append(request.foo.pubsub())
        subscribers[0].subscribe("news")

    queue.put("job")
    working = Working(make_registry(valkey), handle)
    wait_until(lambda: queue.stats().length == 0)
    working.end()
    assert subscribers[0].connection_pool.stats.in_use == 0


def test_what_was_begun_is_finished_when_it_stops(
    make_registry: Callable[..., Any], valkey: Server, queue: DurableMessageQueue
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def handle(request: Any, message: Any) -> None:
        begun.set()
        assert may_end.wait(20)

    queue.put_many(["a", "b"])
    working = Working(make_registry(valkey), handle)
    assert begun.wait(20)
    working.stop.set()
    may_end.set()
    assert working.wait() == FINISHED
    assert queue.get(5) == b"b"


def test_what_is_not_finished_in_time_is_given_back_at_once(
    make_registry: Callable[..., Any], valkey: Server, queue: DurableMessageQueue
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def handle(request: Any, message: Any) -> None:
        begun.set()
        may_end.wait(20)

    queue.put("job")
    working = Working(make_registry(valkey), handle, grace=0.1)
    assert begun.wait(20)
    assert working.end() == UNFINISHED
    assert queue.get(0) == b"job"
    may_end.set()


def test_it_survives_a_restart_of_the_server(
    make_registry: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_server("valkey", tmp_path, "--appendonly", "yes") as server:
        got: list[bytes] = []
        registry = make_registry(server)
        working = Working(registry, lambda request, message: got.append(message.body))
        with redis.Redis(port=server.port) as raw:
            wait_until(lambda: raw.info("clients")["blocked_clients"])
            server.kill()
            wait_until(lambda: "waiting for the server" in caplog.text)
            server.restart()
            DurableMessageQueue("jobs", raw).put("job")
            wait_until(lambda: got, 20)
        assert working.end() == FINISHED
    assert caplog.text.count("jobs: the server is back") == 1


def test_what_can_not_be_acknowledged_at_the_end_is_the_exit_code(
    make_registry: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_server("valkey", tmp_path) as server:
        killed = threading.Event()

        def handle(request: Any, message: Any) -> None:
            server.kill()
            killed.set()

        with redis.Redis(port=server.port) as raw:
            DurableMessageQueue("jobs", raw).put("job")
        working = Working(make_registry(server), handle)
        assert killed.wait(20)
        assert working.end() == UNFINISHED
    assert "processed, but not acknowledged, and to be processed again: 1" in caplog.text


def test_an_error_that_waiting_does_not_mend_ends_it(
    make_registry: Callable[..., Any], valkey: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with redis.Redis(port=valkey.port) as raw:
        raw.set("{jobs}:messages", "something else")
    assert Working(make_registry(valkey), lambda *_: None, concurrency=2).wait() == FAILED
    assert "jobs: stopped by WRONGTYPE" in caplog.text


def test_a_handler_that_exits_ends_it_and_the_message_is_given_back(
    make_registry: Callable[..., Any], valkey: Server, queue: DurableMessageQueue
) -> None:
    queue.put("job")
    registry = make_registry(valkey, jobs__backoff="none")
    assert Working(registry, lambda *_: sys.exit("enough")).wait() == FAILED
    assert queue.get(0) == b"job"


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        ({"jobs__durable": "false"}, {}, "jobs.durable: there is no durable queue"),
        ({"foo__max_connections": "2"}, {"concurrency": 3}, "foo.max_connections: 2 connections"),
        ({}, {"concurrency": 0}, "a concurrency of 0"),
    ],
)
def test_what_can_not_work_is_refused(
    make_config: MakeConfig, settings: dict[str, str], options: dict[str, Any], message: str
) -> None:
    given = {"foo__url": "redis://localhost:1", "jobs__queue": "foo", "jobs__durable": "true"}
    config = make_config(**{**given, **settings})
    config.make_wsgi_app()
    with pytest.raises(ConfigurationError, match=message):
        work(config.registry, "jobs", lambda *_: None, **options)


# Signals

SCRIPT = """
    import logging, sys
    from pyramid.config import Configurator
    from pyramid_baseplate_redis.worker import work

    logging.basicConfig(level=logging.INFO)
    settings = {{"foo.url": {url!r}, "jobs.queue": "foo", "jobs.durable": "true"}}
    config = Configurator(settings=settings)
    config.include("pyramid_baseplate_redis")
    config.make_wsgi_app()

    def handle(request, message):
        request.foo.set("begun", "yes")
        request.foo.blpop("may end", 30)

    sys.exit(work(config.registry, "jobs", handle))
"""


@pytest.fixture
def process(valkey: Server, queue: DurableMessageQueue) -> Iterator[subprocess.Popen[str]]:
    """A worker that processes a message, until somebody pushes to ``may end``."""
    queue.put("job")
    script = textwrap.dedent(SCRIPT).format(url=valkey.url + "?socket_timeout=40")
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.PIPE, text=True) as process:
        with redis.Redis(port=valkey.port) as raw:
            wait_until(lambda: raw.exists("begun"), 30)
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_it_finish(
    process: subprocess.Popen[str], valkey: Server, queue: DurableMessageQueue, number: int
) -> None:
    os.kill(process.pid, number)
    with redis.Redis(port=valkey.port) as raw:
        raw.rpush("may end", "now")
    assert process.wait(30) == FINISHED
    assert queue.stats().length == 0


def test_a_second_signal_gives_back_what_is_not_finished(
    process: subprocess.Popen[str], queue: DurableMessageQueue
) -> None:
    assert process.stderr is not None
    os.kill(process.pid, signal.SIGTERM)
    for line in process.stderr:
        if "waiting for the messages" in line:
            break
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(30) == UNFINISHED
    assert queue.get(0) == b"job"
