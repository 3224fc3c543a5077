"""A claim that one caller at a time has."""

from __future__ import annotations

import threading

import pytest

from pyramid_baseplate_redis.runtime.claims import Claim, Claims

from ..faults.helpers import in_child


def test_one_caller_at_a_time_has_the_claim() -> None:
    claims = Claims()
    claim = claims.take()

    assert claim is not None
    assert claims.take() is None


def test_the_claim_ends_when_its_holder_drops_it() -> None:
    claims = Claims()
    claim = claims.take()
    del claim

    assert claims.take() is not None


def test_of_two_callers_at_once_the_first_one_has_the_claim() -> None:
    claims = Claims()
    barrier = threading.Barrier(8)
    taken: list[Claim | None] = []

    def take() -> None:
        barrier.wait()
        taken.append(claims.take())

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert len([claim for claim in taken if claim is not None]) == 1


def test_a_caller_that_is_overtaken_by_another_one_has_no_claim(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claims = Claims()
    faster: list[Claim | None] = []

    def make_late() -> Claim:
        monkeypatch.undo()
        faster.append(claims.take())
        return Claim()

    monkeypatch.setattr("pyramid_baseplate_redis.runtime.claims.Claim", make_late)

    assert claims.take() is None
    assert faster != [None]


def test_a_fork_copies_no_claim_of_another_thread() -> None:
    claims = Claims()
    is_taken, ends = threading.Event(), threading.Event()

    def hold() -> None:
        claim = claims.take()
        assert claim is not None
        is_taken.set()
        ends.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert is_taken.wait(10)
    try:
        assert in_child(lambda: claims.take() is not None)
        assert claims.take() is None
    finally:
        ends.set()
        holder.join()
