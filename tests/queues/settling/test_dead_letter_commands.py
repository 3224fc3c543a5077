"""The transactions that move messages to the dead letters and back."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock, call

import pytest
import redis

from pyramid_baseplate_redis.queues.messages import DurableMessage
from pyramid_baseplate_redis.queues.settling.dead_letters import DeadLetters

from ..fakes import ScriptedServer, spec_of

KEY, DEAD, WAITING = "{jobs}:messages", "{jobs}:dead", "{jobs}:waiting"
STREAM, STRING = [b"stream"], [b"string"]
OWN = [b"dead.id", b"1-0", b"dead.error", b"KeyError", b"dead.attempts", b"3"]
REFERRED = [b"dead.id", b"1-0", b"dead.error", b"E", b"dead.ref", b"1-0", b"dead.attempts", b"3"]
BODY = [b"body", b"job"]
LEASES: Any = None


class Parts:
    """The dead letters of a queue whose server has these replies."""

    def __init__(self, *replies: Any, **options: Any) -> None:
        self.server = ScriptedServer(*replies)
        self.tracer = Mock()
        commands: Any = self.server
        self.letters = DeadLetters(spec_of(**options), commands, self.tracer)


def page(first: int, count: int) -> list[Any]:
    return [[b"%d-0" % number, [*OWN, *BODY]] for number in range(first, first + count)]


# Burying


def test_a_message_is_moved_in_one_transaction() -> None:
    parts = Parts(STREAM, [b"9-0", 1, 1])
    message = DurableMessage(LEASES, b"1-0", BODY, 3, 0.0)
    parts.letters.bury(message, "KeyError", 3)
    assert parts.server.asked == [
        ("TYPE", DEAD), ("MULTI",),
        ("XADD", DEAD, "*", b"dead.id", b"1-0", b"dead.error", "KeyError", b"dead.attempts", 3,
         *BODY),
        ("XACK", KEY, "workers", b"1-0"), ("XDEL", KEY, b"1-0"), ("EXEC",),
    ]  # fmt: skip
    assert message.is_settled
    assert parts.tracer.settlement.mock_calls == [call("dead_letter", ["1-0"])]
    assert parts.server.watched == [
        {"keys": DEAD, "name": "bury", "commands": list(parts.server.asked[2:5]),
         "settlement": parts.tracer.settlement.return_value},
    ]  # fmt: skip


@pytest.mark.parametrize(("keep", "has_texts"), [("all", True), ("class", False)])
def test_the_texts_of_an_error_are_kept_as_the_settings_say(keep: str, has_texts: bool) -> None:
    parts = Parts(STREAM, [b"9-0", 1, 1], keep_errors=keep)
    parts.letters.bury(DurableMessage(LEASES, b"1-0", BODY, 3, 0.0), KeyError("no"), 3)
    add = parts.server.asked[2]
    assert (b"dead.message" in add, b"dead.traceback" in add) == (has_texts, has_texts)
    assert "KeyError" in add


def test_a_message_that_is_not_read_stays_in_the_stream() -> None:
    parts = Parts(STREAM, [b"9-0", 1, 1])
    parts.letters.bury_unread(b"1-0", "LeaseLostError", 3)
    own = (b"dead.id", b"1-0", b"dead.error", "LeaseLostError", b"dead.ref", b"1-0")
    assert parts.server.asked[1:] == [
        ("MULTI",), ("XADD", DEAD, "*", *own, b"dead.attempts", 3),
        ("ZADD", WAITING, "+inf", b"1-0|3"), ("XACK", KEY, "workers", b"1-0"), ("EXEC",),
    ]  # fmt: skip


def test_nothing_is_moved_to_a_key_of_another_type() -> None:
    parts = Parts(STRING)
    message = DurableMessage(LEASES, b"1-0", BODY, 3, 0.0)
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        parts.letters.bury(message, "KeyError", 3)
    assert (message.is_settled, parts.server.asked) == (False, [("TYPE", DEAD)])


# Reading


def test_the_bodies_that_stayed_in_the_stream_are_read() -> None:
    letters = [[b"8-0", [*OWN, *BODY]], [b"9-0", REFERRED]]
    entry = [b"1-0", [*BODY, b"message.id", b"7-a"]]
    parts = Parts([letters], [[entry]])
    first, second = parts.letters.letters(5)
    assert parts.server.asked == [
        ("XRANGE", DEAD, "-", "+", "COUNT", 5), ("XRANGE", KEY, "1-0", "1-0"),
    ]  # fmt: skip
    assert (first.body, first.message_id, first.ref) == (b"job", "1-0", "")
    assert (second.body, second.message_id, second.ref) == (b"job", "7-a", "1-0")


def test_a_body_that_was_deleted_from_the_stream_is_empty() -> None:
    parts = Parts([[[b"9-0", REFERRED]]], [[]])
    (letter,) = parts.letters.letters(5)
    assert (letter.body, letter.message_id) == (b"", "1-0")


def test_after_a_body_that_cannot_be_transferred_no_other_is_asked_for() -> None:
    letters = [[b"8-0", REFERRED], [b"9-0", REFERRED]]
    parts = Parts([letters], redis.ConnectionError("gone"))
    assert [letter.body for letter in parts.letters.letters(5)] == [b"", b""]
    assert len(parts.server.asked) == 2


# Replaying


def test_a_dead_letter_becomes_a_new_message() -> None:
    parts = Parts([page(9, 1)], STREAM, [b"10-0", 1])
    assert parts.letters.replay(["9-0"]) == 1
    assert parts.server.asked == [
        ("XRANGE", DEAD, "9-0", "9-0"), ("TYPE", KEY), ("MULTI",),
        ("XADD", KEY, "*", *BODY), ("XDEL", DEAD, "9-0"), ("EXEC",),
    ]  # fmt: skip
    assert parts.server.watched == [
        {"keys": DEAD, "name": "replay", "commands": [("XDEL", DEAD, "9-0")], "settlement": None}
    ]


def test_one_that_points_at_an_entry_lets_it_be_received_again() -> None:
    parts = Parts([[[b"9-0", REFERRED]]], STREAM, [1, 1, 1])
    parts.letters.replay(["9-0"])
    assert parts.server.asked[3:5] == [
        ("ZREM", WAITING, b"1-0|3"), ("ZADD", WAITING, 0, b"1-0|0"),
    ]  # fmt: skip


def test_one_that_is_gone_is_not_replayed() -> None:
    parts = Parts([[]], [])
    assert parts.letters.replay(["9-0"]) == 0
    assert parts.server.asked[1:] == [("UNWATCH",)]


def test_all_are_replayed_if_none_is_named() -> None:
    parts = Parts([page(8, 2)], [page(8, 1)], STREAM, [], [page(9, 1)], STREAM, [])
    assert parts.letters.replay([]) == 2
    assert parts.server.asked[0] == ("XRANGE", DEAD, "-", "+", "COUNT", 100)


# Discarding


def test_named_dead_letters_are_deleted_in_one_command() -> None:
    parts = Parts([page(8, 1), page(9, 1)], [2])
    assert parts.letters.discard(["8-0", "9-0"]) == 2
    assert parts.server.asked == [
        ("XRANGE", DEAD, "8-0", "8-0"), ("XRANGE", DEAD, "9-0", "9-0"),
        ("XDEL", DEAD, b"8-0", b"9-0"),
    ]  # fmt: skip
    assert parts.server.calls == [{"name": "discard"}, {}]


def test_the_entry_of_a_discarded_dead_letter_is_deleted_as_well() -> None:
    parts = Parts([[[b"9-0", REFERRED]]], [1, 7, 8])
    assert parts.letters.discard(["9-0"]) == 1
    assert parts.server.asked[1:] == [
        ("XDEL", DEAD, b"9-0"), ("XDEL", KEY, b"1-0"), ("ZREM", WAITING, b"1-0|3"),
    ]  # fmt: skip
    assert parts.server.calls[1] == {"name": "discard"}


def test_nothing_is_deleted_if_there_is_none() -> None:
    parts = Parts([[]])
    assert parts.letters.discard([]) == 0
    assert len(parts.server.asked) == 1


def test_all_dead_letters_are_read_in_pages_of_a_hundred() -> None:
    parts = Parts([page(1, 100)], [page(101, 99)], [199])
    assert parts.letters.discard([]) == 199
    assert parts.server.asked[:2] == [
        ("XRANGE", DEAD, "-", "+", "COUNT", 100), ("XRANGE", DEAD, "(100-0", "+", "COUNT", 100),
    ]  # fmt: skip


def test_a_full_last_page_is_followed_by_an_empty_one() -> None:
    parts = Parts([page(1, 100)], [[]], [100])
    assert parts.letters.discard([]) == 100


def test_one_that_points_at_an_entry_without_attempts_has_none() -> None:
    fields = [b"dead.id", b"1-0", b"dead.ref", b"1-0"]
    parts = Parts([[[b"9-0", fields]]], [1, 1, 1])
    parts.letters.discard(["9-0"])
    assert parts.server.asked[-1] == ("ZREM", WAITING, b"1-0|0")
