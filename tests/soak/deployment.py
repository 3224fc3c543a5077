"""The processes of a soak: a server, a proxy before it, gunicorn, and a worker of the queue."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import redis
from mirakuru import HTTPExecutor, TCPExecutor
from pyramid.paster import get_appsettings

from ..faults.proxy import Proxy
from ..support.servers import free_port, server_binary

PROJECT = Path(__file__).parents[2]
INI = Path(__file__).with_name("soak.ini")
URL, NAME = "redis://localhost:6379/0", "client_name = soak"
WORKERS = 2  # of each gunicorn
THREADS = 32
OPTIONS = {
    "gthread": ["--threads", str(THREADS)],
    "gevent": ["--worker-connections", str(THREADS)],
}
QUEUE_WORKER = "queue worker"


class RedisServer:
    """A Valkey that keeps its data when it is killed.

    :param directory: for its files.
    """

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._command = [
            server_binary("valkey"), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
            "--dir", str(directory), "--logfile", str(directory / "valkey.log"),
            "--appendonly", "yes", "--appendfsync", "everysec",
        ]  # fmt: skip
        self._executor: TCPExecutor | None = None

    def start(self, *options: str) -> None:
        """Start the server, and return when it accepts connections."""
        self._executor = TCPExecutor([*self._command, *options], "127.0.0.1", self.port, timeout=20)
        self._executor.start()

    def kill(self) -> None:
        if self._executor is not None:
            self._executor.kill()

    @property
    def pid(self) -> int:
        assert self._executor is not None
        assert self._executor.process is not None
        return self._executor.process.pid

    def outside(self) -> redis.Redis:
        """Return a client that does not use the proxy, and does not wait for long."""
        return redis.Redis(
            port=self.port, socket_timeout=1, socket_connect_timeout=1, decode_responses=True,
            client_name="outside",
        )  # fmt: skip


@dataclass
class Deployment:
    """Everything that runs."""

    server: RedisServer
    proxy: Proxy
    settings: dict[str, str]  #: of the app
    ports: dict[str, int] = field(default_factory=dict)  #: of gunicorn, by its worker class
    processes: dict[str, psutil.Process] = field(default_factory=dict)  #: those that are sampled


@contextmanager
def deployed(worker_classes: list[str], directory: Path) -> Iterator[Deployment]:
    """Start everything, and stop it at the end.

    :param worker_classes: of gunicorn; each has a master and workers of its own.
    :param directory: for files and logs.
    """
    server = RedisServer(directory)
    server.start()
    with ExitStack() as stack:
        stack.callback(server.kill)
        proxy = stack.enter_context(Proxy(server.port))
        running = Deployment(server, proxy, app_settings(_ini(directory, proxy.port, "settings")))
        for worker_class in worker_classes:
            ini = _ini(directory, proxy.port, worker_class)
            running.ports[worker_class] = port = free_port()
            command = [
                sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}",
                "--workers", str(WORKERS), "--worker-class", worker_class, *OPTIONS[worker_class],
                "--no-control-socket", "--log-level", "warning", "--paste", str(ini),
            ]  # fmt: skip
            log = stack.enter_context((directory / f"{worker_class}.log").open("w"))
            executor = HTTPExecutor(
                command, f"http://127.0.0.1:{port}/", status=200, timeout=60, cwd=PROJECT,
                envvars=_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=log,
            )  # fmt: skip
            stack.enter_context(executor)
            children = psutil.Process(executor.process.pid).children()
            running.processes |= {
                f"{worker_class} {number}": child for number, child in enumerate(children, 1)
            }
        running.processes[QUEUE_WORKER] = stack.enter_context(_queue_worker(directory, proxy.port))
        yield running


@contextmanager
def _queue_worker(directory: Path, port: int) -> Iterator[psutil.Process]:
    command = [
        sys.executable, "-m", "pyramid_baseplate_redis.cli", "work",
        str(_ini(directory, port, "queue-worker")), "clicks", "example_app.worker:handle",
    ]  # fmt: skip
    with (directory / "queue-worker.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=PROJECT, env=_environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=log,
        )  # fmt: skip
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ini(directory: Path, port: int, name: str) -> Path:
    """Write a copy of the settings with another port and client name."""
    copy = directory / f"{name}.ini"
    text = INI.read_text()
    assert URL in text
    assert NAME in text
    text = text.replace(URL, f"redis://127.0.0.1:{port}/0")
    copy.write_text(text.replace(NAME, f"client_name = {name}"))
    return copy


def app_settings(ini: Path) -> dict[str, str]:
    """Return the settings of the app in an .ini file."""
    return dict(get_appsettings(str(ini)))


def _environment() -> dict[str, str]:
    paths = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "NO_PROXY": "*"}
