"""Dead letters of a durable queue: a second stream in the same slot of a Cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis

from ...telemetry.messaging.spans import MessageTracer
from ..messages import DEAD_ATTEMPTS, DEAD_ERROR, DEAD_ID, DeadLetter, DurableMessage, without_dead
from ..queue_spec import QueueSpec
from ..raw_commands import RawCommands
from ..stream_commands import StreamCommands

_PAGE = 100


class DeadLetters:
    """Moves messages to the stream of dead letters and back, each in one transaction.

    A server continues a transaction after one of its commands has failed. If XADD failed because
    the key has another type, XDEL would lose the message. Therefore the type is checked first,
    while WATCH guards the key.
    """

    def __init__(self, spec: QueueSpec, commands: StreamCommands, tracer: MessageTracer) -> None:
        self._commands = commands
        self._tracer = tracer
        self._key = spec.dead_key
        self._queue_key = spec.key
        self._group = spec.group

    def bury(self, message: DurableMessage, error: str, attempts: int) -> None:
        """Move a message to the dead letters.

        :param error: full name of the error's class.
        :param attempts: the number of times it was received.
        :raises redis.ResponseError: the key of the dead letters is not a stream.
        """
        own = (DEAD_ID, message.entry_id, DEAD_ERROR, error, DEAD_ATTEMPTS, attempts)
        commands: list[tuple[Any, ...]] = [
            ("XADD", self._key, "*", *own, *message.raw_fields),
            ("XACK", self._queue_key, self._group, message.entry_id),
            ("XDEL", self._queue_key, message.entry_id),
        ]

        def move(ask: RawCommands) -> None:
            _check_type(ask, self._key)
            ask.transaction(*commands)

        settlement = self._tracer.settlement("dead_letter", [message.id])
        self._commands.watching(self._key, "bury", commands, move, settlement)
        message.is_settled = True

    def letters(self, count: int) -> list[DeadLetter]:
        """Return the oldest ``count`` dead letters."""
        (entries,) = self._commands.send(("XRANGE", self._key, "-", "+", "COUNT", count))
        return [DeadLetter.of(entry) for entry in entries]

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
            _check_type(ask, self._queue_key)
            ask.transaction(
                ("XADD", self._queue_key, "*", *without_dead(entries[0][1])),
                ("XDEL", self._key, entry_id),
            )
            return 1

        return self._commands.watching(self._key, "replay", [("XDEL", self._key, entry_id)], move)

    def discard(self, ids: Sequence[str]) -> int:
        """Delete dead letters.

        :param ids: their identifiers; if empty, all current dead letters.
        :returns: the number of deleted dead letters.
        """
        chosen: Sequence[Any] = ids or self._ids()
        if not chosen:
            return 0
        (deleted,) = self._commands.send(("XDEL", self._key, *chosen))
        return int(deleted)

    def _ids(self) -> list[bytes]:
        found: list[bytes] = []
        start = "-"
        while True:
            (page,) = self._commands.send(("XRANGE", self._key, start, "+", "COUNT", _PAGE))
            found += [entry[0] for entry in page]
            if len(page) < _PAGE:
                return found
            start = f"({found[-1].decode()}"


def _check_type(ask: RawCommands, key: str) -> None:
    (kind,) = ask(("TYPE", key))
    if kind not in (b"stream", b"none"):
        raise redis.ResponseError(
            f"WRONGTYPE {key} is a {kind.decode()}, but must be a stream. Nothing was moved."
        )
