"""Which message a thread handles next: suspects alone, turns, pauses, and what is put back."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from pyramid_baseplate_redis.queues.messages import DurableMessage
from pyramid_baseplate_redis.worker import dispatcher as module
from pyramid_baseplate_redis.worker import failures as failures_module
from pyramid_baseplate_redis.worker.dispatcher import Dispatcher, Handle, PutBack, Receive
from pyramid_baseplate_redis.worker.failures import MOST_FAILURES, FailureStreak
from pyramid_baseplate_redis.worker.read_ahead import ReadAhead

LEASE = 10.0


class Clock:
    """Replaces ``time.monotonic()``."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(failures_module, "time", clock)
    return clock


@pytest.fixture
def dispatcher(clock: Clock) -> Dispatcher:
    return Dispatcher(LEASE, FailureStreak("jobs"), ReadAhead(4, LEASE, 2))


def message(number: int, *, is_suspect: bool = False) -> DurableMessage:
    leases: Any = None
    made = DurableMessage(leases, b"%d-0" % number, [b"body", b"x"], 1, 1000.0)
    made.is_suspect = is_suspect
    return made


def task(dispatcher: Dispatcher) -> Any:
    """Return what a thread would do, or the seconds that it would wait."""
    return dispatcher._task()


def begun(dispatcher: Dispatcher, thread: int) -> Handle:
    """Let a thread of that number begin the next message."""
    handle = task(dispatcher)
    assert isinstance(handle, Handle)
    del dispatcher._running[handle.thread]
    handle.thread = thread
    dispatcher._running[thread] = handle
    return handle


def receive(dispatcher: Dispatcher, *messages: DurableMessage) -> None:
    assert isinstance(task(dispatcher), Receive)
    dispatcher.received(messages)


def test_one_thread_at_a_time_receives(dispatcher: Dispatcher) -> None:
    assert isinstance(task(dispatcher), Receive)
    assert isinstance(task(dispatcher), float)
    dispatcher.received([])
    assert isinstance(task(dispatcher), Receive)


def test_others_handle_what_it_received_meanwhile(dispatcher: Dispatcher) -> None:
    first, second = message(1), message(2)
    receive(dispatcher, first, second)
    assert begun(dispatcher, 1).message is first
    assert begun(dispatcher, 2).message is second
    asked = task(dispatcher)
    assert asked.held == {b"1-0", b"2-0"}


def test_a_suspect_waits_until_no_other_message_is_handled(dispatcher: Dispatcher) -> None:
    receive(dispatcher, message(1))
    other = begun(dispatcher, 1)
    receive(dispatcher, message(2, is_suspect=True))
    assert isinstance(task(dispatcher), float)
    dispatcher.finished(other, has_failed=False)
    assert begun(dispatcher, 1).is_alone


def test_what_was_not_begun_is_put_back_before_a_suspect_begins(dispatcher: Dispatcher) -> None:
    suspect, other = message(1, is_suspect=True), message(2)
    receive(dispatcher, other, suspect)
    unbegun = task(dispatcher)
    assert isinstance(unbegun, PutBack)
    assert unbegun.messages == [other]
    assert isinstance(task(dispatcher), float)  # the suspect could kill the process meanwhile
    dispatcher.were_put_back()
    assert begun(dispatcher, 1).message is suspect


def test_nothing_is_received_or_begun_while_a_suspect_is_handled(dispatcher: Dispatcher) -> None:
    receive(dispatcher, message(1, is_suspect=True))
    suspect = begun(dispatcher, 1)
    assert isinstance(task(dispatcher), float)
    dispatcher.finished(suspect, has_failed=False)
    assert isinstance(task(dispatcher), Receive)


def test_a_suspect_that_outlives_its_lease_holds_nothing_up(
    dispatcher: Dispatcher, clock: Clock
) -> None:
    receive(dispatcher, message(1, is_suspect=True))
    begun(dispatcher, 1)
    clock.now += LEASE
    assert isinstance(task(dispatcher), Receive)


def test_a_handler_that_outlives_its_lease_holds_up_no_suspect(
    dispatcher: Dispatcher, clock: Clock
) -> None:
    receive(dispatcher, message(1))
    begun(dispatcher, 1)
    receive(dispatcher, message(2, is_suspect=True))
    clock.now += LEASE
    assert begun(dispatcher, 2).is_alone


def test_suspects_give_way_after_one_lease(dispatcher: Dispatcher, clock: Clock) -> None:
    receive(dispatcher, message(1, is_suspect=True), message(2, is_suspect=True))
    first = begun(dispatcher, 1)
    clock.now += LEASE
    dispatcher.finished(first, has_failed=False)
    asked = task(dispatcher)
    assert isinstance(asked, Receive)
    assert asked.suspects == 0
    dispatcher.received([message(3)])
    other = begun(dispatcher, 1)
    assert not other.is_alone
    dispatcher.finished(other, has_failed=False)
    clock.now += LEASE
    assert begun(dispatcher, 1).is_alone


def test_suspects_do_not_give_way_if_there_is_nothing_else(
    dispatcher: Dispatcher, clock: Clock
) -> None:
    receive(dispatcher, message(1, is_suspect=True), message(2, is_suspect=True))
    first = begun(dispatcher, 1)
    clock.now += LEASE
    dispatcher.finished(first, has_failed=False)
    receive(dispatcher)
    assert begun(dispatcher, 1).is_alone


