"""What a consumer asks the server for while it waits, and how long each wait is."""

from __future__ import annotations

import logging
import math
from typing import Any
from unittest.mock import ANY, Mock, call

import pytest
import redis

from pyramid_baseplate_redis.queues import outage

from ..fakes import Clock
from .conftest import Consumer

LOGGER = "pyramid_baseplate_redis.queues.receiving"
FAR = 1e6
NOBODY: frozenset[bytes] = frozenset()
JOB = [object()]
CONSUMERS = ("XINFO", "CONSUMERS", "{jobs}:messages", "workers")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Do not sleep while the server is away; return the pauses."""
    made: list[float] = []
    event = Mock()
    event.wait.side_effect = made.append
    # Not in the module itself, from which other threads of this process get their events.
    monkeypatch.setattr(outage, "threading", Mock(Event=lambda: event))
    return made


# Waiting


def test_a_wait_looks_once_a_second_and_ends_in_time(consumer: Consumer, clock: Clock) -> None:
    assert consumer.times_out(2.5) == [0, 1.0, "look", 1.0, "look", 0.5, "look"]
    assert clock.now == 102.5


def test_without_a_timeout_one_look_is_enough(consumer: Consumer, clock: Clock) -> None:
    consumer.waiting.look_at = FAR
    assert consumer.times_out(0) == [0]
    assert clock.now == 100.0


def test_a_wait_does_not_look_before_it_is_time_to(consumer: Consumer) -> None:
    consumer.waiting.look_at = 101.0
    consumer.found[1.0] = JOB
    assert consumer.receiver.wait(1, 5) == JOB
    assert consumer.reads() == [1.0]


def test_a_wait_looks_as_soon_as_it_is_time_to(consumer: Consumer) -> None:
    consumer.waiting.look_at = 100.0
    consumer.found[0] = JOB
    assert consumer.receiver.wait(7, 5) == JOB
    assert consumer.group.read.mock_calls == [call(7, 0)]


def test_a_blocking_read_asks_for_all_wanted_messages(consumer: Consumer) -> None:
    consumer.waiting.look_at = FAR
    consumer.found[1.0] = JOB
    consumer.receiver.wait(7, 5)
    assert consumer.group.read.mock_calls == [call(7, 1.0)]


@pytest.mark.parametrize(
    ("part", "schedule"),
    [("waiting", "due_at"), ("waiting", "pending_due_at"), ("delayed", "due_at"),
     ("group", "search_at")],
)  # fmt: skip
def test_a_wait_ends_when_a_message_may_be_due(
    consumer: Consumer, part: str, schedule: str
) -> None:
    setattr(getattr(consumer, part), schedule, 100.25)
    consumer.found[0.25] = JOB
    consumer.receiver.wait(1, 0.5)
    assert consumer.reads() == [0, 0.25]


def test_a_wait_without_suspects_goes_on_when_a_lease_may_expire(consumer: Consumer) -> None:
    consumer.group.search_at = 100.25
    assert consumer.times_out(0.5, suspects=0)[:2] == [0, 0.5]


def test_time_that_a_look_takes_shortens_the_wait(consumer: Consumer, clock: Clock) -> None:
    def look(count: int, block: float) -> list[Any]:
        clock.now += 0.25 if block == 0 else block
        return []

    consumer.group.read.side_effect = look
    assert consumer.times_out(0.5)[:2] == [0, 0.25]


def test_a_look_that_takes_the_whole_time_is_not_followed_by_blocking_forever(
    consumer: Consumer, clock: Clock
) -> None:
    """The server takes a block of 0 for no limit."""

    def look(count: int, block: float) -> list[Any]:
        clock.now += 0.5
        return []

    consumer.group.read.side_effect = look
    assert consumer.times_out(0.5) == [0, 0]


@pytest.mark.parametrize("timeout", [-1, -0.001, math.inf, math.nan])
def test_a_timeout_that_means_nothing_is_refused(consumer: Consumer, timeout: float) -> None:
    with pytest.raises(ValueError, match=r"timeout: .* is out of range"):
        consumer.receiver.wait(1, timeout)


# Expired leases


def test_messages_whose_lease_has_expired_come_first(consumer: Consumer) -> None:
    consumer.group.may_have_expired.return_value = True
    consumer.group.claim.return_value = JOB
    held = frozenset({b"1-0"})
    assert consumer.receiver.wait(5, 0, held) == JOB
    assert consumer.group.claim.mock_calls == [call(5, held)]
    assert consumer.reads() == []


def test_a_consumer_claims_only_as_many_suspects_as_it_wants(consumer: Consumer) -> None:
    consumer.group.may_have_expired.return_value = True
    consumer.group.claim.return_value = JOB
    consumer.receiver.wait(5, 0, suspects=2)
    assert consumer.group.claim.mock_calls == [call(2, NOBODY)]


def test_a_consumer_without_room_for_suspects_claims_none(consumer: Consumer) -> None:
    consumer.group.may_have_expired.return_value = True
    consumer.times_out(0, suspects=0)
    assert not consumer.group.claim.called


def test_no_search_is_made_while_no_lease_can_have_expired(consumer: Consumer) -> None:
    consumer.times_out(0)
    assert not consumer.group.claim.called


def test_the_lease_of_a_message_that_could_not_be_parked_is_searched_for_once(
    consumer: Consumer,
) -> None:
    consumer.waiting.pending_due_at = 100.0
    consumer.times_out(0)
    assert consumer.group.search_soon.call_count == 1
    assert consumer.waiting.pending_due_at == math.inf


# Messages that are due


def test_a_message_that_is_due_is_taken_before_new_ones(consumer: Consumer) -> None:
    consumer.waiting.due_at = 100.0
    consumer.group.take.return_value = JOB
    assert consumer.receiver.wait(7, 0) == JOB
    assert consumer.group.mock_calls == [call.may_have_expired(), call.take(7)]


def test_a_message_that_is_found_due_by_a_look_is_taken(consumer: Consumer) -> None:
    def look(count: int, block: float) -> list[Any]:
        consumer.waiting.due_at = 100.0
        return []

    consumer.group.read.side_effect = look
    consumer.group.take.return_value = JOB
    assert consumer.receiver.wait(7, 0) == JOB
    assert consumer.group.take.mock_calls == [call(7)]


def test_if_others_take_the_due_messages_it_tries_three_times(clock: Clock) -> None:
    consumer = Consumer(clock, b"1", b"2", b"3", b"4", b"5", b"6")
    consumer.waiting.due_at = 100.0
    consumer.times_out(0)
    assert consumer.group.take.call_count == 3 * 2  # before the look and after it
    assert consumer.waiting.learn.mock_calls[:3] == [call(b"1"), call(b"2"), call(b"3")]
    assert consumer.server.asked == [consumer.waiting.look] * 6
    assert not any(each["is_recorded"] for each in consumer.server.calls)


def test_it_stops_trying_when_the_next_message_is_due_later(clock: Clock) -> None:
    consumer = Consumer(clock, b"1")
    consumer.waiting.due_at = 100.0
    consumer.waiting.learn.side_effect = lambda reply: setattr(consumer.waiting, "due_at", 101.0)
    consumer.times_out(0)
    assert consumer.group.take.call_count == 1


# Delayed messages


def test_delayed_messages_that_are_due_are_moved_and_read(consumer: Consumer) -> None:
    consumer.delayed.due_at = 100.0
    consumer.delayed.move.return_value = True
    consumer.found[0] = JOB
    assert consumer.receiver.wait(1, 0) == JOB
    assert (consumer.delayed.move.call_count, consumer.reads()) == (1, [0])


def test_delayed_messages_are_read_though_the_wait_has_just_blocked(consumer: Consumer) -> None:
    consumer.waiting.look_at = FAR
    consumer.delayed.due_at = 100.5
    consumer.delayed.move.side_effect = lambda: consumer.found.update({0: JOB}) or True
    assert consumer.receiver.wait(1, 5) == JOB
    assert consumer.reads() == [0.5, 0]


def test_delayed_messages_that_a_look_finds_are_moved_and_read(consumer: Consumer) -> None:
    found = iter([[], JOB])

    def look(count: int, block: float) -> Any:
        consumer.delayed.due_at = 100.0
        return next(found)

    consumer.group.read.side_effect = look
    consumer.delayed.move.return_value = True
    assert consumer.receiver.wait(7, 0) == JOB
    assert consumer.group.read.mock_calls == [call(7, 0), call(7, 0)]


def test_a_refused_move_is_logged_once_and_repeated_after_a_second(
    consumer: Consumer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    consumer.delayed.due_at = 100.0
    consumer.delayed.move.side_effect = redis.OutOfMemoryError("OOM")
    consumer.times_out(0)
    assert consumer.delayed.due_at == 101.0
    clock.now = 101.0
    consumer.times_out(0)
    assert consumer.delayed.move.call_count == 2
    line = "queue jobs: delayed messages are not moved to the stream: OOM"
    assert caplog.record_tuples == [(LOGGER, logging.WARNING, line)]


def test_a_move_that_is_refused_again_after_a_success_is_logged_again(
    consumer: Consumer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    full = redis.exceptions.ClusterError("moving")
    consumer.delayed.move.side_effect = [full, False, full]
    for _ in range(3):
        consumer.delayed.due_at = clock.now
        assert consumer.receiver._move_delayed() is False
    assert len(caplog.records) == 2


# Idle consumers


def test_idle_consumers_are_searched_for_once_a_minute(clock: Clock) -> None:
    consumer = Consumer(clock, [[]], [[]])
    consumer.times_out(59.5)
    assert consumer.server.asked == []
    consumer.times_out(1)
    assert consumer.server.asked == [CONSUMERS]
    consumer.times_out(59)
    assert consumer.server.asked == [CONSUMERS]
    consumer.times_out(1)
    assert consumer.server.asked == [CONSUMERS] * 2


def test_a_search_for_idle_consumers_that_is_refused_ends_no_wait(clock: Clock) -> None:
    consumer = Consumer(clock, redis.OutOfMemoryError("OOM"))
    clock.now = 160.0
    consumer.times_out(0)
    assert consumer.server.asked == [CONSUMERS]


# Failures


def test_a_failure_ends_a_wait_with_a_timeout(consumer: Consumer) -> None:
    error = redis.ConnectionError("gone")
    consumer.found[0] = error
    with pytest.raises(redis.ConnectionError):
        consumer.receiver.wait(1, 5)
    assert consumer.tracer.metrics.mock_calls == [call.received(ANY, 0, error)]


def test_a_wait_without_a_timeout_goes_on_and_reads_again(
    consumer: Consumer, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    consumer.waiting.look_at = 101.0
    consumer.found[1.0] = redis.ConnectionError("gone")
    consumer.found[0] = JOB
    assert consumer.receiver.wait(1, None) == JOB
    assert consumer.reads() == [1.0, 0]
    assert len(pauses) == 1
    assert caplog.messages == [
        "queue jobs: waiting for the server: gone", "queue jobs: the server is back",
    ]  # fmt: skip


def test_after_a_failure_new_messages_are_read_though_it_had_blocked(
    consumer: Consumer, pauses: list[float]
) -> None:
    reads = iter([[], [], redis.ConnectionError("gone"), JOB])

    def read(count: int, block: float) -> Any:
        found = next(reads)
        if isinstance(found, Exception):
            raise found
        return found

    consumer.group.read.side_effect = read
    assert consumer.receiver.wait(1, None) == JOB
    assert consumer.reads() == [0, 1.0, "look", 1.0, 0]


def test_an_error_that_does_not_pass_ends_a_wait_without_a_timeout(
    consumer: Consumer, pauses: list[float]
) -> None:
    consumer.found[0] = redis.AuthenticationError("wrong")
    with pytest.raises(redis.AuthenticationError):
        consumer.receiver.wait(1, None)
    assert pauses == []
