"""Measure the cost of fairness: 50 threads on 4 connections, our pool against redis-py's.

Run ``python benchmarks/fairness.py`` on a quiet machine. ``--check`` exits with 1 if our pool
serves fewer than 0.95 of the calls that redis-py's pool serves.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time

import redis
from measuring import console, running_valkey, stock_pool

from pyramid_baseplate_redis import pool_from_config

CALLERS = 50
CONNECTIONS = 4
SLICES = 10
SECONDS = 0.6  # of a slice
TARGET = 0.95


def calls_per_second(pool: redis.ConnectionPool) -> float:
    """Return how many calls of 50 threads are served in a second."""
    client = redis.Redis(connection_pool=pool)
    started = time.monotonic()
    ends_at = started + SECONDS
    counts = [0] * CALLERS

    def call(number: int) -> None:
        while time.monotonic() < ends_at:
            client.get("key")
            counts[number] += 1

    threads = [threading.Thread(target=call, args=(number,)) for number in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - started)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check: bool = parser.parse_args().check
    with running_valkey() as url:
        settings = {"foo.url": url, "foo.max_connections": str(CONNECTIONS)}
        ours = pool_from_config(settings, "foo.", timeout=30)
        stock = stock_pool(ours)
        # In turns, because a machine that is slow for a while then slows both.
        pairs = [(calls_per_second(ours), calls_per_second(stock)) for _ in range(SLICES)]
        ours.disconnect()
        stock.disconnect()
    ratios = sorted(mine / its for mine, its in pairs)
    ratio = statistics.median(ratios)
    console.print(
        f"our pool {statistics.median(mine for mine, _ in pairs):.0f} calls a second, redis-py's "
        f"{statistics.median(its for _, its in pairs):.0f}: {ratio:.2f} of it "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f}), target {TARGET}"
    )
    return 1 if check and ratio < TARGET else 0


if __name__ == "__main__":
    sys.exit(main())
