"""Reads the numbers and the messages of a durable queue without receiving anything."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from ..telemetry.stats import QueueStats
from .messages import BODY, MESSAGE_ID, QueuedMessage, id_of, pairs, time_of
from .queue_spec import QueueSpec
from .raw_commands import UNREACHED, Command, is_no_group
from .schedules.delayed import Delayed, DelayedMessages
from .stream_commands import StreamCommands

_MOST_LEFT = 100


def stats_of(commands: StreamCommands, spec: QueueSpec) -> QueueStats:
    """Return the numbers of messages and dead letters, and the age of the oldest message.

    The age is unknown if the oldest message cannot be transferred.
    """
    length, pending, dead, kept, waiting, delayed, left, now = commands.send(
        ("XLEN", spec.key), ("XPENDING", spec.key, spec.group), ("XLEN", spec.dead_key),
        ("ZCARD", spec.waiting_key), ("ZCOUNT", spec.waiting_key, "-inf", "(+inf"),
        ("ZCARD", spec.delayed_key), left_command(spec), ("TIME",), name="stats", errors=True,
    )  # fmt: skip
    if isinstance(pending, Exception) and is_no_group(pending):
        pending = [0]
    for reply in (length, pending, dead, kept, waiting, delayed, left, now):
        if isinstance(reply, Exception):
            raise reply
    age = None
    if length:
        with suppress(*UNREACHED):
            oldest = entries_without(commands, spec, left, 1)
            if oldest:
                seconds = int(now[0]) + int(now[1]) / 1e6 - time_of(oldest[0][0]).timestamp()
                age = timedelta(seconds=max(0.0, seconds))
    # An entry that waits is in the stream as well, and so is one that a dead letter points at.
    return QueueStats(max(0, length - kept), pending[0], age, dead, waiting, delayed)


def left_command(spec: QueueSpec) -> Command:
    """Return the command for the first members of entries that dead letters point at."""
    return ("ZRANGE", spec.waiting_key, "+inf", "+inf", "BYSCORE", "LIMIT", 0, _MOST_LEFT)


def entries_without(
    commands: StreamCommands, spec: QueueSpec, left: Sequence[bytes], count: int
) -> list[Any]:
    """Return the first entries of the stream without those that dead letters point at.

    :param left: the reply to :func:`left_command`.
    :param count: maximum number of entries.
    """
    ids = sorted((member.partition(b"|")[0] for member in left), key=position_of)
    starts = [b"-", *(b"(" + entry_id for entry_id in ids)]
    ends = [*starts[1:], b"+"]
    ranges = [("XRANGE", spec.key, start, end, "COUNT", count)
              for start, end in zip(starts, ends, strict=True)]  # fmt: skip
    pages = commands.send(*ranges, name="peek")
    return [entry for page in pages for entry in page][:count]


def peeked(
    commands: StreamCommands, spec: QueueSpec, delayed: DelayedMessages, count: int
) -> list[QueuedMessage]:
    """Return the oldest messages of the stream with their consumers and attempts.

    If there are fewer than ``count``, the delayed messages that are due next come after them.

    :param count: maximum number of messages.
    """
    left, pending = commands.send(
        left_command(spec),
        ("XPENDING", spec.key, spec.group, "-", "+", count),
        name="peek",
        errors=True,
    )
    if isinstance(pending, Exception) and is_no_group(pending):
        pending = []  # no consumer has received anything yet
    for reply in (left, pending):
        if isinstance(reply, Exception):
            raise reply
    entries = entries_without(commands, spec, left, count)
    # Both lists are sorted by identifier, so a pending entry that belongs to one of the first
    # ``count`` messages is among the first ``count`` pending entries.
    deliveries = {entry_id: (consumer, times) for entry_id, consumer, _, times in pending}
    found = []
    for entry_id, raw in entries:
        consumer, attempts = deliveries.get(entry_id, (None, 0))
        fields = pairs(raw)
        found.append(
            QueuedMessage(
                id=id_of(entry_id, fields),
                body=fields.get(BODY, b""),
                enqueued_at=time_of(fields.get(MESSAGE_ID, entry_id)),
                attempts=attempts,
                consumer=None if consumer is None else consumer.decode("utf-8", "replace"),
            )
        )
    if len(found) < count:
        found += [_queued(each) for each in delayed.first(count - len(found))]
    return found


def _queued(message: Delayed) -> QueuedMessage:
    return QueuedMessage(
        id=message.id.decode(),
        body=message.fields.get(BODY, b""),
        enqueued_at=time_of(message.id),
        attempts=0,
        consumer=None,
        due_at=time_of(b"%d" % int(message.due)),
    )


def position_of(entry_id: bytes) -> tuple[int, int]:
    """Return an entry's position in the stream, to sort identifiers."""
    milliseconds, _, sequence = entry_id.partition(b"-")
    return int(milliseconds), int(sequence)
