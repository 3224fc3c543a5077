"""The recipe for Server-Sent Events on real WSGI servers, and browsers that go away."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from mirakuru import TCPExecutor

from tests.support.servers import Server, free_port, wait_until

pytestmark = pytest.mark.slow("starts waitress and gunicorn")

PROJECT = Path(__file__).parents[3]
APPLICATION = "tests.documents.recipes.sse_app"
GUNICORN = ["gunicorn", "--log-level", "warning", "--bind", "127.0.0.1:{port}"]
SERVERS = {
    "waitress": ["waitress", "--listen", "127.0.0.1:{port}", "--threads", "3", "--call"],
    "gthread": [*GUNICORN, "-k", "gthread", "--threads", "3"],
    "gevent": [*GUNICORN, "-k", "gevent"],
}

Start = Callable[[str], int]


@pytest.fixture
def start(own_server: Server) -> Iterator[Start]:
    """Start a WSGI server and return its port."""
    executors: list[TCPExecutor] = []

    def start(name: str) -> int:
        port = free_port()
        command = [part.format(port=port) for part in SERVERS[name]]
        what = f"{APPLICATION}:application" + ("" if name == "waitress" else "()")
        executors.append(
            TCPExecutor(
                [sys.executable, "-m", *command, what],
                "127.0.0.1",
                port,
                timeout=30,
                cwd=PROJECT,
                envvars={**os.environ, "REDIS_URL": own_server.url},
                stdin=subprocess.DEVNULL,
            )
        )
        executors[-1].start()
        return port

    yield start
    for executor in executors:
        executor.stop()


@pytest.fixture
def client(own_server: Server) -> Iterator[redis.Redis]:
    with redis.Redis(port=own_server.port, decode_responses=True) as client:
        yield client


class Browser:
    """Has one page open."""

    def __init__(self, port: int, timeout: float = 10) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        self.connection.request("GET", "/events")
        self.response = self.connection.getresponse()
        assert self.response.readline() == b"retry: 3000\n"

    def wait_for(self, line: bytes) -> None:
        while self.response.readline() != line:
            pass

    def leave(self) -> None:
        self.response.close()
        self.connection.close()


def reads_of(client: redis.Redis) -> int:
    """How many times XREAD was called."""
    return int(client.info("commandstats").get("cmdstat_xread", {}).get("calls", 0))


@pytest.mark.parametrize("name", SERVERS)
def test_an_event_arrives_at_once_and_a_browser_may_leave(
    start: Start, client: redis.Redis, name: str
) -> None:
    browsers = [Browser(port) for port in [start(name)] * 2]
    client.xadd("events", {"kind": "order", "data": "17"})
    for browser in browsers:
        browser.wait_for(b"data: 17\n")
        browser.leave()

    def is_quiet() -> bool:
        before = reads_of(client)
        time.sleep(0.6)  # three heartbeats
        return reads_of(client) == before

    wait_until(is_quiet)


@pytest.mark.parametrize("name", ["waitress", "gthread"])
def test_each_page_has_a_thread(start: Start, name: str) -> None:
    port = start(name)
    browsers = [Browser(port) for _ in range(3)]
    with pytest.raises(TimeoutError):
        Browser(port, timeout=1)
    for browser in browsers:
        browser.leave()
    Browser(port).leave()


def test_gevent_serves_many_pages_in_one_thread(start: Start, client: redis.Redis) -> None:
    port = start("gevent")
    browsers = [Browser(port) for _ in range(40)]
    client.xadd("events", {"kind": "order", "data": "17"})
    for browser in browsers:
        browser.wait_for(b"data: 17\n")
        browser.leave()
