"""What the debug toolbar shows of a command: keys and values cut short, and no secret."""

from __future__ import annotations

from typing import Any

import pytest

from pyramid_baseplate_redis.debugtoolbar.command_text import shown_argument, shown_command


@pytest.mark.parametrize(
    ("args", "shown"),
    [
        (("GET", "user:1"), "GET user:1"),
        (("get", b"user:1"), "GET user:1"),
        ((b"GET", "user:1"), "GET user:1"),
        (("SET", "a", 1, "EX", 2.5), "SET a 1 EX 2.5"),
        (("SET", "greeting", "hello world"), 'SET greeting "hello world"'),
        (("SET user:1", "x"), "SET user:1 x"),
        (("CLIENT LIST",), "CLIENT LIST"),
        (("XINFO STREAM", "s"), "XINFO STREAM s"),
        (("PING",), "PING"),
    ],
)
def test_command_is_shown_as_one_would_type_it(args: tuple[Any, ...], shown: str) -> None:
    assert shown_command(args) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("", '""'),
        ("üöß", "üöß"),
        ("üöß".encode(), "üöß"),
        (bytearray(b"ab"), "ab"),
        (memoryview(b"ab"), "ab"),
        (memoryview(b""), '""'),
        ('say "hi"', '"say \\"hi\\""'),
        ("it's", '"it\'s"'),
        ("a\\b", '"a\\\\b"'),
        ("a\nb\t\r", '"a\\nb\\t\\r"'),
        (b"\x00\xff ", '"\\x00\\xff "'),
        ("\x1b[31m", '"\\x1b[31m"'),
        ("\u202egnp", '"\\u202egnp"'),
        ("\ud800", '"\\ud800"'),
        (12.5, "12.5"),
    ],
)
def test_argument_is_text_in_quotes_where_it_would_not_be_seen_what_it_is(
    value: object, shown: str
) -> None:
    assert shown_argument(value) == shown


def test_argument_that_cannot_be_sent_is_shown_as_its_type() -> None:
    assert shown_command(("SET", "a", {"password": "hunter2"})) == "SET a <dict>"


@pytest.mark.parametrize("value", ["x" * 61, b"x" * 61, "x" * 10_000_000, b"x" * 10_000_000])
def test_long_argument_is_cut_off_at_60_characters(value: Any) -> None:
    assert shown_argument(value) == "x" * 59 + "…"


@pytest.mark.parametrize("value", ["x" * 60, b"x" * 60])
def test_argument_of_60_characters_is_whole(value: Any) -> None:
    assert shown_argument(value) == "x" * 60


def test_character_that_is_cut_in_two_is_no_reason_to_escape_the_others() -> None:
    assert shown_argument(("€" * 1000).encode()) == "€" * 59 + "…"


def test_thirteenth_argument_and_those_after_it_are_counted() -> None:
    shown = shown_command(("MGET", *range(30)))

    assert shown == "MGET 0 1 2 3 4 5 6 7 8 9 10 11 … 18 more"


def test_long_name_is_cut_off() -> None:
    assert len(shown_command(("X" * 1000,))) == 60


@pytest.mark.parametrize(
    ("args", "shown"),
    [
        (("AUTH", "hunter2"), "AUTH ***"),
        (("auth", "user", b"hunter2"), "AUTH ***"),
        ((b"AUTH", "hunter2"), "AUTH ***"),
        (("AUTH hunter2",), "AUTH ***"),
        ((" AUTH  hunter2 ",), "AUTH ***"),
        (("HELLO", 3, "AUTH", "user", "hunter2"), "HELLO ***"),
        (("ACL SETUSER", "user", ">hunter2"), "ACL SETUSER ***"),
        (("ACL", "SETUSER", "user", ">hunter2"), "ACL ***"),
        (("CONFIG SET", "requirepass", "hunter2"), "CONFIG SET ***"),
        (("CONFIG", "SET", "requirepass", "hunter2"), "CONFIG ***"),
        (("MIGRATE", "host", 6379, "key", 0, 9, "AUTH", "hunter2"), "MIGRATE ***"),
        (("MODULE LOADEX", "m.so", "CONFIG", "password", "hunter2"), "MODULE LOADEX ***"),
        (("SENTINEL SET", "mymaster", "auth-pass", "hunter2"), "SENTINEL SET ***"),
        (("COMMAND GETKEYS", "AUTH", "hunter2"), "COMMAND GETKEYS ***"),
    ],
)
def test_arguments_among_which_a_password_may_be_are_never_shown(
    args: tuple[Any, ...], shown: str
) -> None:
    assert shown_command(args) == shown
