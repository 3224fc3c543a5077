"""Behind a prefork server: workers outlive their Redis, and one another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psutil
import pytest
from mirakuru import HTTPExecutor

from ..support.servers import Server, free_port, running_server, wait_until
from .everywhere import PROJECT
from .helpers import check, frozen, unique

pytestmark = pytest.mark.slow("kills gunicorn workers and servers")

WORKERS = {
    "sync": ["--preload"],
    "gthread": ["--preload", "-k", "gthread", "--threads", "4"],
    "gevent": ["-k", "gevent"],
}


@dataclass
class Served:
    """An application behind gunicorn, with two workers."""

    url: str
    master: psutil.Process

    @property
    def workers(self) -> list[psutil.Process]:
        return self.master.children()

    def ask(self) -> bool:
        """Send a request; whether it was answered, which has to be right."""
        text = unique()
        try:
            with urlopen(f"{self.url}/echo/{text}", timeout=20) as response:
                replies = json.load(response)["replies"]
        except (HTTPException, URLError, ConnectionError, TimeoutError):
            return False
        check(replies, [text, text])
        return True


@contextmanager
def served(kind: str, redis: Server) -> Iterator[Served]:
    port = free_port()
    command = [
        sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "2",
        "--log-level", "critical", *WORKERS[kind], "tests.integration.wsgi_app:application()",
    ]  # fmt: skip
    environment = {**os.environ, "REDIS_URL": f"{redis.url}?socket_timeout=0.5"}
    if "--preload" in WORKERS[kind]:
        environment["PING_FIRST"] = "yes"  # so that the workers inherit a connection
    executor = HTTPExecutor(
        command, f"http://127.0.0.1:{port}/", status=404, timeout=30, cwd=PROJECT,
        envvars=environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    with executor:
        app = Served(f"http://127.0.0.1:{port}", psutil.Process(executor.process.pid))
        wait_until(lambda: len(app.workers) == 2, seconds=20)
        yield app


@contextmanager
def asking(app: Served, clients: int = 6) -> Iterator[list[bool]]:
    """Ask all the time; yields what was answered so far, in the order of the answers."""
    answered: list[bool] = []
    wrong: list[BaseException] = []
    over = False

    def run() -> None:
        while not over:
            try:
                answered.append(app.ask())
            except BaseException as error:
                wrong.append(error)
                return

    threads = [threading.Thread(target=run, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield answered
    finally:
        over = True
        for thread in threads:
            thread.join(30)
    assert wrong == []


def right_ones(answered: list[bool], more: int) -> None:
    """Wait until so many more requests are answered."""
    before = sum(answered)
    wait_until(lambda: sum(answered) >= before + more, seconds=20)


@pytest.mark.parametrize("kind", WORKERS)
def test_a_server_that_is_killed_frozen_and_restarted_needs_no_restart_of_the_workers(
    tmp_path: Path, kind: str
) -> None:
    with running_server("valkey", tmp_path) as redis, served(kind, redis) as app:
        workers = {worker.pid for worker in app.workers}
        with asking(app) as answered:
            right_ones(answered, 50)
            for _ in range(2):
                redis.kill()
                wait_until(lambda: answered[-1] is False)
                redis.restart()
                right_ones(answered, 50)
            with frozen(redis):
                wait_until(lambda: answered[-1] is False)
            right_ones(answered, 50)
        assert all(app.ask() for _ in range(20))
        assert {worker.pid for worker in app.workers} == workers


@pytest.mark.parametrize("kind", WORKERS)
def test_a_worker_that_is_killed_costs_the_others_no_reply(tmp_path: Path, kind: str) -> None:
    with running_server("valkey", tmp_path) as redis, served(kind, redis) as app:
        with asking(app) as answered:
            right_ones(answered, 50)
            for _ in range(2):
                victim = app.workers[0]
                victim.send_signal(signal.SIGKILL)
                victim.wait(10)
                right_ones(answered, 50)
        wait_until(lambda: len(app.workers) == 2, seconds=20)
        wait_until(lambda: all(app.ask() for _ in range(5)), seconds=20)
        time.sleep(0.1)
        assert no_socket_is_shared(app, redis)


def no_socket_is_shared(app: Served, redis: Server) -> bool:
    owners = [
        (connection.laddr, process.pid)
        for process in [app.master, *app.workers]
        for connection in process.net_connections("tcp")
        if connection.raddr and connection.raddr.port == redis.port
    ]
    return len({address for address, _ in owners}) == len(owners)
