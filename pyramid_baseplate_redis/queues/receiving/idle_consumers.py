"""Removes consumers whose processes are gone from a durable queue's group."""

from __future__ import annotations

from ..queue_spec import QueueSpec
from ..stream_commands import StreamCommands

# A consumer is removed once it has been silent for longer than both of these. While it waits for
# messages, it sends a command once a second.
CONSUMER_IDLE_SECONDS = 3600.0
CONSUMER_IDLE_LEASES = 10


def remove_idle_consumers(spec: QueueSpec, commands: StreamCommands) -> None:
    """Remove other consumers that were silent for a long time and have nothing pending."""
    (consumers,) = commands.send(("XINFO", "CONSUMERS", spec.key, spec.group))
    least = max(CONSUMER_IDLE_SECONDS, CONSUMER_IDLE_LEASES * spec.lease) * 1000
    for raw in consumers:
        found = raw if isinstance(raw, dict) else dict(zip(raw[::2], raw[1::2], strict=True))
        name = found[b"name"]
        if found[b"pending"] or found[b"idle"] < least or name == spec.consumer.encode():
            continue
        pending, _ = commands.transaction(
            "remove_consumer",
            ("XPENDING", spec.key, spec.group, "-", "+", 1000, name),
            ("XGROUP", "DELCONSUMER", spec.key, spec.group, name),
        )
        ids = [entry[0] for entry in pending]
        # The consumer has received messages since XINFO, and their pending entries were deleted
        # with it. Claim them with an expired lease, so that they are delivered again.
        if ids:
            claim = ("XCLAIM", spec.key, spec.group, spec.consumer, 0, *ids)
            commands.send((*claim, "IDLE", spec.lease_ms, "FORCE", "JUSTID"))
