"""How the key of a unique message is held, followed and freed."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest
import redis

from pyramid_baseplate_redis.queues.schedules.unique import Holder, UniqueKeys

from ..fakes import ScriptedServer, spec_of

KEY, DELAYED, WAITING = "{jobs}:messages", "{jobs}:delayed", "{jobs}:waiting"
HELD = b"{jobs}:unique:a"
LOOKED = (("ZSCORE", DELAYED, b"9000-x"), ("ZRANGE", WAITING, "+inf", "+inf", "BYSCORE"))
NOT_THERE = [None, []]
NOW = 1_000_000


class Parts:
    """The keys of a queue whose server has these replies and shows 1000 seconds."""

    def __init__(self, *replies: Any) -> None:
        self.server = ScriptedServer(*replies)
        self.clock = Mock()
        self.clock.now.return_value = NOW
        commands: Any = self.server
        self.keys = UniqueKeys(spec_of(), commands, self.clock)

    def holder(self) -> bytes | None:
        held: list[bytes | None] = []
        self.server.run(lambda ask: held.append(self.keys.holder(ask, HELD)))
        return held[0]


def value(window_end: int = 0, place: bytes = b"") -> list[bytes]:
    """Return the reply to GET."""
    return [b"9000-x|%d|%b" % (window_end, place)]


def entry(number: int, message_id: bytes = b"other") -> list[Any]:
    return [b"%d-0" % number, [b"body", b"job", b"message.id", message_id]]


def search(start: Any) -> tuple[Any, ...]:
    return ("XRANGE", KEY, start, "+", "COUNT", 100)


# The value of a key


def test_a_value_is_read_as_it_was_written() -> None:
    holder = Holder(b"9000-x", 17, b"9000-0")
    assert holder.value == b"9000-x|17|9000-0"
    assert Holder.of(holder.value) == holder


@pytest.mark.parametrize("text", [None, b"", b"a", b"a|1", b"a|b|c", b"a|1|c|d"], ids=repr)
def test_a_value_of_another_program_names_no_message(text: bytes | None) -> None:
    assert Holder.of(text) is None


def test_a_put_holds_its_key_before_its_place_is_known() -> None:
    command = Parts().keys.hold(HELD, b"9000-x", 17)
    assert command == ("SET", HELD, b"9000-x|17|")


# Who holds a key


def test_a_free_key_is_held_by_no_message() -> None:
    parts = Parts([None])
    assert parts.holder() is None
    assert parts.server.asked == [("GET", HELD)]


def test_within_its_window_a_message_holds_its_key_wherever_it_is() -> None:
    parts = Parts(value(NOW + 1))
    assert parts.holder() == b"9000-x"
    assert len(parts.server.asked) == 1


def test_at_the_end_of_its_window_a_message_is_looked_for() -> None:
    parts = Parts(value(NOW), NOT_THERE, [[]])
    assert parts.holder() is None
    assert parts.server.asked[1:3] == [*LOOKED]


@pytest.mark.parametrize("place", [b"", b"@12000"])
def test_a_delayed_message_holds_its_key(place: bytes) -> None:
    parts = Parts(value(place=place), [b"12000", []])
    assert parts.holder() == b"9000-x"
    assert parts.server.asked == [("GET", HELD), *LOOKED]


def test_a_message_is_searched_from_shortly_before_it_was_put() -> None:
    parts = Parts(value(), NOT_THERE, [[entry(8000), entry(9500, b"9000-x")]], [])
    assert parts.holder() == b"9000-x"
    assert search(4000) in parts.server.asked


def test_a_message_that_was_found_is_not_searched_again() -> None:
    parts = Parts(value(17), NOT_THERE, [[entry(9500, b"9000-x")]], [])
    parts.holder()
    note = ("SET", HELD, b"9000-x|17|9500-0")
    assert parts.server.asked[-3:] == [("MULTI",), note, ("EXEC",)]


def test_a_full_server_that_cannot_note_the_place_is_no_hindrance() -> None:
    full = redis.OutOfMemoryError("OOM")
    parts = Parts(value(), NOT_THERE, [[entry(9500, b"9000-x")]], full)
    assert parts.holder() == b"9000-x"


def test_a_message_that_was_moved_is_searched_from_shortly_before_that() -> None:
    parts = Parts(value(place=b"@20000"), NOT_THERE, [[]])
    assert parts.holder() is None
    assert parts.server.asked[-1] == search(15_000)


def test_a_search_does_not_begin_before_the_first_possible_entry() -> None:
    parts = Parts(value(place=b"@4000"), NOT_THERE, [[]])
    parts.holder()
    assert parts.server.asked[-1] == search(0)


def test_a_search_goes_on_after_a_page_of_a_hundred() -> None:
    page = [entry(number) for number in range(9000, 9100)]
    parts = Parts(value(), NOT_THERE, [page], [page[:99]])
    assert parts.holder() is None
    assert parts.server.asked[-2:] == [search(4000), search(b"(9099-0")]


def test_a_known_place_is_asked_for_directly() -> None:
    parts = Parts(value(place=b"9500-0"), NOT_THERE, [[entry(9500, b"9000-x")]])
    assert parts.holder() == b"9000-x"
    assert parts.server.asked[-1] == ("XRANGE", KEY, b"9500-0", b"9500-0")


def test_a_message_that_left_its_place_holds_no_key() -> None:
    assert Parts(value(place=b"9500-0"), NOT_THERE, [[]]).holder() is None


def test_a_message_whose_entry_a_dead_letter_points_at_holds_no_key() -> None:
    left = [None, [b"1-0|3", b"9500-0|3"]]
    assert Parts(value(place=b"9500-0"), left, [[entry(9500)]]).holder() is None


# Moving delayed messages


def moved(parts: Parts, *messages: dict[bytes, bytes]) -> Any:
    commands: list[Any] = []
    parts.server.run(lambda ask: commands.extend(parts.keys.moved(ask, messages)))
    return commands


def fields(unique: bytes, message_id: bytes) -> dict[bytes, bytes]:
    return {b"message.unique": unique, b"message.id": message_id}


def test_the_time_of_the_move_is_noted_for_keys_that_are_still_held() -> None:
    parts = Parts([b"OK", b"OK", b"9000-x|17|", b"another|0|"])
    messages = fields(b"a", b"9000-x"), fields(b"b", b"9001-x"), {b"body": b"job"}
    other = b"{jobs}:unique:b"
    assert moved(parts, *messages) == [("SET", HELD, b"9000-x|17|@1000000", "KEEPTTL")]
    assert parts.server.asked == [
        ("WATCH", HELD), ("WATCH", other), ("GET", HELD), ("GET", other),
    ]  # fmt: skip


def test_a_key_that_is_gone_is_not_set_again() -> None:
    assert moved(Parts([b"OK", None]), fields(b"a", b"9000-x")) == []


@pytest.mark.parametrize(
    "message", [{}, {b"message.unique": b"a"}, {b"message.id": b"9000-x"}], ids=str
)
def test_without_a_unique_message_nothing_is_asked(message: dict[bytes, bytes]) -> None:
    parts = Parts()
    assert moved(parts, message) == []
    assert parts.server.asked == []


# Freeing


def message(unique: bytes | None = b"a") -> Mock:
    return Mock(id="9000-x", fields={} if unique is None else {b"message.unique": unique})


def test_a_settled_message_frees_its_key() -> None:
    parts = Parts(value(NOW), [1])
    parts.keys.free([message()])
    assert parts.server.asked == [("GET", HELD), ("MULTI",), ("DEL", HELD), ("EXEC",)]
    assert parts.server.watched == [
        {"keys": HELD, "name": "free", "commands": [("DEL", HELD)], "settlement": None,
         "is_poll": True},
    ]  # fmt: skip


def test_a_key_stays_until_the_end_of_its_window() -> None:
    parts = Parts(value(NOW + 1), [1])
    parts.keys.free([message()])
    assert parts.server.asked[2] == ("PEXPIREAT", HELD, NOW + 1)


def test_a_dead_letter_frees_its_key_within_the_window() -> None:
    parts = Parts(value(NOW + 1), [1])
    parts.keys.free([message()], are_dead=True)
    assert parts.server.asked[2] == ("DEL", HELD)


@pytest.mark.parametrize("held", [None, b"another|0|"], ids=repr)
def test_a_key_of_another_message_is_left_alone(held: bytes | None) -> None:
    parts = Parts([held], [])
    parts.keys.free([message()])
    assert parts.server.asked == [("GET", HELD), ("UNWATCH",)]


def test_a_message_without_a_key_asks_nothing_and_the_next_one_frees_its_own() -> None:
    parts = Parts(value(), [1])
    parts.keys.free([message(None), message()])
    assert parts.server.asked[0] == ("GET", HELD)


def test_a_server_that_fails_leaves_the_key_and_frees_the_next_one() -> None:
    parts = Parts(redis.ConnectionError("gone"), value(), [1])
    parts.keys.free([message(b"b"), message()])
    assert ("DEL", HELD) in parts.server.asked


# Removal


def test_all_keys_are_found_however_many_replies_they_take() -> None:
    parts = Parts([[b"17", [b"b", b"a"]]], [[b"0", [b"b", b"c"]]])
    assert parts.keys.keys() == [b"a", b"b", b"c"]
    pattern = ("MATCH", b"{jobs}:unique:*", "COUNT", 1000)
    assert parts.server.asked == [("SCAN", 0, *pattern), ("SCAN", b"17", *pattern)]


def test_a_queues_name_is_no_pattern() -> None:
    server = ScriptedServer([[b"0", []]])
    commands: Any = server
    UniqueKeys(spec_of(name="a*?[b]^\\"), commands, Mock()).keys()
    assert server.asked[0][3] == rb"{a\*\?\[b\]\^\\}:unique:*"
