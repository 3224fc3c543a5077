"""Lua scripts and functions."""

from __future__ import annotations

from typing import Any

from ..entries import Entry, Group, call
from ..outcomes import kinds

K = "{k}a"
SCRIPT = "return {KEYS[1], ARGV[1], 1, {'nested'}}"
SHA = "24a6f56c7c2ec4a0a0e3e1ad1ec1b2c8f6a0a4d0"
LIBRARY = """#!lua name=library
redis.register_function('echo', function(keys, args) return args[1] end)
redis.register_function{function_name='read', callback=function(keys, args) return keys end,
                        flags={'no-writes'}}
"""


def _keys(plain: Any) -> None:
    plain.set(K, "x")


def _given(plain: Any) -> None:
    plain.script_flush()
    plain.function_load(LIBRARY, replace=True)


_registered = Entry(
    "register_script(SCRIPT)(keys, args)",
    lambda client: client.register_script(SCRIPT)(keys=[K], args=["v"]),
)
_dump: list[bytes] = []


def _dumped(plain: Any) -> None:
    _dump[:] = [plain.function_dump()]
    plain.function_flush()


SCRIPTS = Group(
    "scripts",
    _keys,
    [
        call.eval(SCRIPT, 1, K, "v"),
        call.eval_ro(SCRIPT, 1, K, "v"),
        call.eval("return nil", 1, K),
        call.eval("return redis.error_reply('MINE wrong')", 1, K),
        call.eval("syntax error", 1, K),
        call.eval("return redis.status_reply('FINE')", 1, K),
        call.eval("return false", 1, K),
        call.eval("return 3.7", 1, K),
        call.eval("redis.setresp(3); return {map={a=1}}", 1, K),
        call.eval("redis.setresp(3); return {double=1.5}", 1, K),
        call.evalsha(SHA, 1, K),
        call.evalsha_ro(SHA, 1, K),
        call.script_load(SCRIPT),
        call.script_exists(SHA),
        call.script_exists(SHA, SHA),
        call.script_flush(),
        call.script_flush("ASYNC"),
        call.script_kill(),
        call.fcall("echo", 1, K, "v"),
        call.fcall_ro("read", 1, K),
        call.fcall("none", 1, K),
        call.fcall_ro("echo", 1, K),
        call.function_list(),
        call.function_list(withcode=True),
        call.function_list("none"),
        call.function_load(LIBRARY),
        call.function_load(LIBRARY, replace=True),
        call.function_delete("library"),
        call.function_delete("none"),
        call.function_flush(),
        call.function_flush("ASYNC"),
        call.function_kill(),
        call.function_stats(),
        call.function_dump().by(kinds),
        Entry("function_restore(dump)", lambda client: client.function_restore(_dump[0])).after(
            _dumped
        ),
        Entry(
            "function_restore(dump, 'REPLACE')",
            lambda client: client.function_restore(_dump[0], "REPLACE"),
        ).after(_dumped),
        call.function_restore(b"nonsense"),
        _registered,
    ],
    _given,
)
