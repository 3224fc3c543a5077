"""embedded:// servers: which processes share them, and which data is kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ...integration import embedded_client
from .conftest import Owner, processes_below, servers_below, still_there

# Who shares a server


def test_a_server_in_memory_is_its_process_s_own(owner: Owner, other: Owner) -> None:
    owner.ask("embedded://", "SET", "key", "value")
    assert other.ask("embedded://", "GET", "key") is None


def test_all_clients_of_a_process_share_its_server_in_memory(owner: Owner) -> None:
    assert owner.server_id("embedded://") == owner.server_id("embedded://?db=1")


def test_processes_that_name_one_directory_share_one_server(
    owner: Owner, other: Owner, url: str
) -> None:
    owner.ask(url, "SET", "key", "value")
    assert other.ask(url, "GET", "key") == "value"
    assert owner.server_id(url) == other.server_id(url)


def test_two_names_of_one_directory_share_one_server(
    owner: Owner, other: Owner, url: str, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    link = f"embedded://{tmp_path}/link"
    assert owner.server_id(url) == other.server_id(link) == owner.server_id(link)


@pytest.mark.slow("starts processes, which import everything again")
def test_two_processes_that_race_to_start_a_server_share_it(
    owner: Owner, other: Owner, tmp_path: Path
) -> None:
    for round_number in range(20):
        url = f"embedded://{tmp_path}/{round_number}"
        assert len(set(server_ids_at_once(url, owner, other))) == 1


def server_ids_at_once(url: str, *owners: Owner) -> list[str]:
    moment = time.time() + 0.05
    futures = [owner.start(embedded_client.server_id_at, url, moment) for owner in owners]
    return [future.result(60) for future in futures]


@pytest.mark.slow("starts processes, which import everything again")
def test_two_processes_that_race_to_replace_a_killed_server_share_the_new_one(
    owner: Owner, other: Owner, url: str, tmp_path: Path
) -> None:
    for _ in range(10):
        assert len(set(server_ids_at_once(url, owner, other))) == 1
        (server,) = servers_below(tmp_path)
        server.kill()
        assert still_there([server]) == []


@pytest.mark.slow("starts processes, which import everything again")
@pytest.mark.alone("a process joins in the moment in which another one leaves")
def test_a_process_that_joins_while_the_last_user_leaves_has_a_server(
    make_owner: Callable[[], Owner], owner: Owner, url: str, tmp_path: Path
) -> None:
    for _ in range(5):
        leaving = make_owner()
        leaving.ask(url, "PING")
        leaving.kill()
        assert owner.run(embedded_client.ask_again, url, "PING") is True
        (server,) = servers_below(tmp_path)
        server.terminate()
        assert still_there([server]) == []


# What is kept


def test_a_directory_s_data_is_kept_across_its_owners(
    make_owner: Callable[[], Owner], url: str, tmp_path: Path
) -> None:
    first = make_owner()
    first.ask(url, "SET", "key", "value")
    processes = processes_below(tmp_path)
    first.end()
    assert still_there(processes) == []
    assert make_owner().ask(url, "GET", "key") == "value"


@pytest.mark.slow("starts processes, which import everything again")
def test_a_directory_s_data_is_kept_when_the_next_owner_does_not_wait(
    make_owner: Callable[[], Owner], other: Owner, url: str
) -> None:
    first = make_owner()
    first.ask(url, "SET", "key", "value")
    first.end()
    assert other.ask(url, "GET", "key") == "value"


def test_a_killed_server_is_replaced(owner: Owner, either_url: str, tmp_path: Path) -> None:
    for _ in range(5):
        owner.ask(either_url, "PING")
        (server,) = servers_below(tmp_path)
        server.kill()
        assert still_there([server]) == []
        assert owner.run(embedded_client.ask_again, either_url, "PING") is True


@pytest.mark.slow("starts processes, which import everything again")
def test_a_killed_server_is_replaced_for_those_that_shared_it(
    owner: Owner, other: Owner, url: str, tmp_path: Path
) -> None:
    owner.ask(url, "SET", "key", "value")
    other.ask(url, "PING")
    (server,) = servers_below(tmp_path)
    server.kill()
    assert still_there([server]) == []
    assert owner.run(embedded_client.ask_again, url, "GET", "key") == "value"
    assert other.run(embedded_client.ask_again, url, "GET", "key") == "value"
