"""How the numbers and the messages of a queue are read without receiving any."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from unittest.mock import Mock

import pytest
import redis

from pyramid_baseplate_redis.queues.inspection import peeked, stats_of
from pyramid_baseplate_redis.queues.messages import QueuedMessage
from pyramid_baseplate_redis.queues.schedules.delayed import Delayed
from pyramid_baseplate_redis.telemetry.stats import QueueStats

from .fakes import ScriptedServer, spec_of

KEY, DEAD, WAITING, DELAYED = (f"{{jobs}}:{each}" for each in
                               ("messages", "dead", "waiting", "delayed"))  # fmt: skip
LEFT = ("ZRANGE", WAITING, "+inf", "+inf", "BYSCORE", "LIMIT", 0, 100)
BODY = [b"body", b"job"]
NO_GROUP = redis.ResponseError("NOGROUP No such key")
WRONG = redis.ResponseError("WRONGTYPE")


def stats(*replies: Any) -> tuple[QueueStats, ScriptedServer]:
    server = ScriptedServer(*replies)
    commands: Any = server
    return stats_of(commands, spec_of()), server


def numbers(**changed: Any) -> list[Any]:
    """Return the replies to the commands, each with a number of its own."""
    replies = {
        "length": 20, "pending": [3, b"1-0", b"2-0", []], "dead": 4, "kept": 8, "waiting": 5,
        "delayed": 6, "left": [], "now": [b"1000", b"500000"],
    }  # fmt: skip
    return list({**replies, **changed}.values())


def time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc)


def test_the_numbers_are_asked_for_together() -> None:
    found, server = stats(numbers(), [[[b"999000-0", BODY]]])
    age = timedelta(seconds=1.5)
    assert found == QueueStats(20 - 8, 3, age, 4, 5, 6)
    assert server.asked == [
        ("XLEN", KEY), ("XPENDING", KEY, "workers"), ("XLEN", DEAD), ("ZCARD", WAITING),
        ("ZCOUNT", WAITING, "-inf", "(+inf"), ("ZCARD", DELAYED), LEFT, ("TIME",),
        ("XRANGE", KEY, b"-", b"+", "COUNT", 1),
    ]  # fmt: skip
    assert server.calls == [{"name": "stats", "errors": True}, {"name": "peek"}]


def test_before_the_first_message_is_received_none_is_in_flight() -> None:
    found, _ = stats(numbers(pending=NO_GROUP), [[]])
    assert found.in_flight == 0


@pytest.mark.parametrize(
    "name", ["length", "pending", "dead", "kept", "waiting", "delayed", "left", "now"]
)
def test_an_error_among_the_numbers_is_raised(name: str) -> None:
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        stats(numbers(**{name: WRONG}))


def test_an_empty_queue_is_not_asked_for_its_oldest_message() -> None:
    found, server = stats(numbers(length=0, kept=0))
    assert (found.length, found.oldest_age) == (0, None)
    assert len(server.calls) == 1


def test_a_queue_of_one_message_has_an_oldest_one() -> None:
    found, _ = stats(numbers(length=1, kept=0), [[[b"999000-0", BODY]]])
    assert found.oldest_age is not None


def test_a_length_that_changed_meanwhile_is_not_negative() -> None:
    found, _ = stats(numbers(length=1, kept=2), [[]])
    assert (found.length, found.oldest_age) == (0, None)


def test_a_message_of_the_future_has_no_age() -> None:
    found, _ = stats(numbers(), [[[b"2000000-0", BODY]]])
    assert found.oldest_age == timedelta(0)


def test_the_age_is_unknown_if_the_message_cannot_be_transferred() -> None:
    found, _ = stats(numbers(), redis.TimeoutError("too large"))
    assert (found.length, found.oldest_age) == (12, None)


def test_entries_of_dead_letters_are_not_the_oldest() -> None:
    left = [b"20-0|3", b"5-0|3"]
    found, server = stats(numbers(left=left), [[], [[b"999500-0", BODY]], []])
    assert found.oldest_age == timedelta(seconds=1)
    assert server.asked[8:] == [
        ("XRANGE", KEY, b"-", b"(5-0", "COUNT", 1),
        ("XRANGE", KEY, b"(5-0", b"(20-0", "COUNT", 1),
        ("XRANGE", KEY, b"(20-0", b"+", "COUNT", 1),
    ]


# Peeking


def peek(count: int, *replies: Any, delayed: Any = ()) -> tuple[list[QueuedMessage], Any, Any]:
    server, schedule = ScriptedServer(*replies), Mock()
    schedule.first.return_value = delayed
    commands: Any = server
    return peeked(commands, spec_of(), schedule, count), server, schedule


def test_messages_are_shown_with_their_consumers_and_attempts() -> None:
    entries = [[b"1000-0", BODY], [b"2000-0", [*BODY, b"message.id", b"500-x"]]]
    found, server, schedule = peek(2, [[], [[b"1000-0", b"second", 700, 3]]], [entries])
    assert found == [
        QueuedMessage("1000-0", b"job", time(1000), 3, "second"),
        QueuedMessage("500-x", b"job", time(500), 0, None),
    ]
    assert server.asked == [
        LEFT, ("XPENDING", KEY, "workers", "-", "+", 2), ("XRANGE", KEY, b"-", b"+", "COUNT", 2),
    ]  # fmt: skip
    assert server.calls == [{"name": "peek", "errors": True}, {"name": "peek"}]
    assert not schedule.first.called


def test_before_the_first_message_is_received_none_has_a_consumer() -> None:
    found, _, _ = peek(1, [[], NO_GROUP], [[[b"1000-0", [b"task", b"old"]]]])
    assert found == [QueuedMessage("1000-0", b"", time(1000), 0, None)]


@pytest.mark.parametrize("replies", [[WRONG, []], [[], WRONG]], ids=repr)
def test_an_error_is_raised(replies: list[Any]) -> None:
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        peek(1, replies)


def test_delayed_messages_fill_up_the_list() -> None:
    delayed = [Delayed(b"700-x", 9000.7, {b"body": b"later"}), Delayed(b"800-x", 9500.0, {})]
    found, _, schedule = peek(3, [[], []], [[[b"1000-0", BODY]]], delayed=delayed)
    assert schedule.first.call_args.args == (2,)
    assert found[1:] == [
        QueuedMessage("700-x", b"later", time(700), 0, None, time(9000)),
        QueuedMessage("800-x", b"", time(800), 0, None, time(9500)),
    ]


def test_no_more_messages_than_wanted_are_shown() -> None:
    pages = [[[b"1000-0", BODY], [b"1001-0", BODY]], [[b"3000-0", BODY]]]
    found, _, _ = peek(2, [[b"2000-0|3"], []], pages)
    assert [each.id for each in found] == ["1000-0", "1001-0"]


def test_an_entry_of_the_same_millisecond_comes_in_its_order() -> None:
    _, server, _ = peek(1, [[b"5-10|3", b"5-9|3"], []], [[], [], []], delayed=[])
    assert [command[2] for command in server.asked[2:]] == [b"-", b"(5-9", b"(5-10"]


def test_a_consumer_whose_name_is_not_utf_8_is_shown() -> None:
    found, _, _ = peek(1, [[], [[b"1000-0", b"\xff", 700, 3]]], [[[b"1000-0", BODY]]])
    assert found[0].consumer == "\ufffd"
