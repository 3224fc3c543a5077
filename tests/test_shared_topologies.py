"""The topologies that tests share run for as long as files use them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .support.shared_topologies import SharedTopologies


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def shared(notes: list[str]) -> SharedTopologies:
    @contextmanager
    def started(name: str) -> Iterator[str]:
        notes.append(f"{name} starts")
        yield name
        notes.append(f"{name} stops")

    return SharedTopologies(
        {"cluster": lambda: started("cluster"), "sentinels": lambda: started("sentinels")}
    )


def test_it_starts_once_when_it_is_first_used(shared: SharedTopologies, notes: list[str]) -> None:
    assert shared.get("cluster") == shared.get("cluster") == "cluster"
    assert notes == ["cluster starts"]


def test_it_stops_when_it_is_not_needed(shared: SharedTopologies, notes: list[str]) -> None:
    shared.get("cluster")
    shared.get("sentinels")
    shared.stop_all_but({"sentinels"})
    assert notes[2:] == ["cluster stops"]


def test_it_starts_again_after_it_was_stopped(shared: SharedTopologies, notes: list[str]) -> None:
    shared.get("cluster")
    shared.stop_all_but(())
    assert shared.get("cluster") == "cluster"
    assert notes == ["cluster starts", "cluster stops", "cluster starts"]


def test_what_runs_stops_at_the_end(shared: SharedTopologies, notes: list[str]) -> None:
    with shared:
        shared.get("sentinels")
    assert notes == ["sentinels starts", "sentinels stops"]
