"""A consumer group is created in front of all messages, apart from those of dead letters."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from pyramid_baseplate_redis.queues.receiving.group_creation import create_group

from ..fakes import ScriptedServer, spec_of

KEY, SET = "{jobs}:messages", "{jobs}:waiting"
LOOKED = [
    ("XINFO", "GROUPS", KEY), ("ZRANGE", SET, "+inf", "+inf", "BYSCORE"), ("ZCARD", SET),
]  # fmt: skip
NO_KEY = redis.ResponseError("no such key")
MOVED = redis.exceptions.MovedError("1 127.0.0.1:7000")
BODY = [b"body", b"job"]


def create(*replies: Any) -> ScriptedServer:
    server = ScriptedServer(*replies)
    commands: Any = server
    create_group(spec_of(), commands)
    return server


def creation(start: Any) -> tuple[Any, ...]:
    return ("XGROUP", "CREATE", KEY, "workers", start, "MKSTREAM")


def claim_of(*ids: bytes) -> tuple[Any, ...]:
    """Return the command after which entries are pending with an expired lease."""
    claim = ("XCLAIM", KEY, "workers", "first", 0, *ids)
    return (*claim, "IDLE", 10_000, "RETRYCOUNT", 0, "FORCE", "JUSTID")


def entries(*numbers: int) -> list[Any]:
    return [[b"%d-0" % number, BODY] for number in numbers]


@pytest.mark.parametrize("groups", [[], NO_KEY, [[b"name", b"others"]]], ids=repr)
def test_a_new_group_receives_all_messages(groups: Any) -> None:
    server = create([groups, [], 0], [b"OK"])
    assert server.asked == [*LOOKED, ("MULTI",), creation("0"), ("EXEC",)]
    assert server.calls[0] == {"errors": True, "later_redirections": True}
    assert server.watched == [
        {"keys": KEY, "name": "create_group", "commands": [creation("0")], "settlement": None}
    ]


@pytest.mark.parametrize(
    "group", [[b"consumers", 1, b"name", b"workers"], {b"name": b"workers"}], ids=str
)
def test_a_group_that_exists_is_left_alone(group: Any) -> None:
    server = create([[group], [], 0], [])
    assert server.asked == [*LOOKED, ("UNWATCH",)]


def test_an_error_of_the_stream_is_raised() -> None:
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        create([redis.ResponseError("WRONGTYPE"), [], 0])


def test_an_error_of_the_waiting_messages_is_raised() -> None:
    wrong = redis.ResponseError("WRONGTYPE")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        create([[], wrong, wrong])


@pytest.mark.parametrize("replies", [(MOVED, MOVED), ([], MOVED)], ids=repr)
def test_waiting_messages_of_another_node_are_left_alone(replies: Any) -> None:
    server = create([[], *replies], [b"OK"])
    assert server.asked[3:] == [("MULTI",), creation("0"), ("EXEC",)]


def test_messages_that_wait_are_received_as_new_ones() -> None:
    server = create([[], [], 2], [b"OK", 2])
    assert server.asked[3:] == [
        ("MULTI",), creation("0"), ("ZREMRANGEBYSCORE", SET, "-inf", "(+inf"), ("EXEC",),
    ]  # fmt: skip


def test_entries_of_dead_letters_are_skipped_and_those_before_are_pending() -> None:
    members = [b"20-0|3", b"5-0|3"]
    server = create([[], members, 2], [entries(1, 2)], [entries(6, 7)], [b"OK", [], []])
    assert server.asked[3:] == [
        ("XRANGE", KEY, b"-", b"(5-0", "COUNT", 100),
        ("XRANGE", KEY, b"(5-0", b"(20-0", "COUNT", 100),
        ("MULTI",), creation(b"20-0"), claim_of(b"1-0", b"2-0", b"6-0", b"7-0"), ("EXEC",),
    ]  # fmt: skip


def test_without_messages_before_the_entry_of_a_dead_letter_none_is_claimed() -> None:
    server = create([[], [b"5-0|3"], 1], [[]], [b"OK"])
    assert server.asked[4:] == [("MULTI",), creation(b"5-0"), ("EXEC",)]


def test_more_messages_than_a_page_are_read_and_claimed_in_pages() -> None:
    first, second = entries(*range(1, 101)), entries(101, 102)
    server = create([[], [b"500-0|3"], 1], [first], [second], [b"OK", [], []])
    assert server.asked[3:5] == [
        ("XRANGE", KEY, b"-", b"(500-0", "COUNT", 100),
        ("XRANGE", KEY, b"(100-0", b"(500-0", "COUNT", 100),
    ]
    ids = [entry[0] for entry in (*first, *second)]
    assert server.asked[6:] == [
        creation(b"500-0"), claim_of(*ids[:100]), claim_of(*ids[100:]), ("EXEC",),
    ]  # fmt: skip


def test_a_name_that_is_not_utf_8_is_another_group() -> None:
    server = create([[[b"name", b"\xff"]], [], 0], [b"OK"])
    assert creation("0") in server.asked
