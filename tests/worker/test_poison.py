"""Handlers that kill their process, hang or fail, and what becomes of the other messages."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import DurableMessageQueue
from pyramid_baseplate_redis.worker.engine import Worker

from ..support.servers import Server, wait_until
from ..support.workers_in_threads import Working

PROJECT = Path(__file__).parents[2]
MakeRegistry = Callable[..., Any]

SCRIPT = """
    import os, signal, time
    from pyramid.config import Configurator
    from pyramid_baseplate_redis.worker import work

    settings = {{
        "foo.url": {url!r}, "jobs.queue": "foo", "jobs.durable": "true",
        "jobs.lease": "500 milliseconds", "jobs.max_attempts": "3",
    }}
    config = Configurator(settings=settings)
    config.include("pyramid_baseplate_redis")

    def handle(request, message):
        if message.body == b"poison":
            time.sleep(0.02)  # so that the others are being handled
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.01)
        request.foo.incr("processed")

    work(config.make_wsgi_app().registry, "jobs", handle, concurrency=4)
"""


@pytest.mark.slow("it starts ten processes")
def test_messages_that_kill_the_process_take_no_good_ones_with_them(
    valkey: Server, queue: DurableMessageQueue, raw: redis.Redis
) -> None:
    queue.put_many(["good"] * 6 + ["poison"] + ["good"] * 6 + ["poison"] * 2 + ["good"] * 6)
    script = textwrap.dedent(SCRIPT).format(url=valkey.url)

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", script], cwd=PROJECT)

    process = start()
    deadline = time.monotonic() + 60
    while queue.stats().dead < 3 or queue.stats().length:
        assert time.monotonic() < deadline
        if process.poll() is not None:
            process = start()
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert [letter.body for letter in queue.dead_letters()] == [b"poison"] * 3
    processed: Any = raw.get("processed")
    assert int(processed) >= 18  # a message in flight when the process dies may count twice


def test_one_handler_that_hangs_stops_no_other_thread(
    make_registry: MakeRegistry, valkey: Server, queue: DurableMessageQueue,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    may_end = threading.Event()
    hung: list[int] = []
    good: list[bytes] = []

    def handle(request: Any, message: Any) -> None:
        if message.body == b"hangs":
            hung.append(message.attempts)
            may_end.wait(20)
        else:
            good.append(message.body)

    queue.put("hangs")
    working = Working(
        make_registry(valkey, jobs__lease="300 milliseconds"), handle, concurrency=2, grace=0.1
    )
    wait_until(lambda: "has outlived the lease of 0.3 s" in caplog.text)
    for number in range(20):
        queue.put(f"{number}")
        time.sleep(0.05)
    wait_until(lambda: len(good) == 20)
    assert hung == [1]  # this process does not receive it again
    assert caplog.text.count("has outlived the lease") == 1
    assert " in handle\n" in caplog.text  # the stack
    may_end.set()
    working.end()


def test_a_handler_that_always_fails_is_slowed_down_once(
    make_registry: MakeRegistry, valkey: Server, queue: DurableMessageQueue,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    attempts: list[int] = []

    def handle(request: Any, message: Any) -> None:
        attempts.append(message.attempts)
        raise ZeroDivisionError

    queue.put_many([f"{number}" for number in range(30)])
    working = Working(make_registry(valkey), handle, concurrency=2)
    wait_until(lambda: "10 messages have failed in a row" in caplog.text)
    time.sleep(0.3)  # within the first pause
    working.end()
    assert len(attempts) <= 11  # two threads were handling one each
    # What was received and not begun counts no attempt.
    assert sum(message.attempts > 1 for message in queue.peek(30)) == 0


def test_what_was_read_ahead_is_given_back_when_it_stops(
    make_registry: MakeRegistry, valkey: Server, queue: DurableMessageQueue
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def handle(request: Any, message: Any) -> None:
        if message.body == b"2":
            begun.set()
            may_end.wait(20)

    queue.put_many([f"{number}" for number in range(1, 20)])
    working = Working(make_registry(valkey), handle, prefetch=10)
    assert begun.wait(20)
    working.stop.set()
    time.sleep(0.2)
    may_end.set()
    assert working.wait() == 0
    got = []
    for _ in range(17):
        with queue.receive(0) as message:
            got.append((int(message.body), message.attempts))
    assert sorted(got) == [(number, 1) for number in range(3, 20)]


def test_messages_are_acknowledged_together(
    make_registry: MakeRegistry, valkey: Server, queue: DurableMessageQueue, raw: redis.Redis
) -> None:
    queue.put_many(["x"] * 41)  # the first is received by itself
    raw.config_resetstat()
    working = Working(make_registry(valkey), lambda *_: None, prefetch=20)
    wait_until(lambda: queue.stats().length == 0)
    working.end()
    statistics: Any = raw.info("commandstats")
    assert statistics["cmdstat_xdel"]["calls"] <= 6


def test_without_reading_ahead_each_is_acknowledged_by_itself(
    make_registry: MakeRegistry, valkey: Server, queue: DurableMessageQueue, raw: redis.Redis
) -> None:
    queue.put_many(["x"] * 5)
    raw.config_resetstat()
    working = Working(make_registry(valkey), lambda *_: None, prefetch=1)
    wait_until(lambda: queue.stats().length == 0)
    working.end()
    statistics: Any = raw.info("commandstats")
    assert statistics["cmdstat_xdel"]["calls"] == 5


def test_messages_that_wait_for_a_slow_handler_keep_their_lease(
    make_registry: MakeRegistry, valkey: Server, queue: DurableMessageQueue
) -> None:
    seen: list[tuple[bytes, int]] = []

    def handle(request: Any, message: Any) -> None:
        if message.body == b"1":
            # One long message among many: the pace measured before it was quick.
            until = time.monotonic() + 0.9
            while time.monotonic() < until:
                message.extend()
                time.sleep(0.05)
        seen.append((message.body, message.attempts))

    queue.put_many([str(number) for number in range(6)])
    working = Working(make_registry(valkey, jobs__lease="300 milliseconds"), handle, prefetch=10)
    wait_until(lambda: queue.stats().length == 0)
    working.end()
    assert sorted(seen) == [(b"%d" % number, 1) for number in range(6)]


def make_worker(registry: Any, handle: Callable[..., Any]) -> Worker:
    """Make a worker that is not started."""
    return Worker(
        registry, "jobs", handle, with_context=False, concurrency=1, prefetch=20,
        stop=threading.Event(),
    )  # fmt: skip


def test_what_was_processed_is_acknowledged_before_a_suspect_begins(
    make_registry: MakeRegistry, valkey: Server, queue: DurableMessageQueue
) -> None:
    lengths = []
    worker = make_worker(make_registry(valkey), lambda *_: lengths.append(queue.stats().length))
    queue.put_many(["good", "suspect"])
    good, suspect = worker._receiver.wait(2, 0)
    worker._acknowledgements.add(good)
    worker._process(worker._dispatcher._begun(suspect, is_alone=True))
    assert lengths == [1]


def test_a_processed_message_is_acknowledged_and_not_given_back_when_it_stops(
    make_registry: MakeRegistry, valkey: Server, queue: DurableMessageQueue
) -> None:
    worker = make_worker(make_registry(valkey), lambda *_: None)
    queue.put("processed")
    (message,) = worker._receiver.wait(1, 0)
    worker._dispatcher._begun(message, is_alone=False)
    worker._acknowledgements.add(message)
    assert worker._give_back() == 0
    worker._acknowledgements.flush()
    assert queue.stats().length == 0
