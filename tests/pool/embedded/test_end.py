"""embedded:// servers: they always end, and never before their last user."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from ...integration import embedded_client
from .conftest import Owner, processes_below, servers_below, still_there, temporary_directories


def test_a_server_ends_with_its_owner(
    make_owner: Callable[[], Owner], either_url: str, tmp_path: Path
) -> None:
    owner = make_owner()
    owner.ask(either_url, "PING")
    processes = processes_below(tmp_path)
    owner.end()
    assert still_there(processes) == []


def test_a_server_ends_when_its_owner_is_killed(
    owner: Owner, either_url: str, tmp_path: Path
) -> None:
    owner.ask(either_url, "PING")
    processes = processes_below(tmp_path)
    owner.kill()
    assert still_there(processes) == []


def test_a_temporary_directory_is_removed_when_its_owner_is_killed(
    owner: Owner, tmp_path: Path
) -> None:
    owner.ask("embedded://", "PING")
    (directory,) = temporary_directories(tmp_path)
    processes = processes_below(tmp_path)
    owner.kill()
    assert still_there(processes) == []
    assert not directory.exists()


def test_no_temporary_directory_is_left_of_killed_servers(owner: Owner, tmp_path: Path) -> None:
    for _ in range(3):
        owner.run(embedded_client.ask_again, "embedded://", "PING")
        processes = processes_below(tmp_path)
        (server,) = servers_below(tmp_path)
        server.kill()
        assert still_there(processes) == []
    assert temporary_directories(tmp_path) == []


@pytest.mark.slow("starts processes, which import everything again")
def test_a_shared_server_outlives_the_process_that_started_it(
    make_owner: Callable[[], Owner], other: Owner, url: str
) -> None:
    first = make_owner()
    before = first.server_id(url)
    assert other.server_id(url) == before
    process = psutil.Process(first.pid)
    first.kill()
    assert still_there([process]) == []
    assert other.server_id(url) == before


def test_a_forked_child_uses_its_parent_s_server(owner: Owner, either_url: str) -> None:
    owner.ask(either_url, "SET", "key", "value")
    assert owner.run(embedded_client.ask_in_fork, either_url, "GET", "key") == "value"


def test_a_forked_child_s_end_does_not_stop_the_server(owner: Owner, either_url: str) -> None:
    before = owner.server_id(either_url)
    for _ in range(3):
        owner.run(embedded_client.ask_in_fork, either_url, "PING")
    assert owner.server_id(either_url) == before


@pytest.mark.slow("starts processes, which import everything again")
def test_a_forked_child_that_outlives_its_parent_keeps_the_server(
    owner: Owner, url: str, other: Owner, tmp_path: Path
) -> None:
    before = owner.server_id(url)
    child = psutil.Process(owner.run(embedded_client.leave_fork_behind, url, 30))
    processes = processes_below(tmp_path)
    try:
        owner.kill()
        assert psutil.wait_procs(processes, timeout=0.5)[0] == []
        assert other.server_id(url) == before
    finally:
        child.kill()


@pytest.mark.slow("starts processes, which import everything again")
def test_a_child_that_is_forked_while_a_thread_starts_the_server_shares_it(
    make_owner: Callable[[], Owner], tmp_path: Path
) -> None:
    for milliseconds in range(0, 45, 3):
        url = f"embedded://{tmp_path}/{milliseconds}"
        starting = make_owner()  # in which nothing has been started before
        ids = starting.run(embedded_client.ask_in_fork_while_starting, url, milliseconds / 1000)
        assert len(set(ids)) == 1, f"{milliseconds} ms: {ids}"


@pytest.mark.slow("starts processes, which import everything again")
def test_an_interrupt_from_the_terminal_does_not_reach_the_server(
    owner: Owner, url: str, tmp_path: Path
) -> None:
    owner.ask(url, "PING")
    groups = {os.getpgid(process.pid) for process in processes_below(tmp_path)}
    assert os.getpgid(owner.pid) not in groups
