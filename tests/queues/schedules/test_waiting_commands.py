"""Failed messages are parked until they are due, and taken then."""

from __future__ import annotations

import logging
import math
from typing import Any
from unittest.mock import Mock

import pytest
import redis

from pyramid_baseplate_redis.queues.schedules.waiting import WaitingMessages

from ..fakes import Clock, ScriptedServer, spec_of

KEY, SET = "{jobs}:messages", "{jobs}:waiting"
LOOK = ("ZRANGE", SET, 0, 0, "WITHSCORES")
SETTLEMENT = Mock()
FULL = redis.OutOfMemoryError("OOM command not allowed")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(monkeypatch)
    clock.now = 100.0
    return clock


def waiting_on(*replies: Any, **options: Any) -> tuple[WaitingMessages, ScriptedServer]:
    """Return the messages of a server whose clock shows 1000 seconds, and goes on to 1000.25."""
    server = ScriptedServer(*replies)
    times = Mock()
    times.now.return_value = 1_000_250.0
    times.monotonic.side_effect = lambda milliseconds: milliseconds / 1000 - 900
    commands: Any = server
    return WaitingMessages(spec_of(**options), commands, times), server


# Looking


def test_nothing_is_known_at_first_so_that_the_first_look_is_due(clock: Clock) -> None:
    waiting, _ = waiting_on()
    assert (waiting.look_at, waiting.due_at, waiting.pending_due_at) == (0.0, math.inf, math.inf)
    assert waiting.look == LOOK


@pytest.mark.parametrize("reply", [[b"1-0|1", b"1005000"], [[b"1-0|1", 1005000.0]]], ids=str)
def test_the_first_message_says_when_the_next_is_due(clock: Clock, reply: Any) -> None:
    waiting, _ = waiting_on()
    waiting.learn(reply)
    assert waiting.due_at == 105.0
    assert waiting.look_at == 100.05


def test_a_message_without_a_delay_is_due_by_any_clock(clock: Clock) -> None:
    waiting, _ = waiting_on()
    waiting.learn([b"1-0|1", b"0"])
    assert waiting.due_at == 0.0


def test_the_smallest_score_with_a_delay_is_a_time(clock: Clock) -> None:
    waiting, _ = waiting_on()
    waiting.learn([b"1-0|1", b"1"])
    assert waiting.due_at == pytest.approx(-899.999)


def test_without_a_message_none_is_due(clock: Clock) -> None:
    waiting, _ = waiting_on()
    waiting.due_at = 7.0
    waiting.learn([])
    assert (waiting.due_at, waiting.look_at) == (math.inf, 100.05)


def test_a_redirection_is_followed(clock: Clock) -> None:
    waiting, server = waiting_on([b"1-0|1", b"1005000"])
    waiting.learn(redis.exceptions.MovedError("1 127.0.0.1:7000"))
    assert waiting.due_at == 105.0
    assert server.asked == [LOOK]


def test_an_error_is_raised_and_changes_nothing(clock: Clock) -> None:
    waiting, _ = waiting_on()
    waiting.due_at = 7.0
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        waiting.learn(redis.ResponseError("WRONGTYPE"))
    assert (waiting.due_at, waiting.look_at) == (7.0, 0.0)


# Parking


def test_messages_are_parked_and_acknowledged_in_one_transaction(clock: Clock) -> None:
    waiting, server = waiting_on([2, 1, 1])
    gone = waiting.park([(b"1-0", 2), (b"2-0", 1)], [3.0001, 0], SETTLEMENT)
    assert gone == []
    assert server.asked == [
        ("ZADD", SET, 1_003_251, b"1-0|2", 0, b"2-0|1"),
        ("XACK", KEY, "workers", b"1-0"),
        ("XACK", KEY, "workers", b"2-0"),
    ]
    assert server.calls == [{"name": "give_back", "settlement": SETTLEMENT}]


def test_a_parked_message_is_due_after_its_delay(clock: Clock) -> None:
    waiting, _ = waiting_on([1, 1, 1])
    waiting.park([(b"1-0", 2), (b"2-0", 2)], [3.0, 2.0], SETTLEMENT)
    assert waiting.due_at == 102.0


def test_an_earlier_message_stays_the_first_one(clock: Clock) -> None:
    waiting, _ = waiting_on([1, 1])
    waiting.due_at = 101.0
    waiting.park([(b"1-0", 2)], [3.0], SETTLEMENT)
    assert waiting.due_at == 101.0


def test_of_messages_that_were_not_pending_the_deleted_ones_are_forgotten(clock: Clock) -> None:
    waiting, server = waiting_on([3, 0, 1, 0], [[], [[b"3-0", [b"body", b"job"]]]], [1])
    messages = [(b"1-0", 2), (b"2-0", 1), (b"3-0", 1)]
    assert waiting.park(messages, [0, 0, 0], SETTLEMENT) == [b"1-0", b"3-0"]
    assert server.asked[4:] == [
        ("XRANGE", KEY, b"1-0", b"1-0"),
        ("XRANGE", KEY, b"3-0", b"3-0"),
        ("ZREM", SET, b"1-0|2"),
    ]
    assert server.calls[1:] == [{"name": "give_back"}, {}]


