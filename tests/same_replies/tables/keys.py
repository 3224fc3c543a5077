"""Commands on keys of any type, and on the database."""

from __future__ import annotations

from typing import Any

from ..entries import Entry, Group, call
from ..outcomes import in_order, kinds

STRING, OTHER, LIST, WORDS, MISSING = "{k}a", "{k}b", "{k}list", "{k}words", "{k}missing"
FAR = 4_102_444_800  # 2100-01-01


def _keys(plain: Any) -> None:
    plain.mset({STRING: "1", OTHER: "2", "{k}w1": "x", "{k}w2": "y", "{k}w3": "z"})
    plain.rpush(LIST, 3, 1, 2)
    plain.rpush(WORDS, "b", "a")
    plain.expireat("{k}b", FAR)


def _scanned(result: Any) -> Any:
    cursor, keys = result
    return type(result), cursor, in_order(keys)


_dumped = Entry(
    "restore('{k}new', 0, dump)",
    lambda client: client.restore("{k}new", 0, b"\x00\xc0\x01\x0b\x00\x00"),
)

KEYS = Group(
    "keys",
    _keys,
    [
        call.delete(STRING),
        call.delete(STRING, OTHER),
        call.delete(MISSING),
        call.unlink(STRING, MISSING),
        call.exists(STRING),
        call.exists(STRING, MISSING),
        call.touch(STRING),
        call.type(LIST),
        call.type(MISSING),
        call.expire(STRING, 100),
        call.expire(MISSING, 100),
        call.expire(STRING, 100, xx=True),
        call.expireat(STRING, FAR),
        call.expireat(MISSING, FAR),
        call.pexpire(STRING, 100_000),
        call.pexpire(MISSING, 100_000),
        call.pexpireat(STRING, FAR * 1000),
        call.pexpireat(MISSING, FAR * 1000),
        call.persist(OTHER),
        call.persist(STRING),
        call.ttl(STRING),
        call.ttl(OTHER).by(kinds),
        call.ttl(MISSING),
        call.pttl(OTHER).by(kinds),
        call.expiretime(OTHER),
        call.pexpiretime(OTHER),
        call.expiretime(STRING),
        call.rename(STRING, "{k}new"),
        call.rename(MISSING, "{k}new"),
        call.renamenx(STRING, OTHER),
        call.renamenx(STRING, "{k}new"),
        call.copy(STRING, "{k}new"),
        call.copy(STRING, OTHER),
        call.copy(STRING, OTHER, replace=True),
        call.move(STRING, 1),
        call.move(MISSING, 1),
        call.dump(STRING),
        call.dump(MISSING),
        _dumped,
        call.object("encoding", LIST),
        call.object("refcount", OTHER),
        call.object("idletime", OTHER),
        call.object("encoding", MISSING),
        call.object("freq", STRING),
        call.sort(LIST),
        call.sort(LIST, desc=True),
        call.sort(WORDS),
        call.sort(WORDS, alpha=True),
        call.sort(LIST, start=0, num=2),
        call.sort(LIST, by="{k}w*"),
        call.sort(LIST, get="{k}w*"),
        call.sort(LIST, get=["#", "{k}w*"]),
        call.sort(LIST, get=["#", "{k}w*"], groups=True),
        call.sort(LIST, get=("#", "{k}w*"), groups=True),
        call.sort(LIST, store="{k}sorted"),
        call.sort(MISSING),
        call.sort_ro(LIST),
        call.sort_ro(LIST, desc=True),
        call.keys("{k}*").by(in_order),
        call.keys("{k}none"),
        call.dbsize(),
        call.randomkey().by(kinds),
        call.scan().by(_scanned),
        call.scan(0, match="{k}a*"),
        call.scan(0, match="{k}no", count=1000),
        call.scan(count=1000, _type="list").by(_scanned),
        call.memory_usage(STRING).by(kinds),
        call.memory_usage(MISSING),
        call.wait(0, 10),
        call.waitaof(0, 0, 10),
        call.flushall(),
        call.flushdb(),
        call.flushdb(asynchronous=True),
        call.swapdb(0, 1),
        call.watch(STRING),
        call.unwatch(),
        call.get("{k}\u00fc"),
        call.execute_command("GET", STRING),
        call.execute_command("get", STRING),
        call.execute_command("GET"),
        call.execute_command("NOSUCHCOMMAND", "x"),
        call.execute_command("SMEMBERS", STRING),
        call.execute_command("OBJECT ENCODING", STRING),
        call.execute_command("OBJECT", "HELP"),
    ],
)

ITERATORS = Group(
    "iterators",
    _keys,
    [
        call.scan_iter("{k}*").by(sorted),
        call.scan_iter("{k}no"),
        call.scan_iter(_type="list").by(sorted),
    ],
    in_pipelines=False,
)
