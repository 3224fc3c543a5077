"""Behind gunicorn: forked and green workers, none of which uses another's socket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import pytest
from mirakuru import HTTPExecutor

from ..support.servers import Server, free_port

pytestmark = pytest.mark.slow("starts gunicorn workers")

REQUESTS = 500
CLIENTS = 8
PROJECT = Path(__file__).parents[2]
WORKERS = {
    "sync, preloaded": ["--preload"],
    "sync, preloaded after a command": ["--preload"],
    "gthread, preloaded after a command": ["--preload", "-k", "gthread", "--threads", "4"],
    "gevent": ["-k", "gevent"],
}


@dataclass
class Load:
    """What came of all requests; the workers are still there."""

    answers: list[tuple[str, dict[str, Any]]]
    master: psutil.Process
    redis_port: int

    def owners(self) -> dict[tuple[str, int], list[int]]:
        """The processes that have a socket to Redis, by the socket's own address."""
        owners = defaultdict(list)
        for process in [self.master, *self.master.children(recursive=True)]:
            for connection in process.net_connections("tcp"):
                if connection.raddr and connection.raddr.port == self.redis_port:
                    owners[(connection.laddr.ip, connection.laddr.port)].append(process.pid)
        return dict(owners)


@pytest.fixture(scope="module", params=WORKERS)
def load(request: pytest.FixtureRequest, valkey_server: Server) -> Iterator[Load]:
    port = free_port()
    command = [
        sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "2",
        "--log-level", "warning", *WORKERS[request.param],
        "tests.integration.wsgi_app:application()",
    ]  # fmt: skip
    environment = {**os.environ, "REDIS_URL": valkey_server.url}
    if request.param.endswith("after a command"):
        environment["PING_FIRST"] = "yes"
    # A path that sends no command: a worker's first ones are those of the load.
    executor = HTTPExecutor(
        command, f"http://127.0.0.1:{port}/", status=404, timeout=30, cwd=PROJECT,
        envvars=environment, stdin=subprocess.DEVNULL,
    )  # fmt: skip

    def ask(number: int) -> tuple[str, dict[str, Any]]:
        text = f"{request.param[:5]}-{number}"
        with urlopen(f"http://127.0.0.1:{port}/echo/{text}", timeout=30) as response:
            return text, json.load(response)

    with executor, ThreadPoolExecutor(CLIENTS) as clients:
        answers = list(clients.map(ask, range(REQUESTS)))
        yield Load(answers, psutil.Process(executor.process.pid), valkey_server.port)


def test_every_request_is_answered(load: Load) -> None:
    assert len(load.answers) == REQUESTS  # anything but 200 has raised


def test_every_reply_belongs_to_its_command(load: Load) -> None:
    assert [text for text, answer in load.answers if answer["replies"] != [text] * 2] == []


def test_both_workers_answer(load: Load) -> None:
    workers = {child.pid for child in load.master.children()}
    assert {answer["pid"] for _, answer in load.answers} == workers
    assert len(workers) == 2


def test_each_worker_has_a_socket_of_its_own(load: Load) -> None:
    workers = {child.pid for child in load.master.children()}
    assert workers <= {pid for pids in load.owners().values() for pid in pids}


def test_no_socket_is_shared_between_processes(load: Load) -> None:
    shared = {socket: pids for socket, pids in load.owners().items() if len(pids) > 1}
    assert shared == {}
