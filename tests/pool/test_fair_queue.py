"""The pool's slots: idle ones last in, first out; callers who wait are served in their order."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from queue import Empty
from typing import Any

import pytest

from pyramid_baseplate_redis.pool.connections.slot import PoolSlot
from pyramid_baseplate_redis.pool.fair_queue import TURN_SECONDS, Entry, FairLifoQueue, _Waiter
from pyramid_baseplate_redis.telemetry.call_details import pop_call_details

from ..support.garbage import ALLOCATIONS, collected_after


class _Interrupted(BaseException):
    pass


def used(queue: FairLifoQueue, *connections: str) -> list[PoolSlot]:
    """Take slots for connections, which are idle now, in their order."""
    places = [queue.get(timeout=0) for _ in connections]
    for (slot, _, _), connection in zip(places, connections, strict=True):
        queue.put((slot, connection, time.monotonic()))
    return [slot for slot, _, _ in places]


def started_waiter(queue: FairLifoQueue, taken: list[Any], name: str) -> threading.Thread:
    """A thread that waits for a place and says when it got one; it waits when this returns."""

    def wait() -> None:
        place = queue.get(timeout=10)
        taken.append((name, place))

    before = queue.waiting
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    while queue.waiting == before:
        time.sleep(0.001)
    return thread


def test_the_connection_that_was_put_last_is_taken_first() -> None:
    queue = FairLifoQueue(2)
    slots = used(queue, "first", "second")

    assert [queue.get()[1], queue.get()[1]] == ["second", "first"]
    del slots


def test_there_are_no_more_places_than_its_size() -> None:
    queue = FairLifoQueue(2)
    places = [queue.get(timeout=0), queue.get(timeout=0)]

    with pytest.raises(Empty):
        queue.get(timeout=0)
    del places


def test_idle_connections_are_used_before_a_slot_that_was_never_opened() -> None:
    queue = FairLifoQueue(2)
    used(queue, "idle")

    assert queue.get()[1] == "idle"


def test_a_slot_is_free_again_when_nothing_refers_to_it_any_more() -> None:
    queue = FairLifoQueue(1)
    queue.get(timeout=0)  # dropped on the floor

    assert queue.get(timeout=0)[1] is None


def test_a_caller_that_waits_too_long_gets_an_error_and_no_later_place() -> None:
    queue = FairLifoQueue(1)
    place = queue.get()

    with pytest.raises(Empty):
        queue.get(timeout=0.01)
    queue.put((place[0], "connection", 0.0))

    assert queue.get(timeout=0)[1] == "connection"


def test_callers_that_wait_are_served_in_their_order() -> None:
    queue = FairLifoQueue(1)
    place = queue.get()
    taken: list[Any] = []
    threads = [started_waiter(queue, taken, name) for name in "abc"]

    for thread in threads:
        queue.put(place)
        thread.join(10)

    assert [name for name, _ in taken] == ["a", "b", "c"]


def test_a_returned_connection_is_handed_over_so_that_no_other_caller_takes_it() -> None:
    queue = FairLifoQueue(1)
    place = queue.get()
    taken: list[Any] = []
    thread = started_waiter(queue, taken, "first")

    queue.put(place)
    with pytest.raises(Empty):
        queue.get(timeout=0)

    thread.join(10)
    assert [name for name, _ in taken] == ["first"]


@pytest.fixture
def nobody_polls(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Who waits is woken up or waits on, and threads are switched only where they wait."""
    monkeypatch.setattr("pyramid_baseplate_redis.pool.fair_queue.POLL_SECONDS", 60)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(10)
    yield
    sys.setswitchinterval(interval)


def test_who_returns_a_connection_within_his_turn_may_have_it_back(nobody_polls: None) -> None:
    queue = FairLifoQueue(1)
    place = queue.get()
    taken: list[Any] = []
    thread = started_waiter(queue, taken, "waiter")

    queue.put((place[0], "connection", 0.0), taken_at=time.monotonic())
    again = queue.get(timeout=0)

    assert again[1] == "connection"
    queue.put(again)
    thread.join(5)
    assert [name for name, _ in taken] == ["waiter"]


