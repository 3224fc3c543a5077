"""Delayed messages are added, looked for and moved to the stream."""

from __future__ import annotations

import logging
import math
from typing import Any
from unittest.mock import Mock

import pytest
import redis

from pyramid_baseplate_redis.queues.schedules.delayed import Delayed, DelayedMessages

from ..fakes import Clock, ScriptedServer, spec_of

KEY, SET = "{jobs}:messages", "{jobs}:delayed"
LOOK = ("ZRANGE", SET, 0, 0, "WITHSCORES")
FIELDS = [b"body", b"job"]
TOO_LARGE = redis.TimeoutError("too large")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(monkeypatch)
    clock.now = 100.0
    return clock


def delayed_on(*replies: Any) -> tuple[DelayedMessages, ScriptedServer]:
    """Return the messages of a server whose clock shows 1000 seconds and 250.5 milliseconds."""
    server = ScriptedServer(*replies)
    times, unique = Mock(), Mock()
    times.now.return_value = 1_000_250.5
    times.monotonic.side_effect = lambda milliseconds: milliseconds / 1000 - 900
    unique.moved.return_value = []
    commands: Any = server
    return DelayedMessages(spec_of(), commands, times, unique), server


def ids(count: int) -> list[bytes]:
    return [b"%d-a" % number for number in range(count)]


def move_replies(count: int) -> list[Any]:
    """Return the replies to the commands that move some messages."""
    return [[b"stream"], [FIELDS] * count, []]


def moved_together(server: ScriptedServer) -> list[list[bytes]]:
    """Return the identifiers of each transaction."""
    return [list(command[2:]) for command in server.asked if command[:2] == ("ZREM", SET)]


# Adding


def test_a_message_is_added_with_the_time_when_it_is_due() -> None:
    delayed, _ = delayed_on()
    assert delayed.commands(b"1-a", (b"body", b"job"), 1_000_000.2) == [
        ("HSET", "{jobs}:later:1-a", b"body", b"job"),
        ("ZADD", SET, 1_000_001, b"1-a"),
    ]


# Looking


@pytest.mark.parametrize("reply", [[b"1-a", b"1005000"], [[b"1-a", 1005000.0]]], ids=str)
def test_the_first_message_says_when_the_next_is_due(clock: Clock, reply: Any) -> None:
    delayed, _ = delayed_on()
    assert (delayed.due_at, delayed.look) == (math.inf, LOOK)
    delayed.learn(reply)
    assert delayed.due_at == 105.0


def test_without_a_message_none_is_due(clock: Clock) -> None:
    delayed, _ = delayed_on()
    delayed.due_at = 7.0
    delayed.learn([])
    assert delayed.due_at == math.inf


def test_a_redirection_is_followed(clock: Clock) -> None:
    delayed, server = delayed_on([b"1-a", b"1005000"])
    delayed.learn(redis.exceptions.MovedError("1 127.0.0.1:7000"))
    assert (delayed.due_at, server.asked) == (105.0, [LOOK])


def test_an_error_is_raised(clock: Clock) -> None:
    delayed, _ = delayed_on()
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        delayed.learn(redis.ResponseError("WRONGTYPE"))


@pytest.mark.parametrize("score", [1_000_000, 1_005_000], ids=["due", "due later"])
@pytest.mark.parametrize("is_pair", [True, False], ids=["RESP3", "RESP2"])
def test_a_first_message_that_was_skipped_is_looked_at_again_after_a_second(
    clock: Clock, score: int, is_pair: bool
) -> None:
    """Those after it may be due as well."""
    delayed, _ = delayed_on()
    delayed._skip(b"1-a", TOO_LARGE)
    delayed.learn([[b"1-a", float(score)]] if is_pair else [b"1-a", b"%d" % score])
    assert delayed.due_at == max(101.0, score / 1000 - 900)


# Moving


def test_messages_that_are_due_are_asked_for_a_hundred_at_a_time(clock: Clock) -> None:
    delayed, server = delayed_on([])
    assert not delayed.move()
    assert server.asked == [("ZRANGEBYSCORE", SET, "-inf", 1_000_250, "LIMIT", 0, 100)]
    assert server.calls == [{"block": 0.0, "is_recorded": False}]
    assert delayed.due_at == math.inf


def test_a_message_is_moved_in_one_transaction(clock: Clock) -> None:
    delayed, server = delayed_on([b"1-a"], [3], *move_replies(1))
    assert delayed.move()
    key = "{jobs}:later:1-a"
    assert server.asked[1:] == [
        ("HSTRLEN", key, b"body"), ("TYPE", KEY), ("HGETALL", key), ("MULTI",),
        ("XADD", KEY, "*", *FIELDS), ("ZREM", SET, b"1-a"), ("UNLINK", key), ("EXEC",),
    ]  # fmt: skip
    assert server.calls[1] == {"name": "move"}
    assert server.watched == [
        {"keys": (key,), "name": "move", "commands": [("ZREM", SET), ("XADD", KEY)],
         "settlement": None, "is_poll": True, "attempts": 3},
    ]  # fmt: skip


def test_a_message_that_another_consumer_has_moved_is_not_added(clock: Clock) -> None:
    delayed, server = delayed_on([b"1-a", b"2-a"], [3, 0], [b"stream"], [FIELDS, []], [])
    delayed.move()
    assert [command for command in server.asked if command[0] == "XADD"] == [
        ("XADD", KEY, "*", *FIELDS)
    ]


