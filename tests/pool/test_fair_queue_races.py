"""The pool's queue when another thread is faster, between any two steps of a caller."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from queue import Empty
from typing import Any

import pytest

from pyramid_baseplate_redis.pool.fair_queue import (
    Entry,
    FairLifoQueue,
    PoolSlot,
    _Waiter,
)


class _Interrupted(BaseException):
    pass


@pytest.fixture
def _nobody_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyramid_baseplate_redis.pool.fair_queue.POLL_SECONDS", 60)


class RacedDeque(deque[Any]):
    """Another thread acts once, right before one of the methods is called."""

    def __init__(self, entries: Any, method: str, act: Callable[[], Any]) -> None:
        super().__init__(entries)
        self._method, self._act = method, [act]

    def _race(self, method: str) -> None:
        if method == self._method and self._act:
            self._act.pop()()

    def append(self, entry: Any) -> None:
        self._race("append")
        super().append(entry)

    def pop(self) -> Any:
        self._race("pop")
        return super().pop()

    def popleft(self) -> Any:
        self._race("popleft")
        return super().popleft()


def entries(queue: FairLifoQueue, *times: float) -> list[Entry]:
    """Take slots, and return them with connections that are idle since these times."""
    return [(queue.get(timeout=0)[0], f"since {idle:g}", idle) for idle in times]


def test_a_connection_that_comes_back_before_its_caller_is_in_line_is_found_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = FairLifoQueue(1)
    (entry,) = entries(queue, 1)
    take = queue._take

    def nothing_yet() -> None:
        monkeypatch.setattr(queue, "_take", take)
        queue.put(entry)

    def waits(waiter: _Waiter, seconds: float) -> bool:
        raise AssertionError("it waits")

    monkeypatch.setattr(queue, "_take", nothing_yet)
    monkeypatch.setattr(_Waiter, "wait", waits)

    assert queue.get() == entry


def test_a_caller_that_gets_in_line_while_a_connection_comes_back_gets_it() -> None:
    queue, waiter = FairLifoQueue(1), _Waiter()
    (entry,) = entries(queue, 1)
    queue._idle = RacedDeque([], "append", lambda: queue._waiters.append(waiter))

    assert queue.put(entry)
    assert waiter.given == [entry]


def test_a_caller_takes_no_connection_that_another_thread_has_just_returned() -> None:
    queue = FairLifoQueue(2)
    mine, others = entries(queue, 1, 2)
    mine[0].turn_of, mine[0].turn_ends = threading.get_ident(), time.monotonic() + 60
    queue._idle = RacedDeque([mine], "pop", lambda: queue._idle.append(others))

    assert queue._take_own() is None
    assert list(queue._idle) == [mine, others]


def test_a_connection_that_was_idle_for_too_long_may_be_used_meanwhile() -> None:
    queue, waiter = FairLifoQueue(2), _Waiter()
    old, young = entries(queue, 1, 2)
    queue._idle = RacedDeque([old, young], "popleft", lambda: deque.popleft(queue._idle))

    assert queue.take_idle(since=2) is None
    assert list(queue._idle) == [young]

    queue._idle = RacedDeque([old, young], "popleft", lambda: deque.popleft(queue._idle))
    queue._waiters.append(waiter)
    assert queue.take_idle(since=2) is None
    assert waiter.given == [young]


def test_a_connection_that_became_idle_at_that_time_is_not_idle_for_too_long() -> None:
    queue = FairLifoQueue(1)
    (entry,) = entries(queue, 2)
    queue.put(entry)

    assert queue.take_idle(since=2) is None


def test_what_is_for_a_waiter_that_leaves_at_that_moment_becomes_idle() -> None:
    queue = FairLifoQueue(1)
    (entry,) = entries(queue, 1)
    queue._waiters = RacedDeque([_Waiter()], "popleft", lambda: queue._waiters.clear())
    queue.put(entry)

    assert list(queue._idle) == [entry]


def test_what_several_threads_give_to_one_waiter_is_passed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = FairLifoQueue(2)
    both = entries(queue, 1, 2)
    monkeypatch.setattr(queue, "_wait", lambda waiter, deadline: waiter.given.extend(both))

    assert queue.get() in both
    assert queue.idle == 1


def test_what_another_thread_takes_from_a_waiter_is_not_taken_twice() -> None:
    class Raced(list[Any]):
        def pop(self) -> Any:  # type: ignore[override]
            self.clear()
            return super().pop()

    waiter = _Waiter()
    waiter.given = Raced(["an entry"])

    assert waiter.take() == []


@pytest.mark.parametrize("rival_is_first", [True, False])
def test_of_two_callers_for_the_last_slot_the_first_one_has_it(rival_is_first: bool) -> None:
    rivals: list[PoolSlot] = []

    class Raced(dict[Any, None]):
        """Another thread adds its slot, too, before or after the caller's."""

        def __setitem__(self, key: Any, value: None) -> None:
            if not rival_is_first:
                super().__setitem__(key, value)
            rivals.append(PoolSlot(self))
            super().__setitem__(weakref.ref(rivals[0], self.pop), None)
            if rival_is_first:
                super().__setitem__(key, value)

    queue = FairLifoQueue(1)
    queue.taken = Raced()

    assert (queue._take() is None) == rival_is_first