def test_no_late_caller_has_it_before_those_that_wait(
    monkeypatch: pytest.MonkeyPatch, nobody_polls: None
) -> None:
    queue = FairLifoQueue(1)
    place = queue.get()
    taken: list[Any] = []
    waiter = started_waiter(queue, taken, "waiter")

    def come_late() -> None:
        try:
            queue.get(timeout=0)
        except Empty:
            taken.append(("nothing", None))

    with monkeypatch.context() as patch:
        patch.setattr(_Waiter, "wake", lambda waiter: None)  # it is slow to wake up
        queue.put((place[0], "connection", 0.0), taken_at=time.monotonic())
    late = threading.Thread(target=come_late)
    late.start()
    late.join(5)
    waiter.join(5)

    assert sorted(name for name, _ in taken) == ["nothing", "waiter"]


def test_a_turn_ends(nobody_polls: None) -> None:
    queue = FairLifoQueue(1)
    place = queue.get()
    taken: list[Any] = []
    thread = started_waiter(queue, taken, "waiter")

    began = time.monotonic()
    with contextlib.suppress(Empty):
        while time.monotonic() < began + 5:
            queue.put((place[0], "connection", 0.0), taken_at=time.monotonic())
            place = queue.get(timeout=0)

    assert TURN_SECONDS <= time.monotonic() - began < 5
    thread.join(5)
    assert [name for name, _ in taken] == ["waiter"]


def test_a_caller_that_waits_is_woken_up_for_what_is_not_taken_back(nobody_polls: None) -> None:
    queue = FairLifoQueue(2)
    places = [queue.get(), queue.get()]
    taken: list[Any] = []
    threads = [started_waiter(queue, taken, name) for name in ("first", "second")]

    for slot, _, _ in places:
        queue.put((slot, "connection", 0.0), taken_at=time.monotonic())

    for thread in threads:
        thread.join(5)
    assert [name for name, _ in taken] == ["first", "second"]


def test_what_an_interrupted_waiter_was_woken_up_for_is_the_next_ones(
    monkeypatch: pytest.MonkeyPatch, nobody_polls: None
) -> None:
    queue = FairLifoQueue(1)
    place = queue.get()
    taken: list[Any] = []
    threads: list[threading.Thread] = []
    wait, main = _Waiter.wait, threading.get_ident()

    def woken_and_interrupted(waiter: _Waiter, seconds: float) -> bool:
        if threading.get_ident() != main:
            return wait(waiter, seconds)
        threads.append(started_waiter(queue, taken, "next"))
        queue.put((place[0], "connection", 0.0), taken_at=time.monotonic())
        raise _Interrupted

    monkeypatch.setattr(_Waiter, "wait", woken_and_interrupted)
    with pytest.raises(_Interrupted):
        queue.get()

    threads[0].join(5)
    assert [name for name, _ in taken] == ["next"]


def test_a_slot_that_was_lost_is_found_by_a_caller_that_waits() -> None:
    queue = FairLifoQueue(1)
    place: Entry | None = queue.get()
    taken: list[Any] = []
    thread = started_waiter(queue, taken, "waiter")

    del place  # no release, no hand-over

    thread.join(5)
    assert [name for name, _ in taken] == ["waiter"]


def test_a_waiter_that_finds_a_lost_connection_leaves_it_to_the_first_in_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = FairLifoQueue(1)
    slot, _, _ = queue.get()
    first = _Waiter()
    queue._waiters.append(first)
    lost: list[Entry] = []

    def lose(waiter: _Waiter, seconds: float) -> bool:
        if not lost:
            lost.append((slot, "connection", 0.0))
            queue._idle.extend(lost)  # the hand-over was interrupted
        time.sleep(seconds)
        return False

    monkeypatch.setattr(_Waiter, "wait", lose)
    with pytest.raises(Empty):
        queue.get(timeout=0.01)  # it looks for lost connections before the first one does

    assert first.given == lost


def test_what_is_handed_to_an_interrupted_waiter_goes_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = FairLifoQueue(1)
    place = queue.get()

    def given_and_interrupted(waiter: object, seconds: float) -> bool:
        queue.put((place[0], "connection", 0.0))
        raise _Interrupted

    monkeypatch.setattr(
        "pyramid_baseplate_redis.pool.fair_queue._Waiter.wait", given_and_interrupted
    )
    with pytest.raises(_Interrupted):
        queue.get()

    assert queue.get(timeout=0)[1] == "connection"


def test_an_interrupted_waiter_is_not_waited_for() -> None:
    queue = FairLifoQueue(1)
    place = queue.get()
    monkeypatch = pytest.MonkeyPatch()

    def interrupted(waiter: object, seconds: float) -> bool:
        raise _Interrupted

    monkeypatch.setattr("pyramid_baseplate_redis.pool.fair_queue._Waiter.wait", interrupted)
    with pytest.raises(_Interrupted):
        queue.get()
    monkeypatch.undo()

    assert queue.waiting == 0
    del place


