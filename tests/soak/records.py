"""The records of a soak: answers, samples and faults, each with seconds since its start."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SETTLING = 2.5
"""Seconds after a fault in which the app may still answer 503: the breaker opens for one second,
and a call that began during the fault has another one."""
QUIET = "quiet"
SETTLES = "settling"


@dataclass(frozen=True)
class Answer:
    """The answer to a request, or none."""

    begun: float
    seconds: float
    group: str  #: ``gthread`` or ``gevent``
    page: str
    status: int  #: 0 if no answer came
    bound: float  #: the seconds that the settings allow, without slack
    wrong: str = ""  #: what was wrong with the body; empty if it was right


@dataclass(frozen=True)
class Sample:
    """The resources of one process."""

    at: float
    process: str  #: such as ``gthread 1``
    pid: int
    rss: float  #: MB
    uss: float  #: MB, of this process alone
    descriptors: int
    threads: int
    sockets: int  #: connections to Redis


@dataclass(frozen=True)
class Clients:
    """The connections that the server sees, by the name of the client."""

    at: float
    connections: dict[str, int]


@dataclass
class FaultSpan:
    """A fault, from its beginning to its end."""

    name: str
    begun: float
    ended: float


@dataclass
class Records:
    """Everything that a soak has recorded."""

    minutes: float
    max_connections: int  #: the size of each process's pool
    machine: dict[str, str] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    clients: list[Clients] = field(default_factory=list)
    faults: list[FaultSpan] = field(default_factory=list)
    lateness: list[float] = field(default_factory=list)  #: of a thread that sleeps for 50 ms
    clicks: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)  #: of the soak's own, such as a dead worker

    @property
    def seconds(self) -> float:
        return self.minutes * 60

    def phase(self, at: float, until: float | None = None) -> str:
        """Return the name of the fault between two times, ``settling`` or ``quiet``."""
        until = at if until is None else until
        settling = False
        for fault in self.faults:
            if fault.begun <= until and at <= fault.ended:
                return fault.name
            settling |= fault.begun <= until and at <= fault.ended + SETTLING
        return SETTLES if settling else QUIET

    def write(self, file: Path) -> None:
        file.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, file: Path) -> Records:
        fields: dict[str, Any] = json.loads(file.read_text())
        for name, kind in (
            ("answers", Answer), ("samples", Sample), ("clients", Clients), ("faults", FaultSpan),
        ):  # fmt: skip
            fields[name] = [kind(**each) for each in fields[name]]
        return cls(**fields)
