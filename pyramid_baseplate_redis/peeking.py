"""Looking at a durable queue's messages without receiving them."""

from __future__ import annotations

from .durable_messages import BODY, QueuedMessage, pairs, time_of
from .exchange import is_no_group
from .stream_commands import StreamCommands


def peeked(commands: StreamCommands, key: str, group: str, count: int) -> list[QueuedMessage]:
    """The oldest entries of the stream, with what the group knows of them.

    :param count: how many, at most.
    """
    entries, pending = commands.send(
        ("XRANGE", key, "-", "+", "COUNT", count),
        ("XPENDING", key, group, "-", "+", count),
        name="peek",
        errors=True,
    )
    if isinstance(pending, Exception) and is_no_group(pending):
        pending = []  # nobody has received anything yet
    for reply in (entries, pending):
        if isinstance(reply, Exception):
            raise reply
    # Both are in the order of the identifiers: whoever is among the first has his delivery here.
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
