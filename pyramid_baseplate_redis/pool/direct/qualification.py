"""Decide whether a connection may send commands directly."""

from __future__ import annotations

import weakref
from typing import Any

from redis.connection import AbstractConnection, HiredisRespSerializer

from ..deadline_parser import DeadlineParser

# What a command passes in redis-py. A class that overrides one of them gets every command.
STEPS = frozenset({
    "can_read", "check_health", "disconnect", "pack_command", "pack_commands", "read_response",
    "send_command", "send_packed_command",
})  # fmt: skip
_ORIGINAL = {step: vars(AbstractConnection)[step] for step in STEPS}
_PACKAGE = __name__.partition(".")[0]


def qualifies(connection: Any, parser: Any, packer: Any) -> bool:
    """Return whether redis-py would do no more for a command than the direct way does.

    It would if the application has a connection class, a parser or a packer of its own, if hiredis
    is missing, if redis-py checks the connection's health before commands, or if an instrumentation
    has replaced a method of its connections.

    :param connection: it has just connected.
    :param parser: the connection's parser of replies.
    :param packer: the connection's packer of commands.
    """
    return (
        type(parser) is DeadlineParser
        and DeadlineParser.has_hiredis
        and type(packer) is HiredisRespSerializer
        and not connection.health_check_interval
        and _is_standard(type(connection))
        and STEPS.isdisjoint(vars(connection))
        and all(vars(AbstractConnection)[step] is own for step, own in _ORIGINAL.items())
    )


def _is_standard(cls: type) -> bool:
    """Return whether no other class than redis-py's base and this package's sees the commands."""
    found = _standard.get(cls)
    if found is None:
        above = cls.__mro__[: cls.__mro__.index(AbstractConnection)]
        found = all(STEPS.isdisjoint(vars(base)) or base.__module__ in _KNOWN for base in above)
        _standard[cls] = found
    return found


_standard: weakref.WeakKeyDictionary[type, bool] = weakref.WeakKeyDictionary()
# The modules whose classes do the same on the direct way.
_KNOWN = {f"{_PACKAGE}.pool.{name}" for name in ("connection", "owned_connection")}
