"""Hashes."""

from __future__ import annotations

from typing import Any

from ..entries import Group, call
from ..outcomes import in_order, kinds

H, EMPTY, STRING = "{k}h", "{k}none", "{k}string"
FAR = 4_102_444_800  # 2100-01-01


def _keys(plain: Any) -> None:
    plain.hset(H, mapping={"a": "1", "b": "two", "c": "1.5"})
    plain.hset("{k}one", "a", "1")
    plain.set(STRING, "x")


HASHES = Group(
    "hashes",
    _keys,
    [
        call.hget(H, "a"),
        call.hget(H, "z"),
        call.hget(EMPTY, "a"),
        call.hget(STRING, "a"),
        call.hgetall(H),
        call.hgetall(EMPTY),
        call.hgetall(STRING),
        call.hset(H, "d", 4),
        call.hset(H, "a", 4),
        call.hset(H, mapping={"x": 1, "y": 2}),
        call.hset(H, items=["x", 1]),
        call.hset(H),
        call.hsetnx(H, "a", 1),
        call.hsetnx(H, "z", 1),
        call.hmset(H, {"x": 1}),
        call.hmset(H, {}),
        call.hmget(H, ["a", "z"]),
        call.hmget(H, "a", "b"),
        call.hdel(H, "a", "z"),
        call.hexists(H, "a"),
        call.hexists(H, "z"),
        call.hexists(EMPTY, "a"),
        call.hincrby(H, "a", 2),
        call.hincrby(H, "b"),
        call.hincrbyfloat(H, "c", 0.25),
        call.hincrbyfloat(H, "a"),
        call.hincrbyfloat(H, "b"),
        call.hkeys(H),
        call.hvals(H),
        call.hlen(H),
        call.hstrlen(H, "b"),
        call.hkeys(EMPTY),
        call.hrandfield(H).by(kinds),
        call.hrandfield("{k}one"),
        call.hrandfield(EMPTY),
        call.hrandfield("{k}one", 2),
        call.hrandfield("{k}one", 2, withvalues=True),
        call.hrandfield("{k}one", -2, withvalues=True),
        call.hrandfield(EMPTY, 2, withvalues=True),
        call.hrandfield(H, 3).by(in_order),
        call.hrandfield(H, 2, True).by(kinds),
        call.hscan(H),
        call.hscan(H, match="a*"),
        call.hscan(H, count=1),
        call.hscan(EMPTY),
        call.hscan(H, no_values=True),
        call.hexpire(H, 100, "a", "z"),
        call.hexpireat(H, FAR, "a"),
        call.hpexpire(H, 100_000, "a"),
        call.hpexpireat(H, FAR * 1000, "a"),
        call.hpersist(H, "a"),
        call.httl(H, "a", "z"),
        call.hpttl(H, "a"),
        call.hexpiretime(H, "a"),
        call.hpexpiretime(H, "a"),
        call.httl(EMPTY, "a"),
        call.hgetdel(H, "a", "z"),
        call.hgetex(H, "a", ex=100),
        call.hsetex(H, "a", 2, ex=100),
        call.himport_set("{k}new", "fields", ["1", "2"]),
    ],
)

HASH_ITERATORS = Group(
    "hash iterators",
    _keys,
    [
        call.hscan_iter(H),
        call.hscan_iter(H, match="b"),
        call.hscan_iter(H, no_values=True),
        call.hscan_iter(EMPTY),
        call.hscan_iter(STRING),
    ],
    in_pipelines=False,
)
