"""A consumer reads and claims messages; entries that are no messages become dead letters."""

from __future__ import annotations

import logging
import math
from typing import Any
from unittest.mock import Mock, call

import pytest
import redis

from pyramid_baseplate_redis.queues.receiving import consumer_group
from pyramid_baseplate_redis.queues.receiving.consumer_group import ConsumerGroup

from ..fakes import Clock, ScriptedServer, spec_of

KEY = "{jobs}:messages"
FIELDS = [b"body", b"job"]
JOB = [b"1-0", FIELDS]
LOOKS = (("look at", "waiting"), ("look at", "delayed"))
GONE = redis.ConnectionError("gone")
NO_GROUP = redis.ResponseError("NOGROUP No such key or consumer group")
LEASE_LOST = "pyramid_baseplate_redis.exceptions.LeaseLostError"
BAD_FORMAT = "pyramid_baseplate_redis.exceptions.MessageFormatError"
NONE_HELD: frozenset[bytes] = frozenset()


class Parts:
    """The group of a queue whose server has these replies."""

    def __init__(self, *replies: Any, **options: Any) -> None:
        self.server = ScriptedServer(*replies)
        self.waiting, self.delayed = Mock(look=LOOKS[0]), Mock(look=LOOKS[1])
        self.dead = Mock()
        commands: Any = self.server
        leases: Any = Mock()
        self.group = ConsumerGroup(
            spec_of(**options), commands, self.dead, self.waiting, self.delayed, leases
        )


def read_command(count: int, *waiting: Any) -> tuple[Any, ...]:
    command = ("XREADGROUP", "GROUP", "workers", "first", "COUNT", count)
    return (*command, *waiting, "STREAMS", KEY, ">")


def read_reply(*entries: Any) -> list[Any]:
    return [[[KEY.encode(), list(entries)]], [], []]


# Reading


def test_a_read_that_does_not_wait_looks_at_both_schedules(clock: Clock) -> None:
    parts = Parts([None, ["w"], ["d"]])
    assert parts.group.read(7, 0) == []
    assert parts.server.asked == [read_command(7), *LOOKS]
    assert parts.waiting.learn.mock_calls == [call(["w"])]
    assert parts.delayed.learn.mock_calls == [call(["d"])]


def test_a_read_that_waits_looks_at_none(clock: Clock) -> None:
    parts = Parts([None])
    assert parts.group.read(7, 1.2344) == []
    assert parts.server.asked == [read_command(7, "BLOCK", 1234)]
    assert parts.server.calls == [{"block": 1.2344, "is_recorded": False}]
    assert not parts.waiting.learn.called


def test_a_wait_below_a_millisecond_is_not_endless(clock: Clock) -> None:
    parts = Parts([None])
    parts.group.read(7, 0.0001)
    assert parts.server.asked == [read_command(7, "BLOCK", 1)]


@pytest.mark.parametrize("is_resp3", [True, False], ids=["RESP3", "RESP2"])
def test_new_messages_are_received_for_the_first_time(clock: Clock, is_resp3: bool) -> None:
    def reply() -> Any:
        clock.now = 103.0
        entries = [JOB, [b"2-0", FIELDS]]
        return [{KEY.encode(): entries} if is_resp3 else [[KEY.encode(), entries]], [], []]

    parts = Parts(reply)
    messages = parts.group.read(7, 0)
    assert [(each.entry_id, each.attempts) for each in messages] == [(b"1-0", 1), (b"2-0", 1)]
    assert {each.leased_at for each in messages} == {100.0}  # at the latest
    assert parts.server.calls[0]["is_recorded"]


def test_an_error_of_a_look_does_not_hide_messages(clock: Clock) -> None:
    parts = Parts([read_reply(JOB)[0], redis.ResponseError("WRONGTYPE"), []])
    assert len(parts.group.read(7, 0)) == 1
    assert not parts.waiting.learn.called


def test_an_error_of_a_look_without_messages_is_the_schedules_to_raise(clock: Clock) -> None:
    error = redis.ResponseError("WRONGTYPE")
    parts = Parts([None, error, []])
    parts.waiting.learn.side_effect = error
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        parts.group.read(7, 0)