def fail(dispatcher: Dispatcher, times: int) -> None:
    for number in range(times):
        receive(dispatcher, message(number))
        dispatcher.finished(begun(dispatcher, 1), has_failed=True)


def test_after_ten_failures_nothing_is_received_for_a_while(
    dispatcher: Dispatcher, clock: Clock
) -> None:
    fail(dispatcher, MOST_FAILURES)
    pause = task(dispatcher)
    assert isinstance(pause, float)
    assert 0.5 <= pause <= 2
    clock.now += pause
    asked = task(dispatcher)
    assert isinstance(asked, Receive)
    assert asked.count == 1


def test_the_pauses_grow_up_to_half_a_minute(dispatcher: Dispatcher, clock: Clock) -> None:
    fail(dispatcher, MOST_FAILURES)
    pauses = []
    for number in range(60):
        clock.now += dispatcher._failures.pause()
        receive(dispatcher, message(number))
        dispatcher.finished(begun(dispatcher, 1), has_failed=True)
        pauses.append(dispatcher._failures.pause())
    assert max(pauses) > 10
    assert max(pauses) <= 30.001  # the clock's sums are rounded


def test_what_was_received_before_a_pause_is_put_back(dispatcher: Dispatcher) -> None:
    fail(dispatcher, MOST_FAILURES - 1)
    first, second = message(1), message(2)
    receive(dispatcher, first, second)
    dispatcher.finished(begun(dispatcher, 1), has_failed=True)
    unbegun = task(dispatcher)
    assert isinstance(unbegun, PutBack)
    assert unbegun.messages == [second]


def test_one_message_at_a_time_is_handled_after_ten_failures(
    dispatcher: Dispatcher, clock: Clock
) -> None:
    fail(dispatcher, MOST_FAILURES)
    clock.now += dispatcher._failures.pause()
    receive(dispatcher, message(1))
    handle = begun(dispatcher, 1)
    assert isinstance(task(dispatcher), float)
    dispatcher.finished(handle, has_failed=False)
    assert task(dispatcher).count > 1  # one success ends it


def test_a_message_whose_handler_was_not_called_does_not_end_the_pauses(
    dispatcher: Dispatcher, clock: Clock
) -> None:
    fail(dispatcher, MOST_FAILURES)
    clock.now += dispatcher._failures.pause()
    receive(dispatcher, message(1))
    dispatcher.finished(begun(dispatcher, 1), has_failed=None)
    assert dispatcher._failures.is_long


def test_the_success_that_ends_the_pauses_wakes_the_other_threads(
    dispatcher: Dispatcher, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(dispatcher, MOST_FAILURES)
    clock.now += dispatcher._failures.pause()
    receive(dispatcher, message(1))
    handle = begun(dispatcher, 1)
    woken: list[None] = []
    monkeypatch.setattr(dispatcher._changed, "notify_all", lambda: woken.append(None))
    dispatcher.finished(handle, has_failed=False)
    assert woken


def test_a_success_in_between_starts_the_count_anew(dispatcher: Dispatcher) -> None:
    fail(dispatcher, MOST_FAILURES - 1)
    receive(dispatcher, message(1))
    dispatcher.finished(begun(dispatcher, 1), has_failed=False)
    fail(dispatcher, MOST_FAILURES - 1)
    assert isinstance(task(dispatcher), Receive)


def test_all_threads_end_when_it_stops(dispatcher: Dispatcher) -> None:
    receive(dispatcher, message(1), message(2, is_suspect=True))
    (unbegun,) = dispatcher.stop()
    assert unbegun.id == "1-0"
    assert dispatcher.next() is None


def test_what_is_received_after_it_has_stopped_is_to_be_put_back(dispatcher: Dispatcher) -> None:
    assert isinstance(task(dispatcher), Receive)
    dispatcher.stop()
    late = message(1)
    assert dispatcher.received([late, message(2, is_suspect=True)]) == [late]


def test_a_waiting_thread_gets_what_another_receives(clock: Clock) -> None:
    dispatcher = Dispatcher(LEASE, FailureStreak("jobs"), ReadAhead(4, LEASE, 2))
    assert isinstance(task(dispatcher), Receive)
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(dispatcher.next()), daemon=True)
    thread.start()
    dispatcher.received([message(1)])
    thread.join(10)
    assert [handle.message.id for handle in got] == ["1-0"]


def test_messages_that_wait_are_renewed_after_a_third_of_the_lease(
    dispatcher: Dispatcher, clock: Clock
) -> None:
    first, suspect = message(1), message(2, is_suspect=True)
    receive(dispatcher, first, suspect)
    assert dispatcher.expiring() == []
    clock.now += LEASE / 2
    assert dispatcher.expiring() == [first, suspect]
    dispatcher.forget([first])
    assert dispatcher.expiring() == [suspect]


# How many are received at once


@pytest.mark.parametrize(
    ("seconds", "size", "expected"),
    [
        (0.001, 10, 100),  # the most
        (0.01, 10, 20),  # 0.1 s, on two threads
        (60.0, 10, 1),
        (0.001, 4 * 1024 * 1024, 4),
    ],
)
def test_it_reads_ahead_what_fits(seconds: float, size: int, expected: int) -> None:
    ahead = ReadAhead(100, LEASE, 2)
    ahead.handled(seconds, size)
    assert ahead.count() == expected


@pytest.mark.parametrize(("most", "expected"), [(1, 1), (100, 3)])
def test_at_first_it_receives_one_for_each_thread(most: int, expected: int) -> None:
    assert ReadAhead(most, LEASE, 3).count() == expected
