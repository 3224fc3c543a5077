"""Pack commands with hiredis in one step, into the same bytes as redis-py's packer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hiredis

from ...command_table import COMMAND_NAMES

# Commands that change the state of the connection, that have more or less than one reply, or for
# which redis-py keeps a state of its own (HIMPORT).
_STATEFUL = """
AUTH CLIENT DISCARD EXEC HELLO HIMPORT MONITOR MULTI PSUBSCRIBE PSYNC PUNSUBSCRIBE QUIT RESET SELECT
SHUTDOWN SSUBSCRIBE SUBSCRIBE SUNSUBSCRIBE SYNC UNSUBSCRIBE UNWATCH WATCH
"""
_BLOCKING = """
BLMOVE BLMOVEM BLMPOP BLPOP BRPOP BRPOPLPUSH BZMPOP BZPOPMAX BZPOPMIN WAIT WAITAOF XREAD XREADGROUP
"""
#: The commands that may be sent directly, as redis-py's methods spell them.
DIRECT_COMMANDS = frozenset(
    name
    for name in COMMAND_NAMES.difference(_STATEFUL.split(), _BLOCKING.split())
    if " " not in name
)
#: The types of arguments that hiredis packs as redis-py does, which converts other types.
PACKABLE = frozenset({bytes, str})
#: The types of arguments that :func:`without_numbers` converts.
NUMBERS = frozenset({int, float})


def packed_command(args: Sequence[Any]) -> bytes | None:
    """Return a command's bytes; ``None`` if it has arguments that only redis-py's packer knows.

    :param args: a name of :data:`DIRECT_COMMANDS`, and its arguments.
    """
    if not PACKABLE.issuperset(map(type, args)):
        args = without_numbers(args)
        if not PACKABLE.issuperset(map(type, args)):
            return None
    packed: bytes = hiredis.pack_command(args if type(args) is tuple else tuple(args))
    return packed


def without_numbers(args: Sequence[Any]) -> tuple[Any, ...]:
    """Return the arguments with numbers as text.

    hiredis 3.5 crashes when a signal interrupts it while it packs an int.
    """
    return tuple(repr(arg) if type(arg) in NUMBERS else arg for arg in args)


def joined(commands: Sequence[bytes], most: int) -> list[bytes]:
    """Return packed commands in the pieces in which redis-py sends them.

    Each piece may take ``socket_timeout``.

    :param most: the length in bytes at which a piece ends.
    """
    if sum(map(len, commands)) <= most:
        return [b"".join(commands)]
    pieces: list[bytes] = []
    gathered: list[bytes] = []
    length = 0
    for command in commands:
        if length > most or len(command) > most:
            if gathered:
                pieces.append(b"".join(gathered))
            gathered, length = [], 0
        if len(command) > most:
            pieces.append(command)
        else:
            gathered.append(command)
            length += len(command)
    if gathered:
        pieces.append(b"".join(gathered))
    return pieces
