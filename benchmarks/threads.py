"""Measure threads that share one pool: ours, redis-py's blocking pool and its default pool.

Run ``python benchmarks/threads.py`` on a quiet machine. ``--check`` exits with 1 if our pool serves
fewer commands a second than 1.25 of redis-py's blocking pool with 2 threads or more, or fewer than
redis-py's with one thread.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import redis
from measuring import console, running_valkey, stock_pool
from rich.table import Table

from pyramid_baseplate_redis import RedisContextFactory, pool_from_config
from pyramid_baseplate_redis.pool.factory import BlockingConnectionPool

THREADS = (1, 2, 4, 8, 16, 50)
CONNECTIONS = 50
SECONDS = 0.5  # of a slice
SLICES = 7
TARGET = 1.25  # times redis-py's blocking pool, with 2 threads or more

OURS = "ours"
BLOCKING = "redis-py's blocking pool"
DEFAULT = "redis-py's default pool"


@dataclass
class Result:
    """The slices of one pool with one number of threads."""

    rates: list[float] = field(default_factory=list)  # commands a second
    slowest: list[float] = field(default_factory=list)  # seconds; 1 % of the commands took longer


def measure(get: Callable[[str], object], threads: int, result: Result) -> None:
    """Let threads send commands for one slice, and add what they reached to ``result``."""
    durations: list[list[float]] = [[] for _ in range(threads)]
    begin = threading.Barrier(threads + 1)

    def call(mine: list[float]) -> None:
        begin.wait()
        now = time.perf_counter()
        ends_at = now + SECONDS
        while now < ends_at:
            get("key")
            before, now = now, time.perf_counter()
            mine.append(now - before)

    running = [threading.Thread(target=call, args=(mine,)) for mine in durations]
    for thread in running:
        thread.start()
    begin.wait()
    started = time.perf_counter()
    for thread in running:
        thread.join()
    seconds = time.perf_counter() - started
    together = sorted(duration for mine in durations for duration in mine)
    result.rates.append(len(together) / seconds)
    result.slowest.append(together[int(len(together) * 0.99)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=SLICES, help=f"by default {SLICES}")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    chosen = parser.parse_args()
    table = Table(title="Threads on one pool", title_justify="left", title_style="bold")
    for heading in ("threads", "pool", "commands/s", "of redis-py's", "slowest 1 % (ms)"):
        table.add_column(heading, justify="left" if heading == "pool" else "right")
    missed = []
    with running_valkey() as url:
        ours = pool_from_config({"foo.url": url, "foo.max_connections": str(CONNECTIONS)}, "foo.")
        assert isinstance(ours, BlockingConnectionPool)
        stock = stock_pool(ours)
        default = redis.ConnectionPool(
            connection_class=ours.connection_class, **ours.connection_kwargs
        )
        monitored = RedisContextFactory(ours, "foo").make_object_for_context("foo", None)
        calls: dict[str, Callable[[str], object]] = {
            OURS: monitored.get,
            BLOCKING: redis.Redis(connection_pool=stock).get,
            DEFAULT: redis.Redis(connection_pool=default).get,
        }
        for threads in THREADS:
            results = {name: Result() for name in calls}
            for _ in range(chosen.slices):
                # In turns, because a machine that is slow for a while then slows all.
                for name, get in calls.items():
                    measure(get, threads, results[name])
            for name, result in results.items():
                pairs = zip(result.rates, results[BLOCKING].rates, strict=True)
                ratio = statistics.median(mine / theirs for mine, theirs in pairs)
                table.add_row(
                    str(threads) if name == OURS else "",
                    name,
                    f"{statistics.median(result.rates):,.0f}",
                    f"{ratio:.2f}",
                    f"{statistics.median(result.slowest) * 1000:.2f}",
                )
                target = 1.0 if threads == 1 else TARGET
                if name == OURS and ratio < target:
                    missed.append(f"{threads} threads: {ratio:.2f}, target {target}")
            table.add_section()
        for pool in (ours, stock, default):
            pool.disconnect()
    console.print(table)
    for each in missed:
        console.print(f"missed: {each}")
    return 1 if chosen.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
