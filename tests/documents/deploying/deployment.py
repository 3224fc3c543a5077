"""Runs the configuration files of docs/deploying/code, as they are, on a free port."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias
from urllib.request import ProxyHandler, build_opener

import redis
from mirakuru import HTTPExecutor
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ...support.servers import Server, free_port, wait_until

ROOT = Path(__file__).parents[3]
CODE = ROOT / "docs/deploying/code"
ADDRESS = "0.0.0.0:8080"  # in the files; the tests need a free port of the loopback interface
PASSWORD = "Kreuzwort-QZX-17"
USER = "myapp"
# Spans are only sent when a process ends: a test sees whether it flushes them.
NOT_BEFORE_THE_END = {"OTEL_BSP_SCHEDULE_DELAY": "600000"}

Exports: TypeAlias = list[ExportTraceServiceRequest]
_opener = build_opener(ProxyHandler({}))


def program(name: str) -> str:
    """Return the path of a program of this environment, such as ``gunicorn``."""
    return str(Path(sys.executable).with_name(name))


def copied_code(directory: Path, port: int) -> Path:
    """Copy the files, with another port; return the copy's directory."""
    copy = directory / "myapp"
    shutil.copytree(CODE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for file in [*copy.glob("*.ini"), *copy.glob("*.conf.py")]:
        file.write_text(file.read_text().replace(ADDRESS, f"127.0.0.1:{port}"))
    return copy


def environment(code: Path, server: Server, endpoint: str) -> dict[str, str]:
    """Return the variables that /etc/myapp/environment would have.

    :param code: the directory of ``myapp``, which the tests don't install.
    """
    paths = [str(code), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "REDIS_URL": f"redis://{USER}:{PASSWORD}@127.0.0.1:{server.port}/0",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "NO_PROXY": "*",
        **NOT_BEFORE_THE_END,
    }


def fetch(port: int, path: str) -> Any:
    with _opener.open(f"http://127.0.0.1:{port}{path}", timeout=30) as response:
        return json.load(response)


def is_paused(client: dict[str, str]) -> bool:
    """Return whether a connection of the application waits, since the server is paused."""
    return client["name"] == "myapp" and "b" in client["flags"]


@dataclass
class Application:
    """The application behind a server that is running."""

    process: subprocess.Popen[str]
    port: int
    code: Path
    outside: redis.Redis
    output: Path
    answers: list[dict[str, int]] = field(default_factory=list)

    def visit(self, times: int, at_once: int = 8) -> None:
        """Send requests in parallel. Any status other than 200 raises."""
        with ThreadPoolExecutor(at_once) as visitors:
            self.answers += visitors.map(lambda _: fetch(self.port, "/"), range(times))

    def meet(self, processes: int) -> None:
        """Visit until that many processes have answered."""

        def has_met() -> bool:
            self.visit(4 * processes)
            return len({answer["process"] for answer in self.answers}) >= processes

        wait_until(has_met, 60)

    def connections(self) -> int:
        """Return how many connections to Redis the application has."""
        return sum(client["name"] == "myapp" for client in self.outside.client_list())

    @contextmanager
    def requests_under_way(
        self, count: int, *, begun: int | None = None
    ) -> Iterator[list[Future[Any]]]:
        """Send requests that wait for Redis during the block, and are answered after it.

        :param begun: how many of them the server can begin; all of them by default.
        """
        begun = count if begun is None else begun
        with ThreadPoolExecutor(count) as visitors:
            self.outside.client_pause(60_000, all=False)
            try:
                requests = [visitors.submit(fetch, self.port, "/") for _ in range(count)]
                wait_until(lambda: sum(map(is_paused, self.outside.client_list())) == begun, 30)
                yield requests
            finally:
                self.outside.client_unpause()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        time.sleep(0.5)  # the processes receive it while the requests are under way


@contextmanager
def served(
    command: Sequence[str], directory: Path, server: Server, endpoint: str
) -> Iterator[Application]:
    """Start a server with its command line, in a copy of the files."""
    port = free_port()
    code = copied_code(directory, port)
    output = directory / "output"
    with output.open("w") as stream:
        executor = HTTPExecutor(
            list(command), f"http://127.0.0.1:{port}/health/live", status=200, timeout=60,
            cwd=code, envvars=environment(code, server, endpoint), stdin=subprocess.DEVNULL,
            stdout=stream, stderr=stream,
        )  # fmt: skip
        with executor, redis.Redis(port=server.port) as outside:
            yield Application(executor.process, port, code, outside, output)


def spans_by_process(received: Exports, name: str) -> dict[int, int]:
    """Return how many spans of a name each process has exported."""
    found: dict[int, int] = {}
    for request in received:
        for resource in request.resource_spans:
            values = {each.key: each.value.int_value for each in resource.resource.attributes}
            spans = [span for scope in resource.scope_spans for span in scope.spans]
            process = values["process.pid"]
            found[process] = found.get(process, 0) + sum(span.name == name for span in spans)
    return found
