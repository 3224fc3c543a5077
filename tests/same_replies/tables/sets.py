"""Sets."""

from __future__ import annotations

from typing import Any

from ..entries import Group, call
from ..outcomes import in_order, kinds

S, T, EMPTY, STRING = "{k}s", "{k}t", "{k}none", "{k}string"


def _keys(plain: Any) -> None:
    plain.sadd(S, "a", "b", "c")
    plain.sadd(T, "b", "c", "d")
    plain.sadd("{k}one", "a")
    plain.set(STRING, "x")


def _scanned(result: Any) -> Any:
    cursor, members = result
    return type(result), cursor, in_order(members)


SETS = Group(
    "sets",
    _keys,
    [
        call.sadd(S, "x", "a"),
        call.srem(S, "a", "z"),
        call.scard(S),
        call.scard(EMPTY),
        call.sismember(S, "a"),
        call.sismember(S, "z"),
        call.smismember(S, "a", "z"),
        call.smismember(S, ["a"]),
        call.smembers(S),
        call.smembers(EMPTY),
        call.smembers(STRING),
        call.sdiff(S, T),
        call.sdiff(EMPTY, T),
        call.sdiff([S, T]),
        call.sdiff(S, STRING),
        call.sdiffstore("{k}d", S, T),
        call.sinter(S, T),
        call.sinter(S, EMPTY),
        call.sinterstore("{k}d", S, T),
        call.sintercard(2, [S, T]),
        call.sintercard(2, [S, T], limit=1),
        call.sunion(S, T),
        call.sunion(EMPTY),
        call.sunionstore("{k}d", S, T),
        call.sdiffcard(2, [S, T]),
        call.sunioncard(2, [S, T]),
        call.smove(S, T, "a"),
        call.smove(S, T, "z"),
        call.smove(S, STRING, "a"),
        call.spop("{k}one"),
        call.spop(EMPTY),
        call.spop("{k}one", 2),
        call.spop(EMPTY, 2),
        call.srandmember(S).by(kinds),
        call.srandmember("{k}one"),
        call.srandmember("{k}one", 2),
        call.srandmember("{k}one", -2),
        call.srandmember(EMPTY),
        call.srandmember(EMPTY, 2),
        call.sscan(S).by(_scanned),
        call.sscan(S, match="a"),
        call.sscan(EMPTY),
        call.sscan(S, count=1).by(_scanned),
    ],
)

SET_ITERATORS = Group(
    "set iterators",
    _keys,
    [
        call.sscan_iter(S).by(sorted),
        call.sscan_iter(S, match="a"),
        call.sscan_iter(EMPTY),
    ],
    in_pipelines=False,
)
