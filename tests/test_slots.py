"""The pool's slots: idle ones last in, first out; callers who wait are served in their order."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import threading
import time
from queue import Empty, Full

import pytest

from pyramid_baseplate_redis.slots import FairLifoQueue
from pyramid_baseplate_redis.waiting import take_wait_time


def started_waiter(queue: FairLifoQueue, taken: list[str], name: str) -> threading.Thread:
    """A thread that waits for an item and says when it got one; it waits when this returns."""

    def wait() -> None:
        queue.get(timeout=10)
        taken.append(name)

    before = len(queue._waiters)
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    while len(queue._waiters) == before:
        time.sleep(0.001)
    return thread


def test_the_item_that_was_put_last_is_taken_first() -> None:
    queue = FairLifoQueue(2)
    queue.put_nowait("first")
    queue.put_nowait("second")

    assert [queue.get(), queue.get()] == ["second", "first"]


def test_there_is_room_for_no_more_than_its_size() -> None:
    queue = FairLifoQueue(1)
    queue.put_nowait("item")

    with pytest.raises(Full):
        queue.put_nowait("another")
    assert queue.qsize() == 1


def test_an_empty_one_that_isnt_waited_for_is_an_error_at_once() -> None:
    with pytest.raises(Empty):
        FairLifoQueue(1).get(block=False)


def test_whoever_waits_too_long_gets_an_error_and_no_later_item() -> None:
    queue = FairLifoQueue(1)

    with pytest.raises(Empty):
        queue.get(timeout=0.01)
    queue.put_nowait("item")

    assert queue.get(block=False) == "item"


def test_those_who_wait_are_served_in_their_order() -> None:
    queue = FairLifoQueue(3)
    taken: list[str] = []
    threads = [started_waiter(queue, taken, name) for name in "abc"]

    for thread in threads:
        queue.put_nowait("item")
        thread.join(10)

    assert taken == ["a", "b", "c"]


def test_a_returned_item_is_handed_over_so_that_nobody_takes_it_on_the_way() -> None:
    queue = FairLifoQueue(1)
    taken: list[str] = []
    thread = started_waiter(queue, taken, "first")

    queue.put_nowait("item")
    with pytest.raises(Empty):
        queue.get(block=False)

    thread.join(10)
    assert taken == ["first"]


class _Interrupted(BaseException):
    pass


def test_what_is_handed_to_an_interrupted_waiter_goes_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = FairLifoQueue(1)

    def given_and_interrupted(waiter: object, timeout: float | None) -> None:
        queue.put_nowait("item")
        raise _Interrupted

    monkeypatch.setattr("pyramid_baseplate_redis.slots._Waiter.wait", given_and_interrupted)
    with pytest.raises(_Interrupted):
        queue.get()

    assert queue.get(block=False) == "item"


def test_only_waiting_counts_as_waiting() -> None:
    queue = FairLifoQueue(1)
    take_wait_time()
    queue.put_nowait("item")
    queue.get()
    assert take_wait_time() == 0

    with pytest.raises(Empty):
        queue.get(timeout=0.02)
    assert take_wait_time() >= 0.02
    assert take_wait_time() == 0


class _GivesBackWhenCollected:
    """Like a pipeline that watches keys: whatever collects it, its connection goes back."""

    def __init__(self, queue: FairLifoQueue) -> None:
        self.queue = queue
        self.itself = self  # only the garbage collector finds it

    def __del__(self) -> None:
        self.queue.put_nowait("item")


@pytest.mark.parametrize("allocations", range(1, 40))
def test_what_the_garbage_collector_gives_back_on_the_way_is_no_deadlock(allocations: int) -> None:
    queue = FairLifoQueue(1)
    thresholds = gc.get_threshold()
    gc.collect()
    gc.disable()
    _GivesBackWhenCollected(queue)
    gc.set_threshold(gc.get_count()[0] + allocations, 1000, 1000)
    faulthandler.dump_traceback_later(60, exit=True)  # nothing else ends a deadlock
    gc.enable()
    try:
        with contextlib.suppress(Empty):
            queue.get(timeout=0.001)
    finally:
        faulthandler.cancel_dump_traceback_later()
        gc.set_threshold(*thresholds)
    gc.collect()
    assert len(queue.queue) <= 1