@pytest.mark.parametrize(("found", "due_at"), [(100, 100.0), (99, math.inf)])
def test_after_a_hundred_messages_there_may_be_more(
    clock: Clock, found: int, due_at: float
) -> None:
    delayed, _ = delayed_on(ids(found), [3] * found, *move_replies(found))
    delayed.move()
    assert delayed.due_at == due_at


@pytest.mark.parametrize(
    ("sizes", "batches"),
    [
        ([1024 * 1024 - 10, 10, 1], [2, 1]),
        ([1024 * 1024 - 10, 11], [1, 1]),
        ([5 * 1024 * 1024, 1], [1, 1]),
        ([600_000, 600_000, 448_576, 1], [1, 2, 1]),
    ],
    ids=str,
)
def test_the_bodies_of_a_transaction_have_a_megabyte_unless_one_has_more(
    clock: Clock, sizes: list[int], batches: list[int]
) -> None:
    replies = [reply for batch in batches for reply in move_replies(batch)]
    delayed, server = delayed_on(ids(len(sizes)), sizes, *replies)
    delayed.move()
    assert [len(batch) for batch in moved_together(server)] == batches
    assert [each for batch in moved_together(server) for each in batch] == ids(len(sizes))


def test_after_a_failed_transfer_each_message_is_moved_alone_once(clock: Clock) -> None:
    delayed, server = delayed_on(
        ids(2), [3, 3], TOO_LARGE,
        ids(2), [3, 3], *move_replies(1), *move_replies(1),
        ids(2), [3, 3], *move_replies(2),
    )  # fmt: skip
    with pytest.raises(redis.TimeoutError):
        delayed.move()
    for _ in range(2):
        assert delayed.move()
    assert moved_together(server) == [[b"0-a"], [b"1-a"], [b"0-a", b"1-a"]]


def test_a_batch_that_fails_skips_none_of_its_messages(clock: Clock) -> None:
    delayed, _ = delayed_on(ids(2), [3, 3], TOO_LARGE)
    with pytest.raises(redis.TimeoutError):
        delayed.move()
    assert delayed._skipped == {}


def test_a_message_that_cannot_be_moved_is_skipped_for_a_lease(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    later = [b"1-a"], [3], *move_replies(1)
    delayed, server = delayed_on([b"1-a"], [3], TOO_LARGE, [b"1-a"], *later)
    with pytest.raises(redis.TimeoutError):
        delayed.move()
    assert caplog.record_tuples == [
        ("pyramid_baseplate_redis.queues.schedules", logging.WARNING,
         "queue jobs: the delayed message 1-a could not be moved: too large"),
    ]  # fmt: skip
    clock.now = 109.9
    assert not delayed.move()
    assert server.asked[-1][-1] == 101  # the skipped one takes no place of another
    clock.now = 110.0
    assert delayed.move()


def test_with_a_skipped_message_a_full_page_has_one_more(clock: Clock) -> None:
    found = ids(101)
    delayed, _ = delayed_on(found, [3] * 100, *move_replies(100))
    delayed._skip(found[0], TOO_LARGE)
    delayed.move()
    assert delayed.due_at == 100.0


def test_messages_of_which_others_move_some_are_moved_one_by_one(clock: Clock) -> None:
    conflict = redis.WatchError("changed")
    delayed, server = delayed_on(
        ids(2), [3, 3], [b"stream"], [FIELDS] * 2, conflict, *move_replies(1), *move_replies(1)
    )
    assert delayed.move()
    assert [watched["keys"] for watched in server.watched] == [
        ("{jobs}:later:0-a", "{jobs}:later:1-a"), ("{jobs}:later:0-a",), ("{jobs}:later:1-a",),
    ]  # fmt: skip


def test_a_message_that_another_consumer_moves_is_left_to_it(clock: Clock) -> None:
    delayed, server = delayed_on([b"1-a"], [3], redis.WatchError("changed"))
    assert delayed.move()
    assert len(server.watched) == 1
    assert delayed._skipped == {}


# Peeking


@pytest.mark.parametrize("is_resp3", [True, False], ids=["RESP3", "RESP2"])
def test_the_next_messages_are_read_with_their_fields(is_resp3: bool) -> None:
    found = [[b"1-a", 5.5], [b"2-a", 6.0]] if is_resp3 else [b"1-a", b"5.5", b"2-a", b"6"]
    fields = {b"body": b"job"} if is_resp3 else FIELDS
    delayed, server = delayed_on([found], [fields, {} if is_resp3 else []])
    assert delayed.first(5) == [Delayed(b"1-a", 5.5, {b"body": b"job"})]
    assert server.asked == [
        ("ZRANGE", SET, 0, 4, "WITHSCORES"),
        ("HGETALL", "{jobs}:later:1-a"), ("HGETALL", "{jobs}:later:2-a"),
    ]  # fmt: skip
    assert server.calls[1] == {"name": "peek"}


def test_without_messages_no_fields_are_asked_for() -> None:
    delayed, server = delayed_on([[]])
    assert delayed.first(5) == []
    assert len(server.asked) == 1


def test_all_keys_are_returned_for_their_removal() -> None:
    delayed, server = delayed_on([[b"1-a", b"2-a"]])
    assert delayed.keys() == ["{jobs}:later:1-a", "{jobs}:later:2-a"]
    assert server.asked == [("ZRANGE", SET, 0, -1)]
