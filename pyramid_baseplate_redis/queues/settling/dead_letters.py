"""Dead letters of a durable queue: a second stream in the same slot of a Cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ...telemetry.messaging.spans import MessageTracer
from ..messages import (
    DEAD_ATTEMPTS,
    DEAD_ERROR,
    DEAD_ID,
    DEAD_REF,
    DeadLetter,
    DurableMessage,
    dead_fields,
    id_of,
    pairs,
    without_dead,
)
from ..queue_spec import QueueSpec
from ..raw_commands import UNREACHED, Command, RawCommands
from ..schedules.waiting import AT_ONCE, Attempted, member_of
from ..stream_commands import StreamCommands, check_stream
from .failing import error_fields

_PAGE = 100


class DeadLetters:
    """Moves messages to the stream of dead letters and back, each in one transaction.

    A server continues a transaction after one of its commands has failed. If XADD failed because
    the key has another type, XDEL would lose the message. Therefore the type is checked first,
    while WATCH guards the key.
    """

    def __init__(self, spec: QueueSpec, commands: StreamCommands, tracer: MessageTracer) -> None:
        self._spec = spec
        self._commands = commands
        self._tracer = tracer
        self._key = spec.dead_key

    def bury(self, message: DurableMessage, error: str | BaseException, attempts: int) -> None:
        """Move a message to the dead letters.

        :param error: the error, or the full name of its class.
        :param attempts: the number of times it was received.
        :raises redis.ResponseError: the key of the dead letters is not a stream.
        """
        fields: list[Any] = [DEAD_ERROR, error]
        if isinstance(error, BaseException):
            fields = error_fields(error, keeps_text=self._spec.keeps_error_texts)
        own = (DEAD_ID, message.entry_id, *fields, DEAD_ATTEMPTS, attempts)
        self._bury(
            message.entry_id,
            ("XADD", self._key, "*", *own, *message.raw_fields),
            ("XACK", self._spec.key, self._spec.group, message.entry_id),
            ("XDEL", self._spec.key, message.entry_id),
        )
        message.is_settled = True

    def bury_unread(self, entry_id: bytes, error: str, attempts: int) -> None:
        """Make a dead letter of a message without reading its body.

        The dead letter points at the entry, which stays in the stream. It is acknowledged, and its
        member in the set of waiting messages is never due.

        :param error: the full name of the error's class.
        :param attempts: the number of times it was received.
        :raises redis.ResponseError: the key of the dead letters is not a stream.
        """
        own = (DEAD_ID, entry_id, DEAD_ERROR, error, DEAD_REF, entry_id, DEAD_ATTEMPTS, attempts)
        self._bury(
            entry_id,
            ("XADD", self._key, "*", *own),
            ("ZADD", self._spec.waiting_key, "+inf", member_of((entry_id, attempts))),
            ("XACK", self._spec.key, self._spec.group, entry_id),
        )

    def _bury(self, entry_id: bytes, *commands: Command) -> None:
        def move(ask: RawCommands) -> None:
            check_stream(ask, self._key)
            ask.transaction(*commands)

        settlement = self._tracer.settlement("dead_letter", [entry_id.decode()])
        self._commands.watching(self._key, "bury", commands, move, settlement)

    def letters(self, count: int) -> list[DeadLetter]:
        """Return the oldest ``count`` dead letters."""
        (entries,) = self._commands.send(("XRANGE", self._key, "-", "+", "COUNT", count))
        letters = [DeadLetter.of(entry) for entry in entries]
        try:
            for index, letter in enumerate(letters):
                if letter.ref:
                    fields = self._fields_of(letter.ref)
                    message_id = id_of(letter.ref.encode(), fields)
                    letters[index] = replace(letter, fields=fields, message_id=message_id)
        except UNREACHED:
            pass  # the body could not be transferred, and each further attempt takes its time
        return letters

    def _fields_of(self, entry_id: str) -> dict[bytes, bytes]:
        (entries,) = self._commands.send(("XRANGE", self._spec.key, entry_id, entry_id))
        return pairs(entries[0][1]) if entries else {}

    def replay(self, ids: Sequence[str]) -> int:
        """Put dead letters on the queue again as new messages, in one transaction each.

        :param ids: their identifiers; if empty, all current dead letters.
        :returns: the number of replayed dead letters.
        """
        return sum(self._replay_one(entry_id) for entry_id in ids or self._ids())

    def _replay_one(self, entry_id: str | bytes) -> int:
        def move(ask: RawCommands) -> int:
            (entries,) = ask(("XRANGE", self._key, entry_id, entry_id))
            if not entries:
                ask(("UNWATCH",))
                return 0
            check_stream(ask, self._spec.key)
            referred = _referred(entries[0][1])
            add: list[Command] = [("XADD", self._spec.key, "*", *without_dead(entries[0][1]))]
            if referred is not None:  # the entry is still in the stream
                again = member_of((referred[0], 0))
                waiting = self._spec.waiting_key
                add = [("ZREM", waiting, member_of(referred)), ("ZADD", waiting, AT_ONCE, again)]
            ask.transaction(*add, ("XDEL", self._key, entry_id))
            return 1

        return self._commands.watching(self._key, "replay", [("XDEL", self._key, entry_id)], move)

    def discard(self, ids: Sequence[str]) -> int:
        """Delete dead letters.

        :param ids: their identifiers; if empty, all current dead letters.
        :returns: the number of deleted dead letters.
        """
        if ids:
            asked = [("XRANGE", self._key, each, each) for each in ids]
            pages = self._commands.send(*asked, name="discard")
        else:
            pages = list(self._pages())
        entries = [entry for page in pages for entry in page]
        if not entries:
            return 0
        commands: list[Command] = [("XDEL", self._key, *(entry[0] for entry in entries))]
        for _, fields in entries:
            referred = _referred(fields)
            if referred is not None:
                commands += [
                    ("XDEL", self._spec.key, referred[0]),
                    ("ZREM", self._spec.waiting_key, member_of(referred)),
                ]
        if len(commands) == 1:
            return int(self._commands.send(*commands)[0])
        return int(self._commands.transaction("discard", *commands)[0])

    def _ids(self) -> list[bytes]:
        return [entry[0] for page in self._pages() for entry in page]

    def _pages(self) -> Iterator[list[Any]]:
        start = "-"
        while True:
            (page,) = self._commands.send(("XRANGE", self._key, start, "+", "COUNT", _PAGE))
            yield page
            if len(page) < _PAGE:
                return
            start = f"({page[-1][0].decode()}"


def _referred(fields: Sequence[bytes]) -> Attempted | None:
    """Return the entry that a dead letter points at, and its attempts, or ``None``."""
    own = dead_fields(fields)
    if DEAD_REF not in own:
        return None
    return own[DEAD_REF], int(own.get(DEAD_ATTEMPTS, b"0"))
