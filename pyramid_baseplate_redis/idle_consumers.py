"""Removes the consumers of processes that are gone from a durable queue's consumer group."""

from __future__ import annotations

from .stream_commands import StreamCommands

# Far longer than any consumer that lives is silent, since a wait asks once a second.
CONSUMER_IDLE_SECONDS = 3600.0


def remove_idle_consumers(
    commands: StreamCommands, key: str, group: str, consumer: str, *, lease: float
) -> None:
    """Remove those that were silent for an hour, or for ten leases, and have nothing pending.

    :param consumer: who asks, and stays.
    :param lease: seconds.
    """
    (consumers,) = commands.send(("XINFO", "CONSUMERS", key, group))
    least = max(CONSUMER_IDLE_SECONDS, 10 * lease) * 1000
    for raw in consumers:
        found = raw if isinstance(raw, dict) else dict(zip(raw[::2], raw[1::2], strict=True))
        name = found[b"name"]
        if found[b"pending"] or found[b"idle"] < least or name == consumer.encode():
            continue
        pending, _ = commands.transaction(
            "remove_consumer",
            ("XPENDING", key, group, "-", "+", 1000, name),
            ("XGROUP", "DELCONSUMER", key, group, name),
        )
        ids = [entry[0] for entry in pending]
        if ids:  # it woke up in this very moment: what it got would be nobody's
            idle = round(lease * 1000)
            commands.send(
                ("XCLAIM", key, group, consumer, 0, *ids, "IDLE", idle, "FORCE", "JUSTID")
            )
