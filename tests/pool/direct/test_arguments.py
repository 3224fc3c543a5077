"""Arguments of every type: the direct way sends and raises what redis-py's way does."""

from __future__ import annotations

import decimal
from typing import Any

import pytest
import redis

from .scripted_server import ScriptedServer


class _Text(str):
    pass


class _Bytes(bytes):
    pass


class _Number(int):
    pass


SENT = {
    "text": "text",
    "empty": "",
    "other letters": "äöü €",
    "bytes": b"\x00\r\n\xff",
    "bytearray": bytearray(b"array"),
    "memoryview": memoryview(b"view"),
    "int": 42,
    "negative": -1,
    "huge int": 10**30,
    "float": 1.5,
    "tiny float": 1e-300,
    "infinite": float("inf"),
    "a text's subclass": _Text("sub"),
    "a bytes' subclass": _Bytes(b"sub"),
    "100 kB": b"x" * 100_000,
    "5 MB": "y" * 5_000_000,
}
REFUSED = {
    "bool": True,
    "an int's subclass": _Number(7),
    "None": None,
    "list": [1],
    "dict": {},
    "decimal": decimal.Decimal("1.5"),
    "object": object(),
    "surrogate": "\ud800",
}


@pytest.mark.parametrize("argument", SENT.values(), ids=SENT)
def test_an_argument_is_sent_as_the_same_bytes(
    compared: Any, server: ScriptedServer, argument: Any
) -> None:
    compared(
        [b"+OK\r\n"],
        lambda client: client.execute_command("GET", "key", argument),
        socket_timeout=5,
    )

    directly, otherwise = server.commands
    assert directly == otherwise


@pytest.mark.parametrize("argument", REFUSED.values(), ids=REFUSED)
def test_an_argument_is_refused_with_the_same_error(
    compared: Any, server: ScriptedServer, argument: Any
) -> None:
    found = compared(
        [b"+OK\r\n"], lambda client: client.execute_command("GET", "key", argument), direct=False
    )

    assert issubclass(found["raised"][0][0], (redis.DataError, UnicodeEncodeError))
    assert not server.commands


COMMANDS = {
    "lower case": ("get", "key"),
    "bytes": (b"GET", "key"),
    "two words": ("OBJECT ENCODING", "key"),
    "unknown": ("NO.SUCH", "key"),
    "blocking": ("BLPOP", "key", 1),
    "stateful": ("UNWATCH",),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_other_commands_go_redis_py_s_way(
    compared: Any, server: ScriptedServer, command: tuple[Any, ...]
) -> None:
    compared([b"*0\r\n"], lambda client: client.execute_command(*command), direct=False)

    directly, otherwise = server.commands
    assert directly == otherwise


@pytest.mark.parametrize("options", [{"NEVER_DECODE": True}, {"EMPTY_RESPONSE": []}], ids=str)
@pytest.mark.parametrize("reply", [b"$1\r\nx\r\n", b"-ERR no\r\n"])
def test_redis_py_s_own_options_go_its_way(
    compared: Any, options: dict[str, Any], reply: bytes
) -> None:
    compared(
        [reply],
        lambda client: client.execute_command("GET", "key", **options),
        direct=False,
        decode_responses=True,
    )
