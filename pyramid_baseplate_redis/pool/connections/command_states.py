"""The commands that change the state of their connection."""

from __future__ import annotations

from typing import Any

from ..direct.connection import ALTERED, NOT_WATCHING, WATCHING

TRANSACTION = (WATCHING, NOT_WATCHING)  # the states that MULTI and EXEC lead to
_STATES = {
    **dict.fromkeys(("WATCH", "MULTI"), WATCHING),
    **dict.fromkeys(("EXEC", "DISCARD", "UNWATCH"), NOT_WATCHING),
    **dict.fromkeys(
        ("SELECT", "AUTH", "HELLO", "RESET", "MONITOR", "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE",
         "CLIENT REPLY", "CLIENT TRACKING", "CLIENT NO-TOUCH"),
        ALTERED,
    ),
}  # fmt: skip


def state_after(command: Any) -> int | None:
    """Return the state of the connection after a command; ``None`` if it stays as it is.

    :param command: the first argument of redis-py's ``execute_command``.
    """
    text = command if isinstance(command, str) else str(command, "ascii", "replace")
    return _STATES.get(text.upper())