@pytest.mark.parametrize("freed", ["by its caller", "by the garbage collector"])
def test_a_slot_that_is_free_is_not_put_back(freed: str) -> None:
    queue = FairLifoQueue(1)
    (entry,) = entries(queue, 1)
    if freed == "by its caller":
        entry[0].vacate()
    else:
        entry[0].counted = lambda: None  # type: ignore[assignment]  # the reference is cleared

    assert not queue.put(entry)
    assert queue.idle == 0


# Waiting


def test_each_wait_and_each_timeout_counts_once() -> None:
    queue = FairLifoQueue(1)
    assert (queue.waits, queue.timeouts) == (0, 0)
    held = queue.get()
    for _ in range(2):
        with pytest.raises(Empty):
            queue.get(timeout=0.001)

    assert (queue.waits, queue.timeouts) == (2, 2)
    del held


@pytest.mark.usefixtures("_nobody_polls")
def test_a_waiter_that_is_woken_for_what_another_thread_takes_waits_on() -> None:
    queue, got = FairLifoQueue(1), []
    (entry,) = entries(queue, 1)

    def wait() -> None:
        got.append(queue.get(timeout=5))

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    while not queue.waiting:
        time.sleep(0.001)
    queue._wake()
    thread.join(0.05)
    assert thread.is_alive()
    queue.put(entry)
    thread.join(5)

    assert got == [entry]


def test_a_new_waiter_has_not_been_woken() -> None:
    assert not _Waiter().wait(0.001)


def test_a_waiter_may_be_woken_twice_before_it_runs() -> None:
    waiter = _Waiter()
    waiter.wake()
    waiter.wake()

    assert waiter.wait(0)
    assert not waiter.wait(0.001)


def test_a_waiter_that_is_missing_twice_in_a_row_gets_in_line_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = FairLifoQueue(1)
    held = queue.get()
    waiting: list[int] = []

    def wait(waiter: _Waiter, seconds: float) -> bool:
        waiting.append(queue.waiting)
        if len(waiting) == 2:  # it has been found in line once before
            queue._waiters.clear()
        if len(waiting) == 4:
            raise _Interrupted
        return False

    monkeypatch.setattr(_Waiter, "wait", wait)
    with pytest.raises(_Interrupted):
        queue.get()

    assert waiting == [1, 1, 0, 1]
    del held


def test_a_waiter_that_is_missing_from_the_beginning_gets_in_line_after_two_looks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue, waiter, waiting = FairLifoQueue(1), _Waiter(), list[int]()
    held = queue.get()

    def wait(waiter: _Waiter, seconds: float) -> bool:
        waiting.append(queue.waiting)
        if len(waiting) == 3:
            raise _Interrupted
        return False

    monkeypatch.setattr(_Waiter, "wait", wait)
    with pytest.raises(_Interrupted):
        queue._wait(waiter, None)

    assert waiting == [0, 0, 1]
    del held


@pytest.mark.parametrize(("timeout", "pause"), [(None, 0.2), (60, 0.2), (0.1, 0.1)])
def test_a_waiter_looks_five_times_a_second_and_when_its_time_is_up(
    monkeypatch: pytest.MonkeyPatch, timeout: float | None, pause: float
) -> None:
    queue = FairLifoQueue(1)
    held = queue.get()
    pauses: list[float] = []

    def wait(waiter: _Waiter, seconds: float) -> bool:
        pauses.append(seconds)
        raise _Interrupted

    monkeypatch.setattr(_Waiter, "wait", wait)
    with pytest.raises(_Interrupted):
        queue.get(timeout)

    assert pauses[0] == pytest.approx(pause, abs=0.05)
    del held


def test_a_turn_lasts_five_milliseconds() -> None:
    queue = FairLifoQueue(1)
    ((slot, _, _),) = entries(queue, 1)
    queue._turn_continues(slot, taken_at=100.0)

    assert slot.turn_of is None  # it is over
    assert slot.turn_ends == pytest.approx(100.005)
