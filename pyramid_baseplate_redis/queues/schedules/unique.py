"""Unique messages: while one of a key is in the queue, another put adds nothing.

The key ``{name}:unique:<key>`` has the message's identifier, the end of its window and, once that
is known, its entry in the stream. It is never trusted alone, since it may outlive its message: a
consumer may die before it frees the key. Once the window is over, a put looks for the message.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from ...exceptions import SERVER_ERRORS
from ..messages import MESSAGE_ID, UNIQUE, pairs
from ..queue_spec import QueueSpec
from ..raw_commands import Command, RawCommands
from ..stream_commands import StreamCommands
from .server_clock import ServerClock

_PAGE = 100
# An entry's identifier is at most so much earlier than the time in the message's.
_EARLIEST_MS = 5_000


@dataclass(frozen=True)
class Holder:
    """The message that holds a key."""

    id: bytes
    window_end: int  #: milliseconds since the epoch; 0 is no window
    #: The message's entry, or ``@`` and the time when it was moved to the stream, or empty.
    place: bytes

    @classmethod
    def of(cls, value: bytes | None) -> Holder | None:
        """Read the value of a key; ``None`` if it has none, or another program's."""
        try:
            message_id, window_end, place = (value or b"").split(b"|")
            return cls(message_id, int(window_end), place)
        except ValueError:
            return None

    @property
    def value(self) -> bytes:
        return b"%b|%d|%b" % (self.id, self.window_end, self.place)


class UniqueKeys:
    """The keys of one queue's unique messages."""

    def __init__(self, spec: QueueSpec, commands: StreamCommands, clock: ServerClock) -> None:
        self._spec = spec
        self._commands = commands
        self._clock = clock

    def holder(self, ask: RawCommands, key: bytes) -> bytes | None:
        """Return the identifier of the message that holds a key; ``None`` if none does.

        :param ask: watches the key.
        """
        (value,) = ask(("GET", key))
        holder = Holder.of(value)
        if holder is None:
            return None
        if self._clock.now() < holder.window_end:
            return holder.id
        place = self._place(ask, holder)
        if place is None:
            return None
        if place != holder.place:
            # The next put need not search for it. The key is watched: it is still this message's.
            found = Holder(holder.id, holder.window_end, place)
            with contextlib.suppress(redis.OutOfMemoryError):
                ask.transaction(("SET", key, found.value))
        return holder.id

    def hold(self, key: bytes, message_id: bytes, window_end: int) -> Command:
        """Return the command that holds a key for a message, for the put's transaction."""
        return ("SET", key, Holder(message_id, window_end, b"").value)

    def _place(self, ask: RawCommands, holder: Holder) -> bytes | None:
        """Return where a message is; ``None`` if it is not in the queue any more."""
        spec = self._spec
        score, left = ask(
            ("ZSCORE", spec.delayed_key, holder.id),
            # Entries that dead letters point at; their messages hold no key.
            ("ZRANGE", spec.waiting_key, "+inf", "+inf", "BYSCORE"),
        )
        if score is not None:
            return holder.place
        entry = self._entry(ask, holder)
        if entry is None or any(member.partition(b"|")[0] == entry for member in left):
            return None
        return entry

    def _entry(self, ask: RawCommands, holder: Holder) -> bytes | None:
        key = self._spec.key
        if holder.place and not holder.place.startswith(b"@"):
            (entries,) = ask(("XRANGE", key, holder.place, holder.place))
            return holder.place if entries else None
        added = int(holder.place[1:] or holder.id.partition(b"-")[0])
        start: Any = max(0, added - _EARLIEST_MS)
        while True:
            (entries,) = ask(("XRANGE", key, start, "+", "COUNT", _PAGE))
            for entry_id, fields in entries:
                if pairs(fields).get(MESSAGE_ID) == holder.id:
                    found: bytes = entry_id
                    return found
            if len(entries) < _PAGE:
                return None
            start = b"(" + entries[-1][0]

    def moved(self, ask: RawCommands, messages: Sequence[Mapping[bytes, bytes]]) -> list[Command]:
        """Return the commands that note that messages are moved to the stream.

        :param ask: has the connection of the transaction. It is told to watch the keys, too.
        :param messages: the fields of delayed messages.
        """
        keys = {self._spec.unique_key(fields[UNIQUE]): fields[MESSAGE_ID]
                for fields in messages if UNIQUE in fields and MESSAGE_ID in fields}  # fmt: skip
        if not keys:
            return []
        place = b"@%d" % int(self._clock.now())
        # One command for each key, as in StreamCommands.watching().
        replies = ask(*(("WATCH", key) for key in keys), *(("GET", key) for key in keys))
        values = replies[len(keys) :]
        commands: list[Command] = []
        for (key, message_id), value in zip(keys.items(), values, strict=True):
            holder = Holder.of(value)
            if holder is not None and holder.id == message_id:
                moved = Holder(message_id, holder.window_end, place)
                commands.append(("SET", key, moved.value, "KEEPTTL"))
        return commands

    def free(self, messages: Sequence[Any], *, are_dead: bool = False) -> None:
        """Free the keys of messages that are settled, if they still hold them.

        A key stays until the end of its window, unless the message is a dead letter. An error of
        the server is ignored: the messages are settled, and a key that was not freed delays the
        next put, but does not swallow it.
        """
        for message in messages:
            unique = message.fields.get(UNIQUE)
            if unique is None:
                continue
            with contextlib.suppress(*SERVER_ERRORS):
                self._free(self._spec.unique_key(unique), message.id.encode(), are_dead)

    def _free(self, key: bytes, message_id: bytes, is_dead: bool) -> None:
        def free(ask: RawCommands) -> None:
            (value,) = ask(("GET", key))
            holder = Holder.of(value)
            if holder is None or holder.id != message_id:
                ask(("UNWATCH",))
            elif not is_dead and self._clock.now() < holder.window_end:
                ask.transaction(("PEXPIREAT", key, holder.window_end))
            else:
                ask.transaction(("DEL", key))

        self._commands.watching(key, "free", [("DEL", key)], free, is_poll=True)

    def keys(self) -> list[bytes]:
        """Return all keys, for their removal."""
        prefix = self._spec.unique_key(b"")
        pattern = b"".join(b"\\%c" % byte if byte in b"*?[]\\^" else b"%c" % byte
                           for byte in prefix) + b"*"  # fmt: skip
        found: set[bytes] = set()
        cursor: Any = 0
        while True:
            ((cursor, page),) = self._commands.send(
                ("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
            )
            found.update(page)
            if int(cursor) == 0:
                return sorted(found)
