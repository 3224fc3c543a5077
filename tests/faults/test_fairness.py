"""More callers than connections: each gets its turn, soon, and no fewer are served."""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import redis

from ..support import running_server
from .everywhere import runs_under
from .helpers import client_of, pool_of

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
def test_nobody_is_served_less_than_half_as_often_as_others_or_waits_for_long(
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


@runs_under("process")  # where no coverage is measured, which slows one of them only
def test_as_many_are_served_as_by_redis_pys_pool(tmp_path: Path) -> None:
    # In short slices, by turns: whatever slows the machine down slows both.
    with running_server("valkey", tmp_path) as server:
        ours = pool_of(server, max_connections=str(CONNECTIONS))
        stock = redis.BlockingConnectionPool(
            max_connections=CONNECTIONS, timeout=30, **ours.connection_kwargs
        )
        rates: dict[redis.ConnectionPool, list[float]] = {ours: [], stock: []}
        for _ in range(8):
            for pool, measured in rates.items():
                measured.append(serve(redis.Redis(connection_pool=pool), 0.4, Served()))
        ratios = [mine / its for mine, its in zip(rates[ours], rates[stock], strict=True)]
        ours.disconnect()
        stock.disconnect()
        assert statistics.median(ratios) >= 0.95, [f"{ratio:.2f}" for ratio in ratios]
