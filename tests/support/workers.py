"""Two gunicorn workers that can be asked one by one."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
from mirakuru import HTTPExecutor

from .servers import free_port, wait_until

PROJECT = Path(__file__).parents[2]
ANSWER_SECONDS = 60


class Workers:
    """The two workers of a master.

    Their application answers ``/pid`` with the process that answers. A connection stays with the
    worker that has accepted it.
    """

    def __init__(self, master: psutil.Process, port: int) -> None:
        self.master = master
        self.port = port
        self._connections: dict[int, HTTPConnection] = {}
        self.meet()

    @property
    def pids(self) -> list[int]:
        return sorted(self._connections)

    def meet(self) -> None:
        """Connect to each of two workers."""
        self.close()

        def has_met() -> bool:
            connection = HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
            pid = json.loads(_get(connection, "/pid"))
            if self._connections.setdefault(pid, connection) is not connection:
                connection.close()
            return len(self._connections) == 2

        wait_until(has_met, ANSWER_SECONDS)

    def ask(self, pid: int, path: str) -> Any:
        """What a worker answers, in JSON."""
        return json.loads(_get(self._connections[pid], path))

    def ask_each(self, path: str) -> list[Any]:
        return [self.ask(pid, path) for pid in self.pids]

    def scrape(self) -> str:
        """What one of them, any, answers to a scrape."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        try:
            return _get(connection, "/metrics")
        finally:
            connection.close()

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()


def _get(connection: HTTPConnection, path: str) -> str:
    connection.request("GET", path)
    response = connection.getresponse()
    text = response.read().decode()
    assert response.status == 200, text
    return text


@contextmanager
def running_workers(
    python: str, application: str, environment: Mapping[str, str], *options: str
) -> Iterator[Workers]:
    """Start gunicorn with two workers of an application, and stop it at the end.

    :param python: the interpreter.
    :param application: such as ``package.module:make_app()``.
    :param environment: variables beside those of this process.
    :param options: of gunicorn's command line.
    """
    port = free_port()
    # Threads, since only these workers keep connections.
    command = [
        python, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "2",
        "-k", "gthread", "--threads", "4", "--keep-alive", "600", "--log-level", "warning",
        *options, application,
    ]  # fmt: skip
    executor = HTTPExecutor(
        command, f"http://127.0.0.1:{port}/pid", status=200, timeout=60, cwd=PROJECT,
        envvars={**os.environ, **environment}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    with executor:
        workers = Workers(psutil.Process(executor.process.pid), port)
        try:
            yield workers
        finally:
            workers.close()
