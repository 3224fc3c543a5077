"""Sorted sets."""

from __future__ import annotations

from typing import Any

from ..entries import Group, call
from ..outcomes import kinds

Z, Y, ONE, EMPTY, STRING = "{k}z", "{k}y", "{k}one", "{k}none", "{k}string"
SOON = 0.002


def text(score: Any) -> str:
    """Show what redis-py hands to a ``score_cast_func``."""
    return repr(score)


def _keys(plain: Any) -> None:
    plain.zadd(Z, {"a": 1, "b": 2.5, "c": 1.7732526297292595e18, "d": float("inf")})
    plain.zadd(Y, {"b": 1, "c": 3, "e": -0.5})
    plain.zadd(ONE, {"a": 1})
    plain.zadd("{k}lex", dict.fromkeys("abc", 0))
    plain.set(STRING, "x")


_RANGES = [
    entry
    for options in (
        {},
        {"withscores": True},
        {"withscores": True, "score_cast_func": int},
        {"withscores": True, "score_cast_func": text},
    )
    for entry in (
        call.zrange(Z, 0, -2, **options),
        call.zrange(Z, 1, 2, desc=True, **options),
        call.zrange(EMPTY, 0, -1, **options),
        call.zrange(STRING, 0, -1, **options),
        call.zrange(Z, 0, 10, byscore=True, **options),
        call.zrange(Z, 10, 0, desc=True, byscore=True, **options),
        call.zrange(Z, "-inf", "+inf", byscore=True, offset=0, num=2, **options),
        call.zrevrange(Z, 1, -1, **options),
        call.zrevrange(EMPTY, 0, -1, **options),
        call.zrangebyscore(Z, 0, 10, **options),
        call.zrangebyscore(EMPTY, 0, 10, **options),
        call.zrangebyscore(Z, 0, 10, start=0, num=1, **options),
        call.zrevrangebyscore(Z, 10, 0, **options),
        call.zrevrangebyscore(EMPTY, 1, 0, **options),
        call.zunion([Y, ONE], **options),
        call.zunion([EMPTY], **options),
    )
]

SORTED_SETS = Group(
    "sorted sets",
    _keys,
    [
        *_RANGES,
        call.zrange(Z, 0, -1, withscores=True),
        call.zrange("{k}lex", "-", "[b", bylex=True),
        call.zrangebylex("{k}lex", "-", "+"),
        call.zrevrangebylex("{k}lex", "+", "-"),
        call.zrangestore("{k}d", Z, 0, -1),
        call.zadd(Z, {"x": 1}),
        call.zadd(Z, {"a": 1, "b": 9}),
        call.zadd(Z, {"b": 9, "x": 1}, ch=True),
        call.zadd(Z, {"a": 9}, nx=True),
        call.zadd(Z, {"x": 9}, xx=True),
        call.zadd(Z, {"a": 2}, incr=True),
        call.zadd(Z, {"x": 2}, xx=True, incr=True),
        call.zadd(Z, {"a": 9}, gt=True),
        call.zadd(STRING, {"a": 1}),
        call.zadd(Z, {"a": "x"}),
        call.zincrby(Z, 1.5, "a"),
        call.zincrby(Z, 1, "x"),
        call.zincrby(STRING, 1, "x"),
        call.zscore(Z, "b"),
        call.zscore(Z, "d"),
        call.zscore(Z, "z"),
        call.zscore(EMPTY, "a"),
        call.zmscore(Z, ["a", "b", "z"]),
        call.zmscore(EMPTY, ["a"]),
        call.zrank(Z, "a"),
        call.zrank(Z, "b"),
        call.zrank(Z, "z"),
        call.zrevrank(Z, "a"),
        call.zrank(Z, "b", withscore=True),
        call.zrank(Z, "z", withscore=True),
        call.zrevrank(Z, "a", withscore=True),
        call.zrank(Z, "b", withscore=True, score_cast_func=int),
        call.zrank(Z, "b", withscore=True, score_cast_func=text),
        call.zrevrank(Z, "a", withscore=True, score_cast_func=text),
        call.zcard(Z),
        call.zcount(Z, 0, 10),
        call.zlexcount("{k}lex", "-", "+"),
        call.zrem(Z, "a", "z"),
        call.zremrangebylex("{k}lex", "-", "+"),
        call.zremrangebyrank(Z, 0, 1),
        call.zremrangebyscore(Z, 0, 10),
        call.zdiff([Z, Y]),
        call.zdiff([Y, Z], withscores=True),
        call.zdiff([EMPTY, Z], withscores=True),
        call.zdiffstore("{k}d", [Z, Y]),
        call.zinter([Z, Y]),
        call.zinter([Z, Y], withscores=True),
        call.zinter([Z, EMPTY], withscores=True),
        call.zinter([Z, Y], aggregate="MAX", withscores=True),
        call.zinter({Z: 2, Y: 1}, withscores=True),
        call.zinterstore("{k}d", [Z, Y]),
        call.zintercard(2, [Z, Y]),
        call.zintercard(2, [Z, Y], limit=1),
        call.zunion([Z, Y], withscores=True),
        call.zunion([Z, Y], aggregate="MIN", withscores=True),
        call.zunionstore("{k}d", [Z, Y]),
        call.zpopmin(Z),
        call.zpopmin(Z, 2),
        call.zpopmin(EMPTY),
        call.zpopmax(Z),
        call.zpopmax(Z, 2),
        call.zpopmax(EMPTY, 2),
        call.zpopmin(STRING),
        call.bzpopmin([EMPTY, Z], timeout=SOON),
        call.bzpopmin(EMPTY, timeout=SOON),
        call.bzpopmax(Z),
        call.bzpopmax(EMPTY, timeout=SOON),
        call.bzpopmin(STRING, timeout=SOON),
        call.zmpop(2, [EMPTY, Z], min=True),
        call.zmpop(2, [EMPTY, Z], max=True, count=2),
        call.zmpop(1, [EMPTY], min=True),
        call.bzmpop(SOON, 2, [EMPTY, Z], min=True, count=2),
        call.bzmpop(SOON, 1, [EMPTY], max=True),
        call.zrandmember(Z).by(kinds),
        call.zrandmember(ONE),
        call.zrandmember(EMPTY),
        call.zrandmember(ONE, 2),
        call.zrandmember(ONE, 2, withscores=True),
        call.zrandmember(ONE, -2, withscores=True),
        call.zrandmember(EMPTY, 2, withscores=True),
        call.zscan(Z),
        call.zscan(Z, match="a"),
        call.zscan(EMPTY),
        call.zscan(Y, count=1),
        call.zscan(Y, score_cast_func=text),
        call.zscan(Y, score_cast_func=int),
    ],
)

SORTED_SETS_ALONE = Group(
    "sorted sets, not in pipelines",
    _keys,
    [
        call.zscan_iter(Z),
        call.zscan_iter(Z, match="a"),
        call.zscan_iter(Y, score_cast_func=text),
        call.zscan_iter(EMPTY),
        # int(inf) raises. In a pipeline redis-py then leaves the other replies for the next caller.
        call.zrange(Z, 0, -1, withscores=True, score_cast_func=int),
        call.zscan(Z, score_cast_func=int),
    ],
    in_pipelines=False,
)
