"""What ``predis top`` asks a server, and what two answers tell of the time between them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import redis

from .cli_servers import Server

PERCENTILES = ("p50", "p99", "p99.9")
# What each sample itself costs the server, which is none of the application's commands.
_ASKED = ("ping", "ping", "info", "client|id", "client|list")
_REPLICATION_LINKS = frozenset("MS")  # CLIENT LIST's flags of a primary and of a replica


@dataclass(frozen=True)
class Sample:
    """A server's own figures at one time."""

    taken_at: float
    """Seconds of the monotonic clock."""
    round_trip: float
    """Seconds that a PING took."""
    info: Mapping[str, Any]
    connections: int | None
    """The client's, or all where it has no name; ``None`` if CLIENT LIST is refused."""
    asked: tuple[str, ...]
    """The commands of this sample that the server has executed."""

    @property
    def role(self) -> str:
        """``primary`` or ``replica``."""
        return {"master": "primary", "slave": "replica"}.get(self.info.get("role", ""), "unknown")

    def commands(self) -> dict[str, tuple[int, int]]:
        """How often each command was executed, and for how many microseconds."""
        return {
            name.removeprefix("cmdstat_"): (figures["calls"], figures["usec"])
            for name, figures in self.info.items()
            if name.startswith("cmdstat_")
        }

    def percentiles(self, command: str) -> dict[str, float]:
        """Microseconds by percentile, since the server started; empty if it doesn't tell."""
        found = self.info.get(f"latency_percentiles_usec_{command}")
        return dict(found) if isinstance(found, dict) else {}


class CommandRate(NamedTuple):
    """A command, between two samples."""

    command: str
    per_second: float
    mean: float
    """Microseconds that it took in the server."""
    percentiles: dict[str, float]
    """Microseconds since the server started."""


def take_sample(server: Server, client_name: str | None) -> Sample:
    """Ask a server.

    :param client_name: of the connections to count; ``None`` for all.
    :raises redis.RedisError: if it fails, or refuses INFO.
    """
    client = server.client
    client.execute_command("PING")  # connects, if it has to
    started = time.perf_counter()
    client.execute_command("PING")
    round_trip = time.perf_counter() - started
    with client.pipeline(transaction=False) as pipeline:
        # All sections at once: servers before 7.0 take one name only.
        pipeline.info("all").client_id().client_list()
        info, own, clients = pipeline.execute(raise_on_error=False)
    taken_at = time.monotonic()
    if isinstance(info, Exception):
        raise info
    refused = {
        name for name, reply in zip(_ASKED[3:], (own, clients), strict=True) if _failed(reply)
    }
    return Sample(
        taken_at,
        round_trip,
        info,
        None if _failed(clients) else _count(clients, str(own), client_name),
        tuple(name for name in _ASKED if name not in refused),
    )


def _failed(reply: object) -> bool:
    return isinstance(reply, redis.RedisError)


def _count(clients: Iterable[Mapping[str, str]], own: str, client_name: str | None) -> int:
    return sum(
        1
        for client in clients
        if client["id"] != own
        and not _REPLICATION_LINKS.intersection(client.get("flags", ""))
        and client_name in (None, client.get("name"))
    )


def rates(before: Sample | None, after: Sample) -> list[CommandRate] | None:
    """What a server did between two samples, most frequent command first.

    :returns: ``None`` if that can't be told: the server was restarted, or its figures reset.
    """
    if before is None or before.info.get("run_id") != after.info.get("run_id"):
        return None
    seconds = after.taken_at - before.taken_at
    earlier, found = before.commands(), []
    for command, (calls, microseconds) in after.commands().items():
        calls_before, microseconds_before = earlier.get(command, (0, 0))
        executed = calls - calls_before
        if executed < 0:
            return None
        others = executed - _own(before, after, command)
        if others > 0:
            mean = (microseconds - microseconds_before) / executed
            percentiles = after.percentiles(command)
            found.append(CommandRate(command, others / seconds, mean, percentiles))
    return sorted(found, key=lambda rate: (-rate.per_second, rate.command))


def _own(before: Sample, after: Sample, command: str) -> int:
    """How many were ours: INFO doesn't count itself, so it and what came behind it are older."""
    if command == "ping":
        return after.asked.count(command)
    return before.asked.count(command)


def total(each: Iterable[list[CommandRate]]) -> list[CommandRate]:
    """The commands of several servers together; of the percentiles the worst server's."""
    found: dict[str, CommandRate] = {}
    for rate in (rate for one in each for rate in one):
        other = found.get(rate.command)
        found[rate.command] = rate if other is None else _added(other, rate)
    return sorted(found.values(), key=lambda rate: (-rate.per_second, rate.command))


def _added(one: CommandRate, other: CommandRate) -> CommandRate:
    per_second = one.per_second + other.per_second
    mean = (one.mean * one.per_second + other.mean * other.per_second) / per_second
    names = one.percentiles.keys() | other.percentiles.keys()
    worst = {
        name: max(one.percentiles.get(name, 0.0), other.percentiles.get(name, 0.0))
        for name in names
    }
    return CommandRate(one.command, per_second, mean, worst)
