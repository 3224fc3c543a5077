"""Strings, bits and HyperLogLogs."""

from __future__ import annotations

from typing import Any

from ..entries import Group, call

A, B, MISSING, LIST = "{k}a", "{k}b", "{k}missing", "{k}list"
FAR = 4_102_444_800  # 2100-01-01


def _keys(plain: Any) -> None:
    plain.mset({A: "10", B: "hello w\u00f6rld", "{k}raw": b"\xff\x00", "{k}float": "1.5"})
    plain.rpush(LIST, "x")
    plain.pfadd("{k}p", "a", "b", "c")
    plain.pfadd("{k}q", "c", "d")


STRINGS = Group(
    "strings",
    _keys,
    [
        call.get(A),
        call.get(MISSING),
        call.get("{k}raw"),
        call.get(LIST),
        call.set(A, "v"),
        call.set(A, "v", nx=True),
        call.set(MISSING, "v", xx=True),
        call.set(A, "v", get=True),
        call.set(MISSING, "v", get=True),
        call.set(A, "OK", get=True),
        call.set(A, "v", ex=100),
        call.set(A, "v", px=100_000),
        call.set(A, "v", exat=FAR),
        call.set(A, "v", keepttl=True),
        call.set(LIST, "v", get=True),
        call.set(A, "x", ifeq="10"),
        call.set(A, "x", ifeq="9"),
        call.set(A, 1.5),
        call.set(A, None),
        call.set(A, "v", ex="x"),
        call.setex(A, 100, "v"),
        call.psetex(A, 100_000, "v"),
        call.setnx(A, "v"),
        call.setnx(MISSING, "v"),
        call.setex(A, 0, "v"),
        call.getset(A, "v"),
        call.getset(MISSING, "v"),
        call.getdel(A),
        call.getdel(MISSING),
        call.getex(A),
        call.getex(A, ex=100),
        call.getex(A, persist=True),
        call.mget(A, MISSING, LIST),
        call.mget([A, B]),
        call.mset({A: 1, B: 2}),
        call.msetnx({A: 1}),
        call.msetnx({MISSING: 1}),
        call.msetex({A: 1, B: 2}, ex=100),
        call.append(A, "5"),
        call.strlen(A),
        call.getrange(B, 0, 3),
        call.substr(B, 0, 3),
        call.setrange(A, 1, "x"),
        call.incr(A),
        call.incr(B),
        call.incrby(A, 5),
        call.incrbyfloat(A, 0.5),
        call.incrbyfloat("{k}float", 2.25),
        call.incrbyfloat(B),
        call.decr(A),
        call.decrby(A, 3),
        call.increx(A, byint=2),
        call.delex(A, ifeq="10"),
        call.digest(A),
        call.lcs(A, B),
        call.lcs(A, A),
        call.lcs(A, A, len=True),
        call.lcs(A, A, idx=True),
        call.lcs(A, A, idx=True, withmatchlen=True),
        call.stralgo("LCS", A, B, specific_argument="keys"),
        call.stralgo("LCS", A, A, specific_argument="keys", idx=True),
        call.bitcount(A),
        call.bitcount(A, 0, 1),
        call.bitop("AND", "{k}d", A, B),
        call.bitpos(A, 1),
        call.getbit(A, 1),
        call.setbit(A, 1, 1),
        call.bitfield_ro(A, "u8", 0),
        call.bitfield_ro(A, "u8", 0, items=[("u4", 1)]),
        call.pfadd("{k}p", "z"),
        call.pfadd("{k}p", "a"),
        call.pfcount("{k}p"),
        call.pfcount("{k}p", "{k}q"),
        call.pfmerge("{k}p", "{k}q"),
        call.pfmerge("{k}p", LIST),
    ],
)
