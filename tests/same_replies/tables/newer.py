"""Commands of newer servers than those here: the servers' refusals are compared."""

from __future__ import annotations

from typing import Any

from ..entries import Group, call


def _keys(plain: Any) -> None:
    plain.set("{k}string", "x")


A = "{k}array"

NEWER = Group(
    "newer commands",
    _keys,
    [
        call.arset(A, 0, "x"),
        call.arget(A, 0),
        call.arinfo(A),
        call.arinfo(A, full=True),
        call.arlen(A),
        call.hotkeys_start(["CPU"]),
        call.hotkeys_stop(),
        call.hotkeys_reset(),
        call.himport_prepare_internal("fields", ["a"]),
        call.himport_discard_internal("fields"),
        call.himport_discard_all_internal(),
    ],
)
