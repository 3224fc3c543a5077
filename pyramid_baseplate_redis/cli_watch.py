"""What the servers of a client do, seen from outside of the application's processes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from .cli_samples import CommandRate, Sample, rates, take_sample, total
from .cli_servers import Server, Servers, at_once, explained
from .exceptions import SERVER_ERRORS

_KEPT_ROUND_TRIPS = 100


@dataclass(frozen=True)
class ServerState:
    """A server at one refresh: its sample, or why there is none."""

    address: str
    sample: Sample | None = None
    commands: list[CommandRate] | None = None
    """``None`` if that can't be told this time: it was restarted, or has only just answered."""
    round_trips: tuple[float, ...] = ()
    """Seconds; the last ones, oldest first."""
    error: str | None = None

    @property
    def per_second(self) -> float | None:
        """All commands together."""
        return None if self.commands is None else sum(one.per_second for one in self.commands)


@dataclass(frozen=True)
class Refresh:
    """What one look at all servers showed."""

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
    def counted(self) -> list[ServerState]:
        """The servers whose commands are added up: replicas only where the client reads there.

        They execute again what their primary was told to write.
        """
        if self.kind == "standalone":
            return self.servers
        wanted = {"primary"}
        if self.reads_from_replicas:
            wanted = {"replica"} if self.kind == "sentinel" else {"primary", "replica"}
        return [one for one in self.servers if one.sample and one.sample.role in wanted]

    @property
    def commands(self) -> list[CommandRate]:
        """What those servers did, taken together."""
        return total(one.commands for one in self.counted if one.commands is not None)

    @property
    def per_second(self) -> float | None:
        """How much that is; ``None`` if no server told."""
        known = [one.per_second for one in self.counted if one.per_second is not None]
        return sum(known) if known else None

    @property
    def connections(self) -> int | None:
        """All connections to all servers; ``None`` if no server told."""
        samples = [one.sample for one in self.servers if one.sample is not None]
        known = [one.connections for one in samples if one.connections is not None]
        return sum(known) if known else None


class Watch:
    """Looks at the servers of a client, and remembers what it has seen.

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
        self._has_failed = error is not None or any(one.error is not None for one in states)
        return Refresh(
            self._name,
            self._servers.kind,
            datetime.now(timezone.utc),
            self._servers.pool.max_connections,
            self._client_name,
            states,
            self._reads_from_replicas,
            error,
        )

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