def test_nothing_is_removed_if_all_entries_exist(clock: Clock) -> None:
    waiting, server = waiting_on([1, 0], [[[b"1-0", [b"body", b"job"]]]])
    waiting.park([(b"1-0", 2)], [0], SETTLEMENT)
    assert server.asked[-1][0] == "XRANGE"


@pytest.mark.parametrize("error", [FULL, redis.exceptions.ClusterError("moving")], ids=repr)
def test_messages_that_cannot_be_parked_stay_pending_for_their_delay(
    clock: Clock, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    waiting, server = waiting_on(error, [None, None])
    gone = waiting.park([(b"1-0", 2), (b"2-0", 1)], [4.0, 3600.0], SETTLEMENT)
    assert gone == []
    options = ("FORCE", "JUSTID")
    claim = ("XCLAIM", KEY, "workers", "first", 0)
    assert server.asked[3:] == [
        (*claim, b"1-0", "IDLE", 6000, "RETRYCOUNT", 2, *options),
        (*claim, b"2-0", "IDLE", 0, "RETRYCOUNT", 1, *options),
    ]
    assert server.calls[-1] == {"name": "give_back", "settlement": SETTLEMENT}
    assert (waiting.pending_due_at, waiting.due_at) == (104.0, math.inf)
    assert caplog.record_tuples == [
        ("pyramid_baseplate_redis.queues.schedules", logging.WARNING,
         f"queue jobs: 1-0, 2-0 cannot wait in {SET} and will be delivered again within the lease: "
         f"{error}"),
    ]  # fmt: skip


def test_the_earliest_of_those_that_stay_pending_is_known(clock: Clock) -> None:
    waiting, _ = waiting_on(FULL, [None], FULL, [None])
    waiting.park([(b"1-0", 2)], [1.0], SETTLEMENT)
    waiting.park([(b"2-0", 2)], [4.0], SETTLEMENT)
    assert waiting.pending_due_at == 101.0


# Taking


def claim_of(entry_id: bytes, *options: Any) -> tuple[Any, ...]:
    return ("XCLAIM", KEY, "workers", "first", 10_000, entry_id, "FORCE", "RETRYCOUNT", *options)


def test_messages_that_are_due_are_claimed_with_one_more_attempt(clock: Clock) -> None:
    entry = [b"1-0", [b"body", b"job"]]
    waiting, server = waiting_on([[b"1-0|1", b"2-0|2"]], [[entry], [], 2])
    waiting.due_at = 50.0
    assert waiting.take(7) == [(entry, 2)]
    members = (b"1-0|1", b"2-0|2")
    assert server.asked == [
        ("ZRANGEBYSCORE", SET, "-inf", 1_000_250, "LIMIT", 0, 7),
        ("MULTI",), claim_of(b"1-0", 2), claim_of(b"2-0", 3), ("ZREM", SET, *members), ("EXEC",),
    ]  # fmt: skip
    assert (waiting.look_at, waiting.due_at) == (0.0, math.inf)


def test_taking_is_a_poll_that_is_tried_five_times(clock: Clock) -> None:
    waiting, server = waiting_on([[]], [])
    assert waiting.take(1) == []
    assert server.asked[1:] == [("UNWATCH",)]
    assert server.watched == [
        {"keys": SET, "name": "take", "commands": [("ZREM", SET), ("XCLAIM", KEY)],
         "settlement": None, "is_poll": True, "attempts": 5},
    ]  # fmt: skip


def test_a_message_without_an_attempt_left_is_claimed_without_its_body(clock: Clock) -> None:
    waiting, server = waiting_on([[b"1-0|3"]], [[b"1-0"], 1])
    assert waiting.take(1) == [((b"1-0", None), 4)]
    assert claim_of(b"1-0", 3, "JUSTID") in server.asked


def test_an_entry_that_does_not_exist_any_more_is_left_out(clock: Clock) -> None:
    waiting, _ = waiting_on([[b"1-0|1"]], [[None], 1])
    assert waiting.take(1) == []


def test_a_full_server_that_refuses_the_transaction_gets_the_commands_without_it(
    clock: Clock,
) -> None:
    entry = [b"1-0", [b"body", b"job"]]
    waiting, server = waiting_on([[b"1-0|1"]], FULL, [[entry], 1])
    assert waiting.take(1) == [(entry, 2)]
    assert server.asked[-2:] == [claim_of(b"1-0", 2), ("ZREM", SET, b"1-0|1")]


@pytest.mark.parametrize(
    "error", [redis.WatchError("changed"), redis.exceptions.ClusterError("moving")], ids=repr
)
def test_messages_that_others_take_are_left_to_them(clock: Clock, error: Exception) -> None:
    waiting, _ = waiting_on(error)
    assert waiting.take(1) == []


def test_another_error_is_raised(clock: Clock) -> None:
    waiting, _ = waiting_on(redis.ReadOnlyError("READONLY"))
    with pytest.raises(redis.ReadOnlyError):
        waiting.take(1)