def test_a_waiter_interrupted_while_it_leaves_does_not_stay_in_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = FairLifoQueue(1)
    place = queue.get()
    leave = FairLifoQueue._leave
    interrupted: list[bool] = []

    def served(waiter: _Waiter, seconds: float) -> bool:
        waiter.given.append((place[0], "connection", 0.0))
        return True

    def leaves(queue: FairLifoQueue, waiter: _Waiter) -> list[Entry]:
        if not interrupted:
            interrupted.append(True)
            raise _Interrupted
        return leave(queue, waiter)

    monkeypatch.setattr(_Waiter, "wait", served)
    monkeypatch.setattr(FairLifoQueue, "_leave", leaves)
    with pytest.raises(_Interrupted):
        queue.get()

    assert queue.waiting == 0
    assert queue.get(timeout=0)[1] == "connection"


def test_a_waiter_that_was_interrupted_twice_is_taken_out_of_the_line() -> None:
    queue = FairLifoQueue(1)
    slot, _, _ = queue.get()
    waiter = _Waiter()
    waiter.given.append((slot, "connection", 0.0))
    waiter.has_left = True
    queue._waiters.append(waiter)
    del slot, waiter

    assert queue.get(timeout=0.05)[1] == "connection"
    assert queue.waiting == 0


def test_a_waiter_whose_giver_was_interrupted_waits_no_longer_than_its_timeout(
    nobody_polls: None,
) -> None:
    queue = FairLifoQueue(1)
    place = queue.get()
    errors: list[Empty] = []

    def wait() -> None:
        try:
            queue.get(timeout=0.1)
        except Empty as error:
            errors.append(error)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    while not queue.waiting:
        time.sleep(0.001)
    queue._waiters.popleft()  # and the giver is interrupted

    thread.join(5)
    assert errors
    del place


def test_what_is_handed_to_a_waiter_that_has_left_goes_to_the_next() -> None:
    queue = FairLifoQueue(1)
    place = queue.get()
    waiter = _Waiter()
    queue._waiters.append(waiter)
    waiter.has_left = True  # its time is up; it takes itself out of the line next
    queue.put((place[0], "connection", 0.0))

    assert queue.get(timeout=0)[1] == "connection"


def test_a_free_slot_that_an_interrupted_waiter_was_handed_does_not_become_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = FairLifoQueue(1)
    places = [queue.get()]

    def given_and_interrupted(waiter: object, seconds: float) -> bool:
        places.clear()
        queue.serve()
        raise _Interrupted

    monkeypatch.setattr(_Waiter, "wait", given_and_interrupted)
    with pytest.raises(_Interrupted):
        queue.get()

    assert (queue.idle, queue.qsize()) == (0, 1)


def test_a_turn_that_is_over_is_not_used() -> None:
    queue = FairLifoQueue(1)
    slot, _, _ = queue.get()
    slot.turn_of, slot.turn_ends = threading.get_ident(), time.monotonic() - 1
    queue.put((slot, "connection", 0.0))
    queue._waiters.append(_Waiter())  # it is about to take the connection

    with pytest.raises(Empty):
        queue.get(timeout=0)


def test_a_waiter_whose_giver_was_interrupted_gets_in_line_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = FairLifoQueue(1)
    place = queue.get()
    taken: list[Any] = []
    thread = started_waiter(queue, taken, "waiter")
    given = "pyramid_baseplate_redis.pool.fair_queue._Waiter.give"

    def interrupted(waiter: object, place: Entry) -> None:
        raise _Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(given, interrupted)
        with pytest.raises(_Interrupted):
            queue.put(place)
    del place

    thread.join(5)
    assert [name for name, _ in taken] == ["waiter"]


