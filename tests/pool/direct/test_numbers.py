"""Which arguments are packed in one step, and which commands are sent directly."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest

from pyramid_baseplate_redis.pool.direct.packing import (
    DIRECT_COMMANDS,
    joined,
    packed_command,
    without_numbers,
)


@pytest.mark.parametrize("args", [("GET", b"key"), ["GET", "key"], ("SET", "key", 7), ("SET", 1.5)])
def test_texts_bytes_and_numbers_are_packed(args: Any) -> None:
    texts = tuple(repr(arg) if isinstance(arg, (int, float)) else arg for arg in args)
    assert packed_command(args) == hiredis.pack_command(texts)


@pytest.mark.parametrize("arg", [memoryview(b"a"), bytearray(b"a"), True, None])
def test_other_arguments_are_left_to_redis_py(arg: Any) -> None:
    assert packed_command(("SET", 7, arg)) is None


def test_numbers_become_texts_and_nothing_else_is_changed() -> None:
    assert without_numbers(["SET", b"a", 7, 1.5, True]) == ("SET", b"a", "7", "1.5", True)


@pytest.mark.parametrize("name", ["GET", "SET", "HSET", "XADD", "EVALSHA"])
def test_ordinary_commands_are_sent_directly(name: str) -> None:
    assert name in DIRECT_COMMANDS


@pytest.mark.parametrize(
    "name", ["MULTI", "SUBSCRIBE", "BLPOP", "XREAD", "WAIT", "AUTH", "CONFIG GET"]
)
def test_commands_that_block_or_change_the_connection_are_not(name: str) -> None:
    assert name not in DIRECT_COMMANDS


def test_commands_of_exactly_the_limit_are_one_piece() -> None:
    assert joined([b"aaaa", b"bbbbbb"], 10) == [b"aaaabbbbbb"]
    assert joined([b"a" * 10, b"b"], 10) == [b"a" * 10 + b"b"]
