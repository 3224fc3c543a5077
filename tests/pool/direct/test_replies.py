"""Replies, whole or in pieces: the direct way returns and raises what redis-py's way does."""

from __future__ import annotations

from typing import Any

import pytest

from .scripted_server import CLOSE, RESET, Step


def bulk(data: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(data), data)


RESP2 = {
    "nil": b"$-1\r\n",
    "no list": b"*-1\r\n",
    "number": b":-42\r\n",
    "status": b"+OK\r\n",
    "empty": bulk(b""),
    "one byte": bulk(b"x"),
    "binary": bulk(b"\x00\r\n\xff\xfe"),
    "100 kB": bulk(b"y" * 100_000),
    "5 MB": bulk(b"z" * 5_000_000),
    "empty list": b"*0\r\n",
    "nested": b"*3\r\n:1\r\n*2\r\n$-1\r\n+a\r\n*1\r\n*0\r\n",
    "error": b"-ERR something is wrong\r\n",
    "no code": b"-wrong\r\n",
    "empty error": b"-\r\n",
    "wrong type": b"-WRONGTYPE Operation against a key\r\n",
    "read only": b"-READONLY You can't write against a read only replica.\r\n",
    "no script": b"-NOSCRIPT No matching script.\r\n",
    "moved": b"-MOVED 1 127.0.0.1:1\r\n",
    "connection error": b"-ERR max number of clients reached\r\n",
    "loading": b"-LOADING Redis is loading the dataset in memory\r\n",
    "no auth": b"-NOAUTH Authentication required.\r\n",
    "error in a list": b"*2\r\n-ERR one\r\n:2\r\n",
    "connection error in a list": b"*2\r\n-LOADING x\r\n:2\r\n",
    "connection error second": b"*2\r\n:2\r\n-LOADING x\r\n",
    "not the protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "unsolicited after it": b"+OK\r\n+TOO MUCH\r\n",
}
RESP3 = {
    "null": b"_\r\n",
    "true": b"#t\r\n",
    "double": b",1.5\r\n",
    "infinite": b",inf\r\n",
    "nan": b",nan\r\n",
    "big number": b"(3492890328409238509324850943850943825024385\r\n",
    "map": b"%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n_\r\n",
    "set": b"~2\r\n:1\r\n:2\r\n",
    "verbatim": b"=7\r\ntxt:abc\r\n",
    "bulk error": b"!11\r\nERR is long\r\n",
    "bulk connection error": b"!9\r\nLOADING x\r\n",
    "push before": b">2\r\n+message\r\n+hello\r\n$1\r\nx\r\n",
    "two pushes before": b">2\r\n+message\r\n+a\r\n>2\r\n+invalidate\r\n*1\r\n+k\r\n:1\r\n",
    "push after": b"$1\r\nx\r\n>2\r\n+message\r\n+hello\r\n",
    "push and an error": b">2\r\n+message\r\n+hello\r\n-ERR no\r\n",
    "push and a connection error": b">2\r\n+message\r\n+hello\r\n-LOADING no\r\n",
}


@pytest.mark.parametrize("reply", RESP2.values(), ids=RESP2)
@pytest.mark.parametrize("keywords", [
    {"protocol": 2}, {"protocol": 3}, {"decode_responses": True},
    {"decode_responses": True, "encoding": "latin-1"},
    {"decode_responses": True, "encoding_errors": "replace"},
], ids=str)  # fmt: skip
def test_a_reply(compared: Any, reply: bytes, keywords: dict[str, Any]) -> None:
    compared([reply], socket_timeout=5, **keywords)


@pytest.mark.parametrize("reply", RESP3.values(), ids=RESP3)
@pytest.mark.parametrize("decode_responses", [False, True])
def test_a_reply_of_resp3(compared: Any, reply: bytes, decode_responses: bool) -> None:
    compared([reply], decode_responses=decode_responses)


PIECES: dict[str, list[Step]] = {
    "in two pieces": [b"$5\r\nhe", 0.05, b"llo\r\n"],
    "byte by byte": [step for byte in bulk(b"hello") for step in (bytes([byte]), 0.005)],
    "a push, then the reply": [b">2\r\n+message\r\n+hello\r\n", 0.05, b"$1\r\nx\r\n"],
    "never": [],
    "too slow": [step for byte in bulk(b"hello" * 20) for step in (bytes([byte]), 0.07)],
    "too slow behind a push": [b">1\r\n+a\r\n", *[step for byte in bulk(b"hello" * 20)
                                                  for step in (bytes([byte]), 0.07)]],
    "closed": [CLOSE],
    "reset": [RESET],
    "closed within": [b"$5\r\nhe", CLOSE],
    "closed within, later": [b"$5\r\nhe", 0.05, CLOSE],
    "reset within": [b"$5\r\nhe", 0.05, RESET],
    "closed after it": [b"$2\r\nhe\r\n", CLOSE],
    "closed after an error": [b"-ERR no\r\n", CLOSE],
}  # fmt: skip


@pytest.mark.parametrize("script", PIECES.values(), ids=PIECES)
def test_a_reply_in_pieces(compared: Any, script: list[Step]) -> None:
    compared(script)


def test_a_reply_without_a_timeout(compared: Any) -> None:
    compared([b"$5\r\nhe", 0.1, b"llo\r\n"], socket_timeout=None)
