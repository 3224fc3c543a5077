"""predis work: processes, the reloader, the handler's first argument."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import redis

from pyramid_baseplate_redis import DurableMessageQueue

from ..support.cli import PREDIS, ROOT, Predis
from ..support.servers import Server, wait_until
from .test_work import SECONDS, Start, plain, queue, start

__all__ = ["plain", "queue", "start"]

pytestmark = pytest.mark.slow("starts workers, which import everything again")


def processes_of(plain: redis.Redis) -> set[int]:
    return {int(member) for member in plain.smembers("processes")}


def test_several_processes_share_the_messages(
    start: Start, valkey: Server, plain: redis.Redis, queue: DurableMessageQueue
) -> None:
    queue.put_many(["1"] * 4)
    worker = start(valkey.url, "of_process", "--processes", "2", "--concurrency", "2")
    wait_until(lambda: len(processes_of(plain)) == 2, SECONDS)
    assert worker.process.pid not in processes_of(plain)
    assert worker.ends(signal.SIGTERM) == 0
    assert queue.stats().length == 0
    assert not any(psutil.pid_exists(pid) for pid in processes_of(plain))


def test_a_process_that_is_killed_is_replaced(
    start: Start, valkey: Server, plain: redis.Redis, queue: DurableMessageQueue
) -> None:
    queue.put_many(["0.5"] * 2)
    worker = start(valkey.url, "of_process", "--processes", "2")
    wait_until(lambda: len(processes_of(plain)) == 2, SECONDS)
    wait_until(lambda: queue.stats().length == 0)
    os.kill(min(processes_of(plain)), signal.SIGKILL)
    wait_until(lambda: "was killed by SIGKILL; starting another one" in worker.log)
    queue.put_many(["0.5"] * 40)  # enough for the time in which the other one starts
    wait_until(lambda: len(processes_of(plain)) == 3, SECONDS)
    assert worker.ends(signal.SIGTERM) == 0


def test_the_processes_end_when_their_parent_is_killed(
    start: Start, valkey: Server, plain: redis.Redis, queue: DurableMessageQueue
) -> None:
    queue.put_many(["1"] * 2)
    worker = start(valkey.url, "of_process", "--processes", "2")
    wait_until(lambda: len(processes_of(plain)) == 2, SECONDS)
    worker.process.kill()
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in processes_of(plain)), SECONDS)
    assert queue.stats().length == 0  # they finished what they had


def test_processes_that_can_not_work_stop_all(start: Start, tmp_path: Path, valkey: Server) -> None:
    worker = start(
        valkey.url, "count", "--processes", "2", "--concurrency", "3", foo__max_connections="2"
    )
    assert worker.process.wait(SECONDS) == 2
    assert "foo.max_connections: 2 connections are too few" in worker.log


def test_what_processes_do_not_finish_is_the_exit_status(
    start: Start, valkey: Server, plain: redis.Redis, queue: DurableMessageQueue
) -> None:
    queue.put("60")
    worker = start(valkey.url, "slow", "--processes", "2", "--grace", "0.1")
    wait_until(lambda: plain.get("begun") == b"1", SECONDS)
    assert worker.ends(signal.SIGTERM) == 3


def test_with_context_the_handler_gets_a_context(
    start: Start, valkey: Server, plain: redis.Redis, queue: DurableMessageQueue
) -> None:
    queue.put("x")
    worker = start(valkey.url, "with_context", "--with-context")
    wait_until(lambda: plain.get("class") == b"ServerContext", SECONDS)
    assert worker.ends(signal.SIGTERM) == 0


def test_a_handler_that_can_not_work_is_one_line(predis: Predis, valkey: Server) -> None:
    predis.write(foo__url=valkey.url, jobs__durable="true")
    ended = predis("work", "jobs", "tests.support.cli_handlers:one_argument")
    assert ended.status == 2
    (line,) = ended.err.splitlines()
    assert line.startswith("predis: jobs: the handler one_argument can't be called with two")


def test_it_starts_again_when_a_module_has_changed(
    predis: Predis, valkey: Server, plain: redis.Redis, queue: DurableMessageQueue, tmp_path: Path
) -> None:
    module = tmp_path / "edited_handlers.py"

    def write(text: str) -> None:
        module.write_text(
            f"def handle(request, message):\n    request.foo.rpush('said', '{text}')\n"
        )

    write("before")
    predis.write(foo__url=valkey.url, jobs__durable="true")
    command = [str(PREDIS), "work", str(predis.ini), "jobs", "edited_handlers:handle", "--reload"]
    path = f"{ROOT}:{tmp_path}"
    environment = {"PYTHONPATH": path, "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True) as process:
        try:
            queue.put("x")
            wait_until(lambda: plain.lrange("said", 0, -1) == [b"before"], SECONDS)
            time.sleep(2)  # until the reloader knows the module
            write("after")
            # The messages that come before it has started again are handled as before.
            for _ in range(100):
                queue.put("x")
                wait_until(lambda: queue.stats().length == 0, SECONDS)
                if plain.lindex("said", -1) == b"after":
                    break
                time.sleep(0.1)
            assert plain.lindex("said", -1) == b"after"
        finally:
            os.killpg(process.pid, signal.SIGINT)  # as Ctrl+C does
            process.wait(SECONDS)
