"""predis work: a handler's name, signals, and what the exit status tells."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from pyramid_baseplate_redis import DurableMessageQueue

from ..support.cli import PREDIS, ROOT, Predis
from ..support.servers import Server, running_server, wait_until
from ..support.topologies import SentinelSet

SECONDS = 30


class Worker:
    """``predis work`` as a process of its own."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def ends(self, *signals: signal.Signals) -> int:
        """Its exit status, behind these signals."""
        for number in signals:
            self.process.send_signal(number)
        return self.process.wait(SECONDS)


Start = Callable[..., Worker]


@pytest.fixture
def start(predis: Predis, tmp_path: Path) -> Iterator[Start]:
    """Start a worker on an application with the durable queue ``jobs``."""
    workers: list[subprocess.Popen[str]] = []

    def started(url: str, handler: str, *options: str, **settings: str) -> Worker:
        predis.write(foo__url=url, jobs__durable="true", **settings)
        log = tmp_path / "log"
        name = f"tests.support.cli_handlers:{handler}"
        command = [str(PREDIS), "work", str(predis.ini), "jobs", name, *options]
        with log.open("w") as stream:
            process = subprocess.Popen(
                command, cwd=ROOT, stdout=stream, stderr=stream, text=True,
                env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
            )  # fmt: skip
        workers.append(process)
        return Worker(process, log)

    yield started
    for process in workers:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture
def plain(valkey: Server) -> redis.Redis:
    return redis.Redis(port=valkey.port)


@pytest.fixture
def queue(plain: redis.Redis) -> DurableMessageQueue:
    return DurableMessageQueue("jobs", plain)


def test_messages_are_processed_until_a_signal(
    start: Start, valkey: Server, plain: redis.Redis, queue: DurableMessageQueue
) -> None:
    queue.put_many(["0"] * 20)
    worker = start(valkey.url, "count", "--concurrency", "4")
    wait_until(lambda: plain.get("processed") == b"20", SECONDS)
    assert worker.ends(signal.SIGTERM) == 0
    assert queue.stats().length == 0


@pytest.mark.slow("starts a worker, which imports everything again")
def test_each_message_is_one_line_in_the_log_of_an_ini_file_that_says_nothing_of_it(
    start: Start, valkey: Server, plain: redis.Redis, queue: DurableMessageQueue
) -> None:
    (first, second) = queue.put_many(["0", "0"])
    worker = start(valkey.url, "count")
    wait_until(lambda: plain.get("processed") == b"2", SECONDS)
    worker.ends(signal.SIGTERM)
    lines = [line for line in worker.log.splitlines() if " processed in " in line]
    assert [first in lines[0], second in lines[1], len(lines)] == [True, True, 2]


@pytest.mark.slow("starts a worker, which imports everything again")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_begun_is_finished_after_a_signal(
    start: Start, valkey: Server, plain: redis.Redis, queue: DurableMessageQueue,
    number: signal.Signals,
) -> None:  # fmt: skip
    queue.put("1")
    worker = start(valkey.url, "slow")
    wait_until(lambda: plain.get("begun") == b"1", SECONDS)
    assert worker.ends(number) == 0
    assert plain.get("processed") == b"1"
    assert queue.stats().length == 0


@pytest.mark.slow("starts a worker, which imports everything again")
def test_what_is_not_finished_within_the_grace_is_given_back(
    start: Start, valkey: Server, plain: redis.Redis, queue: DurableMessageQueue
) -> None:
    queue.put("60")
    worker = start(valkey.url, "slow", "--grace", "0.1")
    wait_until(lambda: plain.get("begun") == b"1", SECONDS)
    assert worker.ends(signal.SIGTERM) == 3
    with queue.receive(timeout=5) as message:
        assert message.body == b"60"


@pytest.mark.slow("starts a worker, which imports everything again")
def test_a_message_whose_handler_fails_is_a_dead_letter_in_the_end(
    start: Start, valkey: Server, queue: DurableMessageQueue
) -> None:
    queue.put("0")
    worker = start(valkey.url, "failing", jobs__max_attempts="2")
    wait_until(lambda: queue.stats().dead == 1, SECONDS)
    assert worker.ends(signal.SIGTERM) == 0
    assert queue.dead_letters()[0].error == "ZeroDivisionError"


