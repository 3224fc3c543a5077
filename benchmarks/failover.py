"""Measure lost writes and downtime while Sentinel fails over and 8 threads write.

Run ``python benchmarks/failover.py``; it takes about two minutes. ``--server redis`` uses the
system's ``redis-server`` instead of Valkey. ``--check`` exits with 1 if our client loses a write
although ``min-replicas-to-write`` is 1, or more than one write in a thousand without it.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from measuring import console
from redis.sentinel import Sentinel
from rich.table import Table

from pyramid_baseplate_redis import MonitoredRedisConnection, sentinel_pool_from_config

sys.path.append(str(Path(__file__).parents[1]))
from tests.support.topologies import Node, SentinelSet, running_sentinels

WRITERS = 8
BEFORE = 1.0  # seconds of writing
AFTER = 1.0  # seconds of writing after the failover
MOST = 1e-3  # of the acknowledged writes, where the servers don't wait for replicas
Make = Callable[[SentinelSet], redis.Redis]


def ours(servers: SentinelSet) -> redis.Redis:
    settings = {"foo.url": servers.url, "foo.socket_timeout": "1 second"}
    return MonitoredRedisConnection("foo", None, sentinel_pool_from_config(settings, "foo."))


def plain(servers: SentinelSet) -> redis.Redis:
    addresses = [(node.host, node.port) for node in servers.sentinels]
    return Sentinel(addresses, socket_timeout=1).master_for(servers.service, socket_timeout=1)


def killed(servers: SentinelSet) -> None:
    """Kill the primary, and restart it as a replica when the other server is the primary."""
    old = servers.kill_primary()
    new = servers.wait_for_new_primary(old.port)
    old.restart()
    old.client.replicaof(new.host, new.port)


def planned(servers: SentinelSet) -> None:
    servers.wait_for_new_primary(servers.failover().port)


class Writers:
    """Threads that write until they are stopped, and record each acknowledgement and its time."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.acknowledged: list[tuple[float, int]] = []
        self.errors: Counter[str] = Counter()
        self._numbers = itertools.count()
        self._stopped = False
        self._threads = [threading.Thread(target=self._write) for _ in range(WRITERS)]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._stopped = True
        for thread in self._threads:
            thread.join()

    def _write(self) -> None:
        while not self._stopped:
            number = next(self._numbers)
            try:
                self.client.sadd("numbers", number)
            except redis.RedisError as error:
                self.errors[type(error).__name__] += 1
                time.sleep(0.01)
            else:
                self.acknowledged.append((time.monotonic(), number))


@dataclass(frozen=True)
class Outcome:
    """The result of one failover. ``gap`` is the longest time in seconds without a kept write."""

    acknowledged: int
    lost: int
    gap: float
    errors: Counter[str]


def outcome(make: Make, servers: SentinelSet, begin: Callable[[SentinelSet], None]) -> Outcome:
    client = make(servers)
    new = servers.replica()
    with Writers(client) as writers:
        time.sleep(BEFORE)
        begin(servers)
        _wait_for_replication(new)  # from then on the old primary accepts no writes
        time.sleep(AFTER)
    numbers: Any = new.client.smembers("numbers")
    kept = {int(number) for number in numbers}
    times = sorted(when for when, number in writers.acknowledged if number in kept)
    client.connection_pool.disconnect()
    return Outcome(
        acknowledged=len(writers.acknowledged),
        lost=sum(number not in kept for _, number in writers.acknowledged),
        gap=max(later - sooner for sooner, later in itertools.pairwise(times)),
        errors=writers.errors,
    )


def _wait_for_replication(primary: Node) -> None:
    deadline = time.monotonic() + 30
    while primary.client.info("replication")["connected_slaves"] != 1:
        if time.monotonic() > deadline:
            raise AssertionError("the old primary never became a replica")
        time.sleep(0.05)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", choices=["valkey", "redis"], default="valkey")
    parser.add_argument("--check", action="store_true")
    chosen = parser.parse_args()
    title = f"Failovers while {WRITERS} threads write ({chosen.server})"
    table = Table(title=title, title_justify="left", title_style="bold")
    for heading in ("client", "primary", "min-replicas-to-write"):
        table.add_column(heading)
    for heading in ("acknowledged", "lost", "seconds without a kept write"):
        table.add_column(heading, justify="right")
    table.add_column("errors meanwhile")
    missed = False
    for replicas in (0, 1):
        with (
            tempfile.TemporaryDirectory() as directory,
            running_sentinels(
                chosen.server, Path(directory), min_replicas_to_write=replicas
            ) as servers,
        ):
            for begin, make in itertools.product((killed, planned), (ours, plain)):
                servers.tidy()
                seen = outcome(make, servers, begin)
                allowed = 0 if replicas else seen.acknowledged * MOST
                missed |= make is ours and seen.lost > allowed
                table.add_row(
                    "ours" if make is ours else "plain redis-py",
                    begin.__name__,
                    str(replicas),
                    f"{seen.acknowledged:,}",
                    f"{seen.lost:,}",
                    f"{seen.gap:.2f}",
                    ", ".join(f"{name} {count:,}" for name, count in seen.errors.most_common()),
                )
    console.print(table)
    return 1 if chosen.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
