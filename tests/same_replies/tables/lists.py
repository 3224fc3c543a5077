"""Lists."""

from __future__ import annotations

from typing import Any

from ..entries import Group, call

L, M, EMPTY, STRING = "{k}l", "{k}m", "{k}none", "{k}string"
SOON = 0.002


def _keys(plain: Any) -> None:
    plain.rpush(L, "a", "b", "c", "b")
    plain.rpush(M, "1")
    plain.set(STRING, "x")


LISTS = Group(
    "lists",
    _keys,
    [
        call.lpush(L, "x", "y"),
        call.rpush(L, "x"),
        call.lpushx(EMPTY, "x"),
        call.rpushx(L, "x"),
        call.lpush(STRING, "x"),
        call.lpop(L),
        call.lpop(L, 2),
        call.lpop(EMPTY),
        call.lpop(EMPTY, 2),
        call.rpop(L),
        call.rpop(L, 2),
        call.rpop(EMPTY),
        call.lrange(L, 0, -1),
        call.lrange(EMPTY, 0, -1),
        call.lrange(STRING, 0, -1),
        call.llen(L),
        call.lindex(L, 1),
        call.lindex(L, 9),
        call.linsert(L, "before", "b", "x"),
        call.lrem(L, 0, "b"),
        call.lset(L, 0, "x"),
        call.lset(L, 9, "x"),
        call.lset(EMPTY, 0, "x"),
        call.ltrim(L, 0, 1),
        call.ltrim(STRING, 0, 1),
        call.lpos(L, "b"),
        call.lpos(L, "b", count=2),
        call.lpos(L, "z"),
        call.lpos(L, "b", rank=-1),
        call.rpoplpush(L, M),
        call.lmove(L, M),
        call.lmove(EMPTY, M),
        call.lmpop(2, EMPTY, L, direction="LEFT"),
        call.lmpop(2, EMPTY, L, direction="RIGHT", count=2),
        call.lmpop(1, EMPTY, direction="LEFT"),
        call.lmovem(L, M, count=2),
        call.blpop([EMPTY, L], timeout=SOON),
        call.blpop(L),
        call.blpop(EMPTY, timeout=SOON),
        call.blpop(STRING, timeout=SOON),
        call.brpop([EMPTY, L], timeout=SOON),
        call.brpop(EMPTY, timeout=SOON),
        call.brpoplpush(L, M, timeout=SOON),
        call.brpoplpush(EMPTY, M, timeout=SOON),
        call.blmove(L, M, SOON),
        call.blmove(EMPTY, M, SOON),
        call.blmpop(SOON, 2, EMPTY, L, direction="LEFT", count=2),
        call.blmpop(SOON, 1, EMPTY, direction="LEFT"),
        call.blmovem(L, M, SOON, count=2),
    ],
)