def test_a_wait_that_an_administrator_ends_finds_nothing(clock: Clock) -> None:
    parts = Parts(redis.ResponseError("UNBLOCKED client unblocked via CLIENT UNBLOCK"))
    assert parts.group.read(7, 1.0) == []


def test_another_error_of_a_wait_is_raised(clock: Clock) -> None:
    parts = Parts(redis.ReadOnlyError("READONLY"))
    with pytest.raises(redis.ReadOnlyError):
        parts.group.read(7, 1.0)


def test_after_a_failed_transfer_one_message_is_read_until_one_was(clock: Clock) -> None:
    """One of them may be too large for the network or the server's limits."""
    parts = Parts(GONE, [None, [], []], read_reply(JOB), read_reply(JOB))
    with pytest.raises(redis.ConnectionError):
        parts.group.read(7, 0)
    for _ in range(3):
        parts.group.read(7, 0)
    counts = [command[5] for command in parts.server.asked if command[0] == "XREADGROUP"]
    assert counts == [7, 1, 1, 7]


def test_entries_that_are_no_messages_are_buried_and_the_next_ones_read(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    parts = Parts([read_reply([b"1-0", [b"task", b"old"]])[0]], read_reply([b"2-0", FIELDS]))
    (message,) = parts.group.read(7, 1.0)
    assert message.entry_id == b"2-0"
    assert parts.server.asked == [read_command(7, "BLOCK", 1000), read_command(7), *LOOKS]
    ((buried, *rest),) = (each.args for each in parts.dead.bury.mock_calls)
    assert (buried.entry_id, rest) == (b"1-0", [BAD_FORMAT, 1])
    assert caplog.messages == [f"queue jobs: 1-0 is a dead letter: {BAD_FORMAT}"]


@pytest.mark.parametrize("error", [redis.ResponseError("OOM"), redis.WatchError("changed")])
def test_an_entry_that_cannot_be_buried_is_logged(
    clock: Clock, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    parts = Parts(read_reply([b"1-0", [b"task", b"old"]], JOB))
    parts.dead.bury.side_effect = error
    assert len(parts.group.read(7, 0)) == 1
    assert caplog.record_tuples == [
        ("pyramid_baseplate_redis.queues.receiving", logging.WARNING,
         "queue jobs: 1-0 could not become a dead letter and will be delivered again: "
         f"{error}"),
    ]  # fmt: skip


def test_a_look_asks_for_both_schedules_and_makes_no_span(clock: Clock) -> None:
    parts = Parts([["w"], ["d"]])
    parts.group.look()
    assert parts.server.asked == [*LOOKS]
    assert parts.server.calls == [{"block": 0.0, "is_recorded": False}]
    assert parts.waiting.learn.mock_calls == [call(["w"])]
    assert parts.delayed.learn.mock_calls == [call(["d"])]


# Taking messages that are due


def test_messages_that_are_due_are_taken_with_their_attempts(clock: Clock) -> None:
    parts = Parts()
    parts.waiting.take.return_value = [(JOB, 2)]
    (message,) = parts.group.take(7)
    assert (message.entry_id, message.attempts, message.leased_at) == (b"1-0", 2, 100.0)
    assert not message.is_suspect
    assert parts.waiting.take.mock_calls == [call(7)]


def test_a_message_without_an_attempt_left_is_buried_and_the_next_one_taken(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    parts = Parts()
    parts.waiting.take.side_effect = [[((b"1-0", None), 4)], [([b"2-0", FIELDS], 2)]]
    (message,) = parts.group.take(7)
    assert message.entry_id == b"2-0"
    assert parts.dead.bury_unread.mock_calls == [call(b"1-0", LEASE_LOST, 3)]
    assert caplog.messages == [f"queue jobs: 1-0 is a dead letter: {LEASE_LOST}"]


def test_nothing_is_taken_if_nothing_is_due(clock: Clock) -> None:
    parts = Parts()
    parts.waiting.take.return_value = []
    assert parts.group.take(7) == []
    assert parts.waiting.take.call_count == 1


# Claiming messages whose lease has expired


def expired(*rows: tuple[int, int]) -> list[Any]:
    """Return the reply to XPENDING: entries and how often they were delivered."""
    return [[b"%d-0" % number, b"another", 10_000, delivered] for number, delivered in rows]


def claim_command(number: int, *options: Any) -> tuple[Any, ...]:
    return ("XCLAIM", KEY, "workers", "first", 10_000, b"%d-0" % number, *options)


def test_messages_whose_lease_has_expired_are_claimed_one_at_a_time(clock: Clock) -> None:
    rows = expired((1, 1), (2, 2), (3, 1))
    parts = Parts(rows, [JOB], [[b"2-0", FIELDS]])
    messages = parts.group.claim(2, NONE_HELD)
    found = [(each.entry_id, each.attempts, each.is_suspect) for each in messages]
    assert found == [(b"1-0", 2, True), (b"2-0", 3, True)]
    assert parts.server.asked[1:] == [claim_command(1), claim_command(2)]
    assert [each["is_recorded"] for each in parts.server.calls] == [False, True, True]


def test_a_message_that_was_never_delivered_is_no_suspect(clock: Clock) -> None:
    """A group that was created again has such entries."""
    parts = Parts(expired((1, 0)), [JOB])
    (message,) = parts.group.claim(1, NONE_HELD)
    assert (message.attempts, message.is_suspect) == (1, False)


def test_the_lease_of_a_claimed_message_begins_before_it_is_claimed(clock: Clock) -> None:
    def reply() -> Any:
        clock.now = 103.0
        return [JOB]

    parts = Parts(expired((1, 1)), reply)
    (message,) = parts.group.claim(1, NONE_HELD)
    assert message.leased_at == 100.0


def test_messages_that_this_process_holds_are_not_claimed(clock: Clock) -> None:
    parts = Parts(expired((1, 1), (2, 1)), [[b"2-0", FIELDS]])
    (message,) = parts.group.claim(5, {b"1-0"})
    assert message.entry_id == b"2-0"


@pytest.mark.parametrize("reply", [[], [None], [[b"1-0", None]]], ids=str)
def test_a_message_that_another_consumer_has_claimed_or_deleted_is_left_out(
    clock: Clock, reply: Any
) -> None:
    parts = Parts(expired((1, 1)), reply)
    assert parts.group.claim(1, NONE_HELD) == []
    assert parts.dead.mock_calls == []


def test_the_last_attempt_is_buried_without_reading_it(clock: Clock) -> None:
    parts = Parts(expired((1, 3), (2, 4)), [b"1-0"], [b"2-0"])
    assert parts.group.claim(1, NONE_HELD) == []
    assert parts.server.asked[1:] == [claim_command(1, "JUSTID"), claim_command(2, "JUSTID")]
    assert parts.dead.bury_unread.mock_calls == [
        call(b"1-0", LEASE_LOST, 3), call(b"2-0", LEASE_LOST, 4),
    ]  # fmt: skip


def test_a_failure_after_a_claimed_message_does_not_lose_it(clock: Clock) -> None:
    parts = Parts(expired((1, 1), (2, 1)), [JOB], GONE)
    assert [each.entry_id for each in parts.group.claim(5, NONE_HELD)] == [b"1-0"]


def test_a_failure_before_any_message_is_raised(clock: Clock) -> None:
    parts = Parts(expired((1, 1)), GONE)
    with pytest.raises(redis.ConnectionError):
        parts.group.claim(5, NONE_HELD)


def test_a_search_is_due_when_it_was_asked_for(clock: Clock) -> None:
    parts = Parts([])
    parts.group.claim(5, NONE_HELD)
    assert (parts.group.may_have_expired(), parts.group.search_at) == (False, 105.0)
    parts.group.search_soon()
    assert parts.group.may_have_expired()
    assert parts.group.search_at <= 0.0


# A missing group


def test_a_missing_group_is_created_and_its_pending_messages_searched_for(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    created: list[Any] = []
    monkeypatch.setattr(consumer_group, "create_group", lambda *args: created.append(args))
    parts = Parts(NO_GROUP, read_reply(JOB))
    parts.group._expired.search_at = math.inf
    assert len(parts.group.read(7, 0)) == 1
    assert len(created) == 1
    assert parts.group.may_have_expired()


def test_a_group_that_is_missing_again_is_an_error(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_group, "create_group", lambda *args: None)
    parts = Parts(NO_GROUP, NO_GROUP)
    with pytest.raises(redis.ResponseError, match="NOGROUP"):
        parts.group.read(7, 0)
