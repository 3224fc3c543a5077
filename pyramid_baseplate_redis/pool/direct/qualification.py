"""Decide whether a connection may send commands directly."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from types import FunctionType
from typing import Any

from redis.connection import HiredisRespSerializer

from ..deadline_parser import DeadlineParser

# What a command passes in redis-py. A class that has its own gets every command in redis-py's way.
STEPS = (
    "can_read", "check_health", "check_owner", "disconnect", "pack_command", "pack_commands",
    "read_response", "reconnect", "send_command", "send_packed_command",
)  # fmt: skip
_PACKAGE = __name__.rpartition(".direct.")[0]
#: The modules whose steps the direct way knows.
KNOWN_MODULES = frozenset(
    {"redis.connection", f"{_PACKAGE}.connection", f"{_PACKAGE}.owned_connection"}
)


def qualifies(connection: Any, parser: Any, packer: Any) -> bool:
    """Return whether redis-py would do no more for a command than the direct way does.

    It would in these cases:

    - The application has a connection class, a parser or a packer of its own.
    - hiredis is missing.
    - redis-py checks the connection's health before commands.
    - The server notifies the connection of its maintenance.
    - An instrumentation has replaced a method of the connection.

    :param connection: it has just connected.
    :param parser: the connection's parser of replies.
    :param packer: the connection's packer of commands.
    """
    notifications = connection.maint_notifications_config
    return (
        type(parser) is DeadlineParser
        and DeadlineParser.has_hiredis
        and type(packer) is HiredisRespSerializer
        and "pack" not in vars(packer)
        and not connection.health_check_interval
        and not (notifications and notifications.enabled)
        and not any(step in vars(connection) for step in STEPS)
        and all(
            _are_known(vars(cls), connection.direct_modules) for cls in type(connection).__mro__
        )
    )


def _are_known(members: Any, modules: frozenset[str]) -> bool:
    """Return whether all steps in a class are those that these modules define there."""
    return all(
        type(members[step]) is FunctionType
        and members[step].__module__ == members["__module__"]
        and members["__module__"] in modules
        and not hasattr(members[step], "__wrapped__")
        for step in STEPS
        if step in members
    )


def poll_of(opened: Any) -> Callable[[int], list[Any]] | None:
    """Return a function that polls a socket for what it has received.

    ``None`` for TLS, which has a buffer of its own, and for gevent and other systems that have a
    ``poll()`` of their own or none. There redis-py's ``can_read()`` knows what to do.
    """
    make = getattr(select, "poll", None)
    if type(opened) is not socket.socket or make is None:
        return None
    poller = make()
    if type(poller).__module__ != "select":
        return None
    poller.register(opened, select.POLLIN)
    poll: Callable[[int], list[Any]] = poller.poll
    return poll
