"""Samples of a client's servers, taken outside of the application's processes, and their rates."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, NamedTuple

import redis

from ..exceptions import SERVER_ERRORS
from .servers import Server, Servers, at_once, explained

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
        """The calls of each command and their microseconds in all."""
        return {
            name.removeprefix("cmdstat_"): (figures["calls"], figures["usec"])
            for name, figures in self.info.items()
            if name.startswith("cmdstat_")
        }

    def percentiles(self, command: str) -> dict[str, float]:
        """Microseconds by percentile, since the server started; empty if it reports none."""
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
    """Return the commands between two samples, the most frequent first.

    :returns: ``None`` if the server was restarted or its statistics were reset in between.
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
    """Return how many of the calls were ours. INFO reports the state before itself."""
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


_KEPT_ROUND_TRIPS = 100


@dataclass(frozen=True)
class ServerState:
    """A server at one refresh: its sample, or why there is none."""

    address: str
    sample: Sample | None = None
    commands: list[CommandRate] | None = None
    """``None`` after a restart of the server, and for its first sample."""
    round_trips: tuple[float, ...] = ()
    """Seconds; the last ones, oldest first."""
    error: str | None = None

    @property
    def per_second(self) -> float | None:
        """All commands together."""
        return None if self.commands is None else sum(one.per_second for one in self.commands)


@dataclass(frozen=True)
class Refresh:
    """One sample of each server."""

    client: str
    kind: str
    time: datetime
    max_connections: int
    client_name: str | None
    servers: list[ServerState] = field(default_factory=list)
    reads_from_replicas: bool = False
    error: str | None = None
    """Why it isn't known which servers there are."""

    @property
    def failed(self) -> bool:
        """True if a server failed, or if it is not known which servers there are."""
        return self.error is not None or any(one.error is not None for one in self.servers)

    @property
    def counted(self) -> list[ServerState]:
        """The servers whose commands are added up: replicas only where the client reads there.

        They execute the writes of their primary again.
        """
        if self.kind == "standalone":
            return self.servers
        wanted = {"primary"}
        if self.reads_from_replicas:
            wanted = {"replica"} if self.kind == "sentinel" else {"primary", "replica"}
        return [one for one in self.servers if one.sample and one.sample.role in wanted]

    @property
    def commands(self) -> list[CommandRate]:
        """The rates of these servers, added up."""
        return total(one.commands for one in self.counted if one.commands is not None)

    @property
    def per_second(self) -> float | None:
        """Commands a second in all; ``None`` if no server reported them."""
        known = [one.per_second for one in self.counted if one.per_second is not None]
        return sum(known) if known else None

    @property
    def connections(self) -> int | None:
        """Connections to all servers; ``None`` if no server reported them."""
        samples = [one.sample for one in self.servers if one.sample is not None]
        known = [one.connections for one in samples if one.connections is not None]
        return sum(known) if known else None


class Watch:
    """Take samples of the servers of a client, and keep the last ones.

    :param name: the client's.
    :param factory: the client's, from the application's registry.
    """

    def __init__(self, name: str, factory: Any) -> None:
        self._name = name
        self._servers = Servers(factory)
        settings = getattr(self._servers.pool, "client_settings", None)
        self._client_name = None
        self._reads_from_replicas = False
        if settings is not None:
            self._client_name = settings.keywords.get("client_name", settings.client_name)
            self._reads_from_replicas = (
                settings.read_from_replicas or settings.read_from == "replica"
            )
        self._samples: dict[str, Sample] = {}
        self._round_trips: dict[str, deque[float]] = {}
        self._has_failed = False

    def look(self) -> Refresh:
        """Ask all servers at the same time; one that fails costs its timeouts and is shown so."""
        error, states = None, []
        try:
            found = self._servers.find(anew=self._has_failed)
            states = at_once(self._look_at, found) + self._missing(found)
        except SERVER_ERRORS as failure:
            error = explained(failure)
        refresh = Refresh(
            self._name,
            self._servers.kind,
            datetime.now(timezone.utc),
            self._servers.pool.max_connections,
            self._client_name,
            states,
            self._reads_from_replicas,
            error,
        )
        self._has_failed = refresh.failed
        return refresh

    def _missing(self, found: list[Server]) -> list[ServerState]:
        """Servers that there were: Sentinels and Clusters don't name those that are down."""
        addresses = self._samples.keys() - {server.address for server in found}
        return [ServerState(address, error="isn't named any more") for address in sorted(addresses)]

    def _look_at(self, server: Server) -> ServerState:
        round_trips = self._round_trips.setdefault(server.address, deque(maxlen=_KEPT_ROUND_TRIPS))
        try:
            sample = take_sample(server, self._client_name)
        except SERVER_ERRORS as error:
            return ServerState(server.address, error=explained(error))
        round_trips.append(sample.round_trip)
        commands = rates(self._samples.get(server.address), sample)
        self._samples[server.address] = sample
        return ServerState(server.address, sample, commands, tuple(round_trips))