def test_a_wrong_password_ends_it(start: Start, tmp_path: Path) -> None:
    with running_server("valkey", tmp_path, "--requirepass", "right") as server:
        worker = start(f"redis://:wrong@127.0.0.1:{server.port}/0", "count")
        assert worker.ends() == 1
    (line,) = [line for line in worker.log.splitlines() if "ERROR" in line]
    assert "jobs: stopped by foo: " in line
    assert "Traceback" not in worker.log
    assert "wrong@" not in worker.log


@pytest.mark.slow("starts a worker, which imports everything again")
def test_it_goes_on_when_the_server_was_away(start: Start, tmp_path: Path) -> None:
    with running_server("valkey", tmp_path) as server:
        worker = start(server.url, "count")
        wait_until(lambda: "1 thread processes messages" in worker.log, SECONDS)
        server.kill()
        wait_until(lambda: "waiting for the server" in worker.log, SECONDS)
        server.restart()
        with redis.Redis(port=server.port) as client:
            DurableMessageQueue("jobs", client).put("0")
            wait_until(lambda: client.get("processed") == b"1", SECONDS)
        assert worker.ends(signal.SIGTERM) == 0


@pytest.mark.slow("starts a worker, which imports everything again")
def test_it_goes_on_at_the_new_primary(start: Start, sentinels: SentinelSet) -> None:
    worker = start(sentinels.url, "count", foo__socket_timeout="1 second")
    wait_until(lambda: "1 thread processes messages" in worker.log, SECONDS)
    sentinels.failover()

    def processed_one() -> bool:
        with suppress(redis.RedisError), redis.Redis.from_url(sentinels.primary().url) as client:
            DurableMessageQueue("jobs", client).put("0")
            return bool(client.get("processed"))
        return False

    wait_until(processed_one, 2 * SECONDS)
    assert worker.ends(signal.SIGTERM) == 0


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        ("handle", "handle: a handler is written module:function"),
        ("nowhere.at.all:handle", "nowhere.at.all:handle: there is no module nowhere"),
        ("tests.nowhere:handle", "tests.nowhere:handle: there is no module tests.nowhere"),
        (
            "tests.support.cli_handlers:lost",
            "tests.support.cli_handlers:lost: tests.support.cli_handlers has no lost",
        ),
        (
            "tests.support.cli_handlers:not_callable",
            "tests.support.cli_handlers:not_callable: can't be called",
        ),
    ],
)
def test_a_handler_that_isnt_there_is_one_line(
    predis: Predis, valkey: Server, handler: str, message: str
) -> None:
    predis.write(foo__url=valkey.url, jobs__durable="true")
    ended = predis("work", "jobs", handler)
    assert (ended.status, ended.err) == (2, f"predis: {message}\n")


def test_an_error_in_the_handlers_module_keeps_its_traceback(
    predis: Predis, valkey: Server
) -> None:
    predis.write(foo__url=valkey.url, jobs__durable="true")
    with pytest.raises(ModuleNotFoundError, match="missing_module"):
        predis("work", "jobs", "tests.support.broken_handlers:handle")


def test_a_queue_that_isnt_there_is_one_line(predis: Predis, valkey: Server) -> None:
    predis.write(foo__url=valkey.url)
    ended = predis("work", "lost", "tests.support.cli_handlers:count")
    assert ended.status == 2
    assert ended.err == "predis: there is no message queue 'lost'; configured: jobs\n"


def test_a_queue_that_isnt_durable_is_one_line(predis: Predis, valkey: Server) -> None:
    predis.write(foo__url=valkey.url)
    ended = predis("work", "jobs", "tests.support.cli_handlers:count")
    assert ended.status == 2
    assert ended.err.startswith("predis: jobs.durable: there is no durable queue of that name")


def test_more_threads_than_connections_are_one_line(predis: Predis, valkey: Server) -> None:
    predis.write(foo__url=valkey.url, foo__max_connections="2", jobs__durable="true")
    ended = predis("work", "jobs", "tests.support.cli_handlers:count", "--concurrency", "3")
    assert ended.status == 2
    assert ended.err.startswith("predis: foo.max_connections: 2 connections are too few")
