"""Delayed messages: they are not in the stream until they are due.

The sorted set ``{name}:delayed`` has their identifiers, scored by due time in milliseconds. The
fields of each are in a hash of its own: a set of bodies would hold two equal ones once. Consumers
move the messages that are due to the stream.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from ...exceptions import REDIRECTION_ERRORS
from ..messages import BODY, pairs
from ..queue_spec import QueueSpec
from ..raw_commands import UNREACHED, Command, RawCommands
from ..stream_commands import StreamCommands, check_stream
from .server_clock import ServerClock
from .unique import UniqueKeys

logger = logging.getLogger(__package__)

_MOST_MESSAGES = 100  # are moved at once
_MOST_BYTES = 1024 * 1024  # are read at once, unless a single message has more
_MOST_CONFLICTS = 3
_SKIPPED_SECONDS = 1.0  # between two moves, if the first message cannot be transferred


@dataclass(frozen=True)
class Delayed:
    """A message that is not due yet."""

    id: bytes
    due: float  #: milliseconds since the epoch
    fields: dict[bytes, bytes]


class DelayedMessages:
    """Adds delayed messages to a queue, and moves them to the stream when they are due.

    It remembers when the first message is due, so that a consumer knows when to look again.
    """

    def __init__(
        self, spec: QueueSpec, commands: StreamCommands, clock: ServerClock, unique: UniqueKeys
    ) -> None:
        self._spec = spec
        self._commands = commands
        self._clock = clock
        self._unique = unique
        self.due_at = math.inf  #: when the first one is due, by :func:`time.monotonic`
        self._is_careful = False  # after a transfer has failed: one message at a time
        self._skipped: dict[bytes, float] = {}  # those whose transfer has failed, and until when
        #: The command that looks for the first one; :meth:`learn` reads its reply.
        self.look: Command = ("ZRANGE", spec.delayed_key, 0, 0, "WITHSCORES")

    def commands(self, message_id: bytes, fields: Sequence[Any], due: float) -> list[Command]:
        """Return the commands that add a message, for a transaction.

        :param due: milliseconds since the epoch.
        """
        return [
            ("HSET", self._spec.later_key(message_id), *fields),
            ("ZADD", self._spec.delayed_key, math.ceil(due), message_id),
        ]

    def learn(self, reply: Any) -> None:
        """Read the reply to :attr:`look`.

        :raises redis.ResponseError: the reply is an error.
        """
        if isinstance(reply, REDIRECTION_ERRORS):
            reply = self._commands.poll(self.look, bool)  # which follows them
        if isinstance(reply, Exception):
            raise reply
        self.due_at = math.inf
        if reply:
            # With RESP3 the reply is a list of pairs.
            score = float(reply[0][1] if isinstance(reply[0], list) else reply[1])
            self.due_at = self._clock.monotonic(score)
            first = reply[0][0] if isinstance(reply[0], list) else reply[0]
            if first in self._skipped:  # those behind it may be due, too
                self.due_at = max(self.due_at, time.monotonic() + _SKIPPED_SECONDS)

    def move(self) -> bool:
        """Move messages that are due to the stream.

        Several consumers may do so at the same time. A message that one of them moves is not
        moved by another, which leaves it alone.

        :returns: whether there were any.
        :raises redis.RedisError: the server failed.
        """
        now = self._clock.now()
        self.due_at = math.inf  # the next look learns it
        self._skipped = {each: until for each, until in self._skipped.items()
                         if until > time.monotonic()}  # fmt: skip
        most = _MOST_MESSAGES + len(self._skipped)
        command = ("ZRANGEBYSCORE", self._spec.delayed_key, "-inf", math.floor(now), "LIMIT", 0,
                   most)  # fmt: skip
        ids: list[bytes] = self._commands.poll(command, _is_never_recorded)
        wanted = [each for each in ids if each not in self._skipped]
        if not wanted:
            return False
        if len(ids) == most:
            self.due_at = time.monotonic()  # there may be more
        sizes: list[int] = self._commands.send(
            *(("HSTRLEN", self._spec.later_key(each), BODY) for each in wanted), name="move"
        )
        batch: list[bytes] = []
        total = 0
        for message_id, size in zip(wanted, sizes, strict=True):
            if batch and (self._is_careful or total + size > _MOST_BYTES):
                self._move(batch)
                batch, total = [], 0
            batch.append(message_id)
            total += size
        self._move(batch)
        self._is_careful = False
        return True

    def _move(self, ids: list[bytes]) -> None:
        keys = tuple(self._spec.later_key(each) for each in ids)
        shown = [("ZREM", self._spec.delayed_key), ("XADD", self._spec.key)]

        def move(ask: RawCommands) -> None:
            # A server goes on with a transaction after XADD has failed, and the messages would be
            # lost.
            check_stream(ask, self._spec.key)
            contents = [_flat(reply) for reply in ask(*(("HGETALL", key) for key in keys))]
            held = self._unique.moved(ask, [pairs(fields) for fields in contents])
            commands: list[Command] = [
                ("XADD", self._spec.key, "*", *fields) for fields in contents if fields
            ]
            ask.transaction(
                *commands,
                ("ZREM", self._spec.delayed_key, *ids),
                *(("UNLINK", key) for key in keys),
                *held,
            )

        try:
            self._commands.watching(
                keys, "move", shown, move, is_poll=True, attempts=_MOST_CONFLICTS
            )
        except redis.WatchError:
            if len(ids) > 1:  # another consumer moves some of them
                for each in ids:
                    self._move([each])
        except UNREACHED as error:
            if len(ids) == 1:
                self._skip(ids[0], error)
            self._is_careful = True
            raise

    def _skip(self, message_id: bytes, error: Exception) -> None:
        """Leave a message alone for a while: its body may be impossible to transfer."""
        self._skipped[message_id] = time.monotonic() + self._spec.lease
        logger.warning("queue %s: the delayed message %s could not be moved: %s",
                       self._spec.name, message_id.decode(), error)  # fmt: skip

    def first(self, count: int) -> list[Delayed]:
        """Return the messages that are due next, with their fields."""
        (found,) = self._commands.send(
            ("ZRANGE", self._spec.delayed_key, 0, count - 1, "WITHSCORES")
        )
        scored = _scored(found)
        if not scored:
            return []
        replies = self._commands.send(
            *(("HGETALL", self._spec.later_key(each)) for each, _ in scored), name="peek"
        )
        return [
            Delayed(message_id, due, pairs(_flat(reply)))
            for (message_id, due), reply in zip(scored, replies, strict=True)
            if reply
        ]

    def keys(self) -> list[str]:
        """Return the keys of all messages, for their removal."""
        (ids,) = self._commands.send(("ZRANGE", self._spec.delayed_key, 0, -1))
        return [self._spec.later_key(each) for each in ids]


def _flat(reply: Any) -> list[bytes]:
    """Return fields and values in turn; RESP3 has them as a dict."""
    if isinstance(reply, dict):
        return [part for pair in reply.items() for part in pair]
    return list(reply)


def _scored(reply: Any) -> list[tuple[bytes, float]]:
    """Return members and scores; RESP3 has them as pairs."""
    if reply and isinstance(reply[0], list):
        return [(member, float(score)) for member, score in reply]
    return [(member, float(score)) for member, score in zip(reply[::2], reply[1::2], strict=True)]


_is_never_recorded: Callable[[object], bool] = lambda reply: False  # noqa: E731
