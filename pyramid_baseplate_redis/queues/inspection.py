"""Reads the numbers and the messages of a durable queue without receiving anything."""

from __future__ import annotations

from datetime import timedelta

from ..telemetry.stats import QueueStats
from .messages import BODY, QueuedMessage, pairs, time_of
from .queue_spec import QueueSpec
from .raw_commands import is_no_group
from .stream_commands import StreamCommands


def stats_of(commands: StreamCommands, spec: QueueSpec) -> QueueStats:
    """Return the numbers of messages and dead letters, and the age of the oldest message."""
    length, pending, oldest, dead, waiting, now = commands.send(
        ("XLEN", spec.key), ("XPENDING", spec.key, spec.group),
        ("XRANGE", spec.key, "-", "+", "COUNT", 1), ("XLEN", spec.dead_key),
        ("ZCARD", spec.waiting_key), ("TIME",),
        name="stats", errors=True,
    )  # fmt: skip
    if isinstance(pending, Exception) and is_no_group(pending):
        pending = [0]
    for reply in (length, pending, oldest, dead, waiting, now):
        if isinstance(reply, Exception):
            raise reply
    age = None
    if oldest:
        seconds = int(now[0]) + int(now[1]) / 1e6 - time_of(oldest[0][0]).timestamp()
        age = timedelta(seconds=max(0.0, seconds))
    # An entry that waits is in the stream as well.
    return QueueStats(max(0, length - waiting), pending[0], age, dead, waiting)


def peeked(commands: StreamCommands, spec: QueueSpec, count: int) -> list[QueuedMessage]:
    """Return the oldest messages of the stream with their consumers and attempts.

    :param count: maximum number of messages.
    """
    entries, pending = commands.send(
        ("XRANGE", spec.key, "-", "+", "COUNT", count),
        ("XPENDING", spec.key, spec.group, "-", "+", count),
        name="peek",
        errors=True,
    )
    if isinstance(pending, Exception) and is_no_group(pending):
        pending = []  # no consumer has received anything yet
    for reply in (entries, pending):
        if isinstance(reply, Exception):
            raise reply
    # Both replies are sorted by identifier, so a pending entry that belongs to one of the first
    # ``count`` messages is among the first ``count`` pending entries.
    deliveries = {entry_id: (consumer, times) for entry_id, consumer, _, times in pending}
    found = []
    for entry_id, fields in entries:
        consumer, attempts = deliveries.get(entry_id, (None, 0))
        found.append(
            QueuedMessage(
                id=entry_id.decode(),
                body=pairs(fields).get(BODY, b""),
                enqueued_at=time_of(entry_id),
                attempts=attempts,
                consumer=None if consumer is None else consumer.decode("utf-8", "replace"),
            )
        )
    return found
