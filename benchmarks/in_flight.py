"""Measure an empty receive(0) while other consumers have many messages in flight.

Run ``python benchmarks/in_flight.py``. A search for expired leases is a scan of all messages in
flight, so only the first call of a process may be slow.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from dataclasses import dataclass, field

import redis
from measuring import Spread, arguments, console, running_valkey
from rich.table import Table

from pyramid_baseplate_redis import DurableMessageQueue, TimedOutError, pool_from_config

ROUNDS = 200
SIZES = (0, 1_000, 10_000, 100_000)
MOST = 2.0  # times an empty queue's
_LEASE = 300.0


@dataclass
class Waiter:
    """An empty queue with ``size`` messages in flight elsewhere."""

    queue: DurableMessageQueue
    first: float = 0.0  # milliseconds, as are the next
    later: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, url: str, size: int) -> Waiter:
        name = f"jobs{size}"
        queue = DurableMessageQueue(name, pool_from_config({"foo.url": url}, "foo."), lease=_LEASE)
        waiter = cls(queue)
        queue.put("first")
        queue.get(0)
        client = redis.Redis.from_url(url)
        pipeline = client.pipeline(transaction=False)
        for number in range(size):
            pipeline.xadd(queue.key, {"body": str(number)})
        pipeline.execute()
        if size:
            client.xreadgroup("workers", "other", {queue.key: ">"}, count=size)
        fresh = DurableMessageQueue(name, pool_from_config({"foo.url": url}, "foo."), lease=_LEASE)
        waiter.queue = fresh
        waiter.first = waiter.timed()
        return waiter

    def timed(self) -> float:
        """Return the milliseconds of one ``receive(0)``."""
        started = time.perf_counter()
        try:
            with self.queue.receive(0):
                raise AssertionError("a message was received")
        except TimedOutError:
            return (time.perf_counter() - started) * 1000


def main() -> int:
    chosen = arguments(__doc__, ROUNDS)
    with running_valkey(chosen.placement) as url:
        waiters = {size: Waiter.of(url, size) for size in SIZES}
        order = list(waiters.values())
        shuffle = random.Random(0).shuffle
        for _ in range(chosen.rounds):
            shuffle(order)
            for waiter in order:
                waiter.later.append(waiter.timed())
            time.sleep(0.005)
    table = Table(title="An empty receive(0), in milliseconds", title_justify="left")
    for heading in ("in flight", "first call", "later calls", "of none in flight", "quartiles"):
        table.add_column(heading, justify="right")
    missed = []
    for size, waiter in waiters.items():
        pairs = zip(waiters[0].later, waiter.later, strict=True)
        ratio = Spread.of([mine / none for none, mine in pairs])
        median = f"{statistics.median(waiter.later):.3f}"
        table.add_row(f"{size:,}", f"{waiter.first:.3f}", median, *ratio.shown())
        if ratio.median > MOST:
            missed.append(f"{size:,} in flight: {ratio.median:.2f} of none, at most {MOST:.2f}")
    console.print(table)
    for each in missed:
        console.print(f"missed: {each}")
    return 1 if chosen.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
