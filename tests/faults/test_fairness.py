"""More callers than connections: each gets its turn, and soon.

What the turns cost is in benchmarks/fairness.py: it depends on what else the machine does.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis

from ..support.servers import running_server
from .everywhere import runs_under
from .helpers import client_of

pytestmark = [
    pytest.mark.slow("loads a pool for seconds"),
    pytest.mark.alone("compares how long workers wait"),
]

CALLERS = 50
CONNECTIONS = 4
SECONDS = 6.0
LONGEST_WAIT = 0.2


@dataclass
class Served:
    """How often each caller was served, and how long the one waited who waited longest."""

    calls: Counter[int] = field(default_factory=Counter)
    longest: float = 0.0

    @property
    def each(self) -> list[int]:
        return [self.calls[number] for number in range(CALLERS)]


def serve(client: redis.Redis, seconds: float, served: Served) -> float:
    """Have 50 callers call as fast as they can; returns the calls per second."""
    before = served.calls.total()
    started = time.monotonic()
    ends_at = started + seconds
    longest = [0.0] * CALLERS

    def call(number: int) -> None:
        while (began := time.monotonic()) < ends_at:
            client.get("key")
            served.calls[number] += 1
            longest[number] = max(longest[number], time.monotonic() - began)

    threads = [threading.Thread(target=call, args=(n,), daemon=True) for n in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    served.longest = max(served.longest, *longest)
    return (served.calls.total() - before) / (time.monotonic() - started)


@runs_under("process", "gevent")
def test_no_worker_is_served_less_than_half_as_often_as_others_or_waits_for_long(
    tmp_path: Path,
) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, max_connections=str(CONNECTIONS)) as client,
    ):
        served = Served()
        serve(client, SECONDS, served)
        assert min(served.each) >= statistics.mean(served.each) / 2, sorted(served.each)
        assert served.longest < LONGEST_WAIT, f"{served.longest:.3f} seconds"
