"""Processes that use embedded servers, and the server processes they leave."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
import pytest

from ...integration import embedded_client

SECONDS = 15  # until what should happen at once must have happened


# Each process is forked from one that has imported everything and started nothing.
FORKED = get_context("forkserver")
FORKED.set_forkserver_preload([embedded_client.__name__])


class Owner:
    """A process of its own that uses embedded servers."""

    def __init__(self, temporary: Path) -> None:
        self._executor = ProcessPoolExecutor(1, FORKED)
        self.pid: int = self.run(os.getpid)
        self.run(embedded_client.use_for_temporary_files, str(temporary))

    def start(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        return self._executor.submit(function, *args)

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.start(function, *args).result(60)

    def ask(self, url: str, *command: str) -> Any:
        return self.run(embedded_client.ask, url, *command)

    def server_id(self, url: str) -> str:
        return str(self.run(embedded_client.server_id, url))

    def end(self) -> None:
        """End the process as any Python program ends."""
        self._executor.shutdown()

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self._executor.shutdown(wait=False)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A short path: that of a Unix socket has at most 103 bytes."""
    with tempfile.TemporaryDirectory(prefix="redis-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


@pytest.fixture
def make_owner(tmp_path: Path) -> Iterator[Callable[[], Owner]]:
    """Start processes whose temporary directories are below ``tmp_path / "tmp"``."""
    (tmp_path / "tmp").mkdir()
    owners: list[Owner] = []

    def make() -> Owner:
        owners.append(Owner(tmp_path / "tmp"))
        return owners[-1]

    yield make
    for owner in owners:
        owner.end()


@pytest.fixture
def owner(make_owner: Callable[[], Owner]) -> Owner:
    return make_owner()


@pytest.fixture
def other(make_owner: Callable[[], Owner]) -> Owner:
    return make_owner()


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A directory that isn't there yet."""
    return f"embedded://{tmp_path}/data"


@pytest.fixture(params=["memory", "directory"])
def either_url(request: pytest.FixtureRequest, url: str) -> str:
    return "embedded://" if request.param == "memory" else url


def processes_below(directory: Path) -> list[psutil.Process]:
    """The servers, and their shells, whose files are below a directory."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if f"{directory}/" in " ".join(process.info["cmdline"] or [])
    ]


def servers_below(directory: Path) -> list[psutil.Process]:
    return [
        process
        for process in processes_below(directory)
        if "valkey-server" in process.info["cmdline"][0]
    ]


def still_there(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that didn't end in time."""
    assert processes, "there were none to begin with"
    deadline = time.monotonic() + SECONDS
    while (running := [each for each in processes if is_running(each)]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.01)
    return running


def is_running(process: psutil.Process) -> bool:
    """Whether a process runs; not if it is a shell whose parent hasn't asked for it yet."""
    try:
        # A server's first thread may be a zombie while others still have its socket open.
        ended = process.status() == psutil.STATUS_ZOMBIE and process.name() == "sh"
        return process.is_running() and not ended
    except psutil.NoSuchProcess:
        return False


def temporary_directories(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "tmp").glob("embedded-redis-*"))