def test_many_threads_never_have_more_places_than_there_are() -> None:
    queue = FairLifoQueue(3)
    having: list[PoolSlot] = []
    most = 0
    finish = time.monotonic() + 1

    def use() -> None:
        nonlocal most
        while time.monotonic() < finish:
            with contextlib.suppress(Empty):
                place = queue.get(timeout=0.001)
                having.append(place[0])
                most = max(most, len(having))
                having.remove(place[0])
                if place[1] is None:
                    queue.put((place[0], "connection", 0.0))
                del place  # or lost

    threads = [threading.Thread(target=use) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert 1 <= most <= 3
    assert queue.qsize() == 3


def test_only_waiting_counts_as_waiting() -> None:
    queue = FairLifoQueue(1)
    pop_call_details()
    place = queue.get()
    assert pop_call_details() is None

    with pytest.raises(Empty):
        queue.get(timeout=0.02)
    notes = pop_call_details()
    assert notes is not None
    assert 0.02 <= notes.waited < 5
    assert pop_call_details() is None
    del place


def test_it_looks_like_the_queue_of_a_pool_of_redis_py() -> None:
    queue = FairLifoQueue(3)
    slots = used(queue, "idle", "busy")
    busy = queue.get()

    assert (queue.queue, queue.qsize()) == ([None, "idle"], 2)
    del slots, busy


def test_a_connection_that_is_idle_for_too_long_is_found_at_the_far_end() -> None:
    queue = FairLifoQueue(2)
    slots = [queue.get()[0], queue.get()[0]]
    queue.put((slots[0], "old", 1.0))
    queue.put((slots[1], "young", 2.0))

    found = queue.take_idle(since=1.5)

    assert found is not None
    assert found[1] == "old"
    assert queue.take_idle(since=1.5) is None


def test_a_line_that_changes_while_a_waiter_is_looked_for_counts_as_having_it() -> None:
    queue = FairLifoQueue(1)

    class Joining(_Waiter):
        """Another waiter joins while the line is compared with it."""

        def __eq__(self, other: object) -> bool:
            queue._waiters.append(_Waiter())
            return False

        __hash__ = None  # type: ignore[assignment]

    queue._waiters.append(Joining())

    assert queue._is_waiting(_Waiter())


class _GivesBackWhenCollected:
    """Like a pipeline that watches keys: whatever collects it, its connection goes back."""

    def __init__(self, queue: FairLifoQueue, place: Entry) -> None:
        self.queue, self.place = queue, place
        self.itself: Any = self  # only the garbage collector finds it

    def __del__(self) -> None:
        self.queue.put(self.place)


@pytest.mark.parametrize("allocations", ALLOCATIONS)
def test_what_the_garbage_collector_gives_back_on_the_way_is_no_deadlock(allocations: int) -> None:
    queue = FairLifoQueue(1)
    taken = [(queue.get()[0], "connection", 0.0)]
    faulthandler.dump_traceback_later(60, exit=True)  # nothing else ends a deadlock
    try:
        with (
            collected_after(allocations, lambda: queue.put(taken.pop())),
            contextlib.suppress(Empty),
        ):
            queue.get(timeout=0.001)
    finally:
        faulthandler.cancel_dump_traceback_later()
    gc.collect()
    assert queue.qsize() == 1


@pytest.mark.parametrize("allocations", ALLOCATIONS)
def test_slots_are_listed_while_the_garbage_collector_frees_one(allocations: int) -> None:
    queue = FairLifoQueue(20)
    held = [queue.get()[0] for _ in range(19)]
    freed = [queue.get()[0]]
    with collected_after(allocations, lambda: freed.pop().vacate()):
        assert set(held) <= set(queue.slots())
    gc.collect()
    assert set(queue.slots()) == set(held)


@pytest.mark.parametrize("allocations", ALLOCATIONS)
def test_idle_connections_are_listed_while_the_garbage_collector_returns_one(
    allocations: int,
) -> None:
    queue = FairLifoQueue(31)
    last = queue.get()[0], "last", 0.0
    slots = used(queue, *map(str, range(30)))
    with collected_after(allocations, lambda: queue.put(last)):
        assert len(queue.queue) >= len(slots)
    gc.collect()
    assert queue.queue[-1] == "last"


@pytest.mark.parametrize("allocations", ALLOCATIONS)
def test_a_caller_waits_while_the_garbage_collector_returns_a_connection(allocations: int) -> None:
    queue = FairLifoQueue(1)
    taken = [(queue.get()[0], "connection", 0.0)]
    waiters = [_Waiter() for _ in range(30)]
    queue._waiters.extend(waiters)
    waiters[0].wait = lambda seconds: False  # type: ignore[method-assign]  # it polls at once
    with collected_after(allocations, lambda: queue.put(taken.pop())):
        queue._wait(waiters[0], time.monotonic() + 0.01)
    gc.collect()
    assert waiters[0].given


def test_what_a_dropped_queue_holds_is_dropped_at_once() -> None:
    queue = FairLifoQueue(2)
    connection = _GivesBackWhenCollected(queue, queue.get())
    reference = weakref.ref(connection)
    connection.itself = None
    connection.queue = FairLifoQueue(1)
    gc.disable()
    try:
        queue.put((queue.get()[0], connection, 0.0))
        del connection, queue
        assert reference() is None
    finally:
        gc.enable()
