"""Adds messages to a durable queue: at once, delayed, or only if none of its key is there."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ..exceptions import REDIRECTION_ERRORS, QueueFullError
from ..telemetry.messaging.spans import MessageTracer
from .messages import BODY, MESSAGE_ID, UNIQUE
from .queue_spec import QueueSpec, checked_delay
from .raw_commands import Command, RawCommands
from .schedules.delayed import DelayedMessages
from .schedules.server_clock import ServerClock
from .schedules.unique import UniqueKeys
from .stream_commands import StreamCommands


@dataclass(frozen=True)
class PutOptions:
    """When messages are due, and the key of which there is only one.

    :raises ValueError: the options contradict each other, or one is out of range.
    """

    delay: float | timedelta | None = None
    at: datetime | None = None
    unique: str | None = None
    unique_for: float | timedelta | None = None

    def __post_init__(self) -> None:
        if self.delay is not None and self.at is not None:
            raise ValueError("delay and at: write only one of them.")
        if self.delay is not None:
            checked_delay(self.delay)
        if self.at is not None and self.at.utcoffset() is None:
            raise ValueError(
                "at: the time has no time zone. Write, for example, "
                "datetime.now(timezone.utc) + timedelta(hours=1)."
            )
        if self.unique is not None and not self.unique:
            raise ValueError("unique: the key is empty. Write what the message is about.")
        if self.unique is not None and not _is_encodable(self.unique):
            raise ValueError("unique: the key has characters that UTF-8 cannot express.")
        if self.unique_for is not None:
            if self.unique is None:
                raise ValueError("unique_for: needs unique, the key that is held for this time.")
            checked_delay(self.unique_for)

    @property
    def has_own_id(self) -> bool:
        """Return whether the message needs an identifier before it has an entry in the stream."""
        return self.is_delayed or self.unique is not None

    @property
    def is_delayed(self) -> bool:
        """Return whether the message may be due later."""
        return self.delay is not None or self.at is not None

    def due(self, now: float) -> float | None:
        """Return when the message is due; ``None`` is at once.

        :param now: the server's time; it and the result are milliseconds since the epoch.
        """
        due = now
        if self.at is not None:
            due = self.at.timestamp() * 1000
        elif self.delay is not None:
            due = now + checked_delay(self.delay) * 1000
        return due if due > now else None

    def window_end(self, now: float) -> int:
        """Return the end of ``unique_for``; 0 without it. Units are those of :meth:`due`."""
        if self.unique_for is None:
            return 0
        return int(now + checked_delay(self.unique_for) * 1000)


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # its attributes have the whole text
        return False
    return True


AT_ONCE = PutOptions()


class Sender:
    """Adds messages to one queue."""

    def __init__(
        self, spec: QueueSpec, commands: StreamCommands, tracer: MessageTracer,
        clock: ServerClock, delayed: DelayedMessages, unique: UniqueKeys,
    ) -> None:  # fmt: skip
        self._spec = spec
        self._commands = commands
        self._tracer = tracer
        self._clock = clock
        self._delayed = delayed
        self._unique = unique

    def send(self, bodies: Sequence[bytes], options: PutOptions = AT_ONCE) -> list[str]:
        """Add messages; see :meth:`.DurableMessageQueue.put_many`.

        :param options: with ``unique`` there is one message only.
        """
        server_span = self._commands.server_span
        span = self._tracer.start_send(server_span, bodies)
        started = time.perf_counter()
        try:
            ids = [message_id.decode() for message_id in self._added(bodies, options)]
        except BaseException as error:
            attempted = 0 if isinstance(error, QueueFullError) else len(bodies)
            self._tracer.metrics.sent(started, attempted, error)
            if span is not None:
                span.end(error)
            raise
        self._tracer.metrics.sent(started, len(bodies))
        if span is not None:
            span.sent(ids)
            span.end()
        return ids

    def _added(self, bodies: Sequence[bytes], options: PutOptions) -> list[bytes]:
        trace_fields = self._tracer.fields(self._commands.server_span)
        if options.has_own_id:
            return self._added_by_id(bodies, options, trace_fields)
        commands = [("XADD", self._spec.key, "*", BODY, body, *trace_fields) for body in bodies]
        if self._spec.max_length is not None:
            return self._in_transaction(commands, len(bodies), None)
        if len(commands) == 1:
            return self._commands.send(*commands)
        return self._commands.transaction("put", *commands)

    def _added_by_id(
        self, bodies: Sequence[bytes], options: PutOptions, trace_fields: Sequence[Any]
    ) -> list[bytes]:
        now = self._clock.now()
        due = options.due(now)
        ids = [b"%d-%b" % (int(now), secrets.token_hex(8).encode()) for _ in bodies]
        unique = None if options.unique is None else options.unique.encode()
        own = () if unique is None else (UNIQUE, unique)
        commands: list[Command] = []
        for message_id, body in zip(ids, bodies, strict=True):
            fields = (BODY, body, *trace_fields, MESSAGE_ID, message_id, *own)
            if due is None:
                commands.append(("XADD", self._spec.key, "*", *fields))
            else:
                commands += self._delayed.commands(message_id, fields, due)
        key = None if unique is None else self._spec.unique_key(unique)
        if key is not None:
            commands.append(self._unique.hold(key, ids[0], options.window_end(now)))
        if key is None and self._spec.max_length is None:
            self._commands.transaction("put", *commands)
            return ids
        return self._in_transaction(commands, len(ids), key, ids)

    def _in_transaction(
        self, commands: Sequence[Command], count: int, unique: bytes | None,
        ids: list[bytes] | None = None,
    ) -> list[bytes]:  # fmt: skip
        """Add messages unless the queue is full, or one of the same key is there.

        :param commands: those that add the messages.
        :param count: how many messages.
        :param unique: the key that a unique message holds.
        :param ids: the messages' identifiers; ``None`` if they are the transaction's replies.
        """
        spec = self._spec
        is_limited = spec.max_length is not None
        counted = (spec.key, spec.delayed_key) if is_limited else ()
        watched = (*counted, *(() if unique is None else (unique,)))

        def add(ask: RawCommands) -> list[bytes]:
            if unique is not None:
                holder = self._unique.holder(ask, unique)
                if holder is not None:
                    ask(("UNWATCH",))
                    return [holder]
            if spec.max_length is not None:
                # Messages that wait after a failure are in the stream, too, and so are entries that
                # dead letters point at.
                length, delayed, left = ask(
                    ("XLEN", spec.key), ("ZCARD", spec.delayed_key),
                    ("ZCOUNT", spec.waiting_key, "+inf", "+inf"),
                    errors=True, later_redirections=True,
                )  # fmt: skip
                length, delayed, left = map(_counted, (length, delayed, left))
                if length - left + delayed + count > spec.max_length:
                    raise QueueFullError(spec.name, spec.max_length)
            replies = ask.transaction(*commands)
            return replies if ids is None else ids

        return self._commands.watching(watched, "put", commands, add)


def _counted(reply: Any) -> int:
    """Return a number of entries; 0 if another node has them while a Cluster moves the slot."""
    if isinstance(reply, REDIRECTION_ERRORS):
        return 0
    if isinstance(reply, Exception):
        raise reply
    return int(reply)
