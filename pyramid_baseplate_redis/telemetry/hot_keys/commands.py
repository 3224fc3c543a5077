"""The keys among a sampled command's arguments; the server's command table decides."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from redis._parsers.commands import CommandsParser

from ...command_table import only_reads

# The sorted sets, named as in baseplate.
SETS = {
    "reads": "baseplate-hot-key-tracker-reads",
    "writes": "baseplate-hot-key-tracker-writes",
}


LONGEST_KEY = 1024  # a longer argument is a value, or a key that is not counted


MOST_CHARACTERS = 16_384  # limit for all arguments that are kept of one command


_WRITING_SPECS = frozenset({"RW", "OW", "RM"})


_OWN = frozenset(SETS.values()) | {name.encode() for name in SETS.values()}


_LEFT_OUT = b"\0left out of a sample"


class _Command(NamedTuple):
    """A command in the server's table."""

    kind: str | None
    is_movable: bool  # only COMMAND GETKEYS can find its keys


class _Table:
    """The server's command table, as redis-py's parser reads it."""

    def __init__(self, client: Any) -> None:
        untyped: Any = CommandsParser
        parser = untyped(client)
        parser.redis_connection = None  # otherwise it keeps the client alive
        self._parser = parser
        self.read_at = time.monotonic()
        self._commands: dict[str, _Command] = {}
        for name, command in parser.commands.items():
            self._commands[name.lower()] = _described(name, command)
            for raw in command.get("subcommands") or ():
                sub = parser.parse_subcommand(raw)
                self._commands[sub["name"].lower()] = _described(sub["name"], sub)

    def find(self, pieces: Sequence[Any]) -> _Command | None:
        name = pieces[0].lower()
        if len(pieces) > 1 and isinstance(pieces[1], str):
            sub = self._commands.get(f"{name}|{pieces[1].lower()}")
            if sub is not None:
                return sub
        return self._commands.get(name)

    def keys(self, client: Any, pieces: Sequence[Any]) -> Sequence[Any]:
        """Return the keys among a known command's arguments; ask the server if they are movable."""
        return self._parser.get_keys(client, *pieces) or ()


def _described(name: str, command: Any) -> _Command:
    flags = command["flags"]
    if only_reads(name) or "readonly" in flags:
        kind = "reads"
    elif "write" in flags or _may_write(command.get("key_specifications") or ()):
        kind = "writes"
    else:
        return _Command(None, False)
    return _Command(kind, "movablekeys" in flags)


def _may_write(specifications: Any) -> bool:
    """Return whether keys may be written by a command with neither flag, such as EVAL."""
    for raw in specifications:
        spec = raw if isinstance(raw, dict) else dict(zip(raw[::2], raw[1::2], strict=False))
        flags: Any = spec.get(b"flags") or spec.get("flags") or ()
        if any(_as_text(flag) in _WRITING_SPECS for flag in flags):
            return True
    return False


def _as_text(value: Any) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def _pieces(args: Sequence[Any]) -> Sequence[Any]:
    """Return a command as the server receives it: redis-py splits the name at its spaces."""
    words = _as_text(args[0]).split()
    if len(words) == 1 and len(args) > 1 and isinstance(args[1], bytes) and len(args[1]) < 32:
        # The parser compares text with the names of subcommands. If it is a key, its bytes are the
        # same.
        try:
            return (*words, args[1].decode("ascii"), *args[2:])
        except UnicodeDecodeError:
            pass
    return (*words, *args[1:])


def _trimmed(pieces: Sequence[Any]) -> Sequence[Any] | None:
    """Return a command without arguments too long for a key; ``None`` if it is still too long."""
    kept: list[Any] = []
    room = MOST_CHARACTERS
    for piece in pieces:
        member = _member(piece)
        kept.append(_LEFT_OUT if member is None else member)
        room -= len(kept[-1])
        if room < 0:
            return None
    return kept


def _member(argument: Any) -> str | bytes | None:
    """Return a key as a member of the sorted set; ``None`` if it is not counted."""
    key: object = argument
    if isinstance(key, (bool, type(None))):
        return None
    if isinstance(key, (int, float)):
        return repr(key)
    if isinstance(key, (bytearray, memoryview)):
        key = bytes(key) if memoryview(key).nbytes <= LONGEST_KEY else None
    if not isinstance(key, (str, bytes)) or len(key) > LONGEST_KEY:
        return None
    if key in _OWN or key == _LEFT_OUT:
        return None
    if isinstance(key, str) and not key.isascii():
        try:
            key.encode()
        except UnicodeEncodeError:
            return None
    return key
