"""Streams."""

from __future__ import annotations

from typing import Any

from ..entries import Group, call
from ..outcomes import kinds

X, Y, EMPTY, STRING, G = "{k}x", "{k}y", "{k}none", "{k}string", "group"


def _keys(plain: Any) -> None:
    for number in (1, 2, 3):
        plain.xadd(X, {"n": number, "text": "t"}, id=f"{number}-0")
    plain.xadd(Y, {"n": 9}, id="9-0")
    plain.xgroup_create(X, G, id=0)
    plain.xgroup_create(X, "idle", id=0)
    plain.xreadgroup(G, "anna", {X: ">"}, count=2)
    plain.set(STRING, "x")


def _delete_pending(plain: Any) -> None:
    plain.xdel(X, "1-0")


STREAMS = Group(
    "streams",
    _keys,
    [
        call.xadd(X, {"a": 1}, id="7-0"),
        call.xadd(X, {"a": 1}, id="1-0"),
        call.xadd(X, {"a": 1}).by(kinds),
        call.xadd(EMPTY, {"a": 1}, nomkstream=True),
        call.xadd(X, {"a": 1}, id="7-0", maxlen=2, approximate=False),
        call.xadd(STRING, {"a": 1}),
        call.xadd(X, {}),
        call.xlen(X),
        call.xdel(X, "1-0", "8-0"),
        call.xtrim(X, maxlen=1, approximate=False),
        call.xrange(X),
        call.xrange(X, "2", "3", count=1),
        call.xrange(EMPTY),
        call.xrange(STRING),
        call.xrevrange(X),
        call.xrevrange(X, count=1),
        call.xrevrange(EMPTY),
        call.xread({X: 0}),
        call.xread({X: 0, Y: 0}),
        call.xread({X: 0}, count=1),
        call.xread({X: "$"}),
        call.xread({EMPTY: 0}),
        call.xread({X: "$"}, block=5),
        call.xread({X: 0}, block=5),
        call.xread({STRING: 0}),
        call.xread({X: 0}, max_count=1),
        call.xreadgroup(G, "bert", {X: ">"}),
        call.xreadgroup(G, "anna", {X: 0}),
        call.xreadgroup("idle", "bert", {X: ">"}),
        call.xreadgroup("idle", "b", {X: ">"}, count=1, noack=True),
        call.xreadgroup("idle", "b", {X: ">"}, block=5),
        call.xreadgroup("none", "bert", {X: ">"}),
        call.xreadgroup(G, "anna", {X: 0}).after(_delete_pending),
        call.xreadgroup(G, "anna", {X: ">"}, claim_min_idle_time=0),
        call.xack(X, G, "1-0", "9-0"),
        call.xackdel(X, G, "1-0"),
        call.xdelex(X, "1-0"),
        call.xnack(X, G, "FAIL", "1-0"),
        call.xcfgset(X, idmp_duration=10),
        call.xgroup_create(X, "new"),
        call.xgroup_create(EMPTY, "new", mkstream=True),
        call.xgroup_create(X, G),
        call.xgroup_create(EMPTY, "new"),
        call.xgroup_destroy(X, G),
        call.xgroup_destroy(X, "none"),
        call.xgroup_setid(X, G, 0),
        call.xgroup_setid(X, "none", 0),
        call.xgroup_createconsumer(X, G, "c"),
        call.xgroup_delconsumer(X, G, "anna"),
        call.xinfo_stream(X),
        call.xinfo_stream(X, full=True).by(kinds),
        call.xinfo_stream(EMPTY),
        call.xinfo_groups(X),
        call.xinfo_groups(Y),
        call.xinfo_groups(EMPTY),
        call.xinfo_consumers(X, G).by(kinds),
        call.xinfo_consumers(X, "idle"),
        call.xinfo_consumers(X, "none"),
        call.xpending(X, G),
        call.xpending(X, "idle"),
        call.xpending(X, "none"),
        call.xpending_range(X, G, "-", "+", 10).by(kinds),
        call.xpending_range(X, "idle", "-", "+", 10),
        call.xpending_range(X, G, "-", "+", 10, consumername="anna", idle=0).by(kinds),
        call.xclaim(X, G, "bert", 0, ["1-0"]),
        call.xclaim(X, G, "bert", 0, ["1-0"], justid=True),
        call.xclaim(X, G, "bert", 0, ["8-0"]),
        call.xclaim(X, G, "bert", 0, ["1-0"]).after(_delete_pending),
        call.xautoclaim(X, G, "bert", 0),
        call.xautoclaim(X, G, "bert", 0, count=1),
        call.xautoclaim(X, G, "bert", 0, justid=True),
        call.xautoclaim(X, "idle", "bert", 0),
        call.xautoclaim(X, "none", "bert", 0),
        call.xautoclaim(X, G, "bert", 0).after(_delete_pending),
    ],
)
