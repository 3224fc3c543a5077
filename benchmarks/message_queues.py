"""Measure messages a second, put and processed: ours, RQ, dramatiq and plain redis-py.

Run ``python benchmarks/queue.py``. The documents explain how to read the table.
"""

from __future__ import annotations

import gc
import itertools
import logging
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import dramatiq
import redis
import rq
from dramatiq.brokers.redis import RedisBroker
from measuring import Spread, Tracing, TracingStates, arguments, console, running_valkey, stock_pool
from rich.table import Table

from pyramid_baseplate_redis import MonitoredRedisConnection, RedisContextFactory, pool_from_config
from pyramid_baseplate_redis.pool.factory import BlockingConnectionPool

ROUNDS = 60
MESSAGES = 96  # in each round
BODY = b"x" * 100
MANY = 16  # messages that dramatiq's worker with its eight threads fetches at once

PLAIN = "plain redis-py"
OURS = "ours, no SDK"
OURS_MANY = f"ours, {MANY} received at once"
RECORDED = "ours, recorded"
DRAMATIQ = "dramatiq"
DRAMATIQ_MANY = f"dramatiq, {MANY} received at once"
RQ = "RQ"
TARGETS = {OURS: 0.80, RECORDED: 0.85}  # of the messages a second of plain redis-py
AHEAD_OF = [(OURS, DRAMATIQ), (OURS, RQ), (OURS_MANY, DRAMATIQ_MANY)]


@dataclass
class Peer:
    """A queue: a function that puts a message, and one that receives and acknowledges it."""

    put: Callable[[], object]
    process: Callable[[], object]
    tracing: Tracing
    at_once: int = 1  # messages per call of ``process``
    put_seconds: list[float] = field(default_factory=list)  # one for each round
    process_seconds: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> list[float]:
        return [sum(pair) for pair in zip(self.put_seconds, self.process_seconds, strict=True)]

    def run(self) -> None:
        """Run one round."""
        with self.tracing():
            gc.collect()
            self.put_seconds.append(_timed(self.put, MESSAGES))
            self.process_seconds.append(_timed(self.process, MESSAGES // self.at_once))


def _timed(call: Callable[[], object], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        call()
    return time.perf_counter() - started


def handle(body: bytes | str) -> None:
    """Process a message."""
    if len(body) != len(BODY):
        raise AssertionError(body)


def plain(pool: redis.ConnectionPool, tracing: Tracing) -> Peer:
    """Return XADD, XREADGROUP and XACK as a queue. The entries stay in the stream."""
    client = redis.Redis(connection_pool=pool)
    client.xgroup_create("plain", "workers", "0", mkstream=True)

    def process() -> None:
        reply: Any = client.xreadgroup("workers", "one", {"plain": ">"}, count=1, block=1000)
        ((_, ((entry_id, fields),)),) = reply
        handle(fields[b"body"])
        client.xack("plain", "workers", entry_id)

    return Peer(lambda: client.xadd("plain", {"body": BODY}), process, tracing)


def _client(pool: redis.ConnectionPool) -> MonitoredRedisConnection:
    return RedisContextFactory(pool, "foo").make_object_for_context("foo", None)


def ours(pool: redis.ConnectionPool, name: str, tracing: Tracing) -> Peer:
    """Return a DurableMessageQueue, which deletes acknowledged messages."""
    queue = _client(pool).durable_queue(name)

    def process() -> None:
        with queue.receive(timeout=1) as message:
            handle(message.body)

    return Peer(lambda: queue.put(BODY), process, tracing)


def ours_many(pool: redis.ConnectionPool, tracing: Tracing) -> Peer:
    """Return a DurableMessageQueue that is read with receive_many()."""
    queue = _client(pool).durable_queue("many")

    def process() -> None:
        with queue.receive_many(MANY, timeout=1) as messages:
            for message in messages:
                handle(message.body)

    return Peer(lambda: queue.put(BODY), process, tracing, MANY)


def with_dramatiq(url: str, tracing: Tracing, prefetch: int) -> Peer:
    """Return dramatiq's Redis broker. This thread does the work of its worker's threads."""
    broker = RedisBroker(url=url, middleware=[])
    name = f"prefetch_{prefetch}"
    actor = dramatiq.actor(handle, actor_name=name, queue_name=name, broker=broker)
    consumer = broker.consume(name, prefetch=prefetch, timeout=1000)
    text = BODY.decode()

    def process() -> None:
        message = next(consumer)
        broker.get_actor(message.actor_name)(*message.args, **message.kwargs)
        consumer.ack(message)

    return Peer(lambda: actor.send(text), process, tracing)


def with_rq(pool: redis.ConnectionPool, tracing: Tracing) -> Peer:
    """Return RQ with its SimpleWorker, which does not fork a process for each job."""
    connection = redis.Redis(connection_pool=pool)
    queue = rq.Queue("rq", connection=connection)
    worker = rq.SimpleWorker([queue], connection=connection)
    text = BODY.decode()

    def process() -> None:
        found = rq.Queue.dequeue_any([queue], timeout=1, connection=connection)
        assert found is not None
        worker.execute_job(*found)

    return Peer(lambda: queue.enqueue(handle, text, result_ttl=0), process, tracing)


def peers(url: str) -> dict[str, Peer]:
    logging.disable(logging.WARNING)  # RQ writes two lines a job
    states = TracingStates.make()
    own = pool_from_config({"foo.url": url}, "foo.")
    assert isinstance(own, BlockingConnectionPool)
    stock = stock_pool(own)
    return {
        PLAIN: plain(stock, states.none),
        OURS: ours(own, "ours", states.none),
        RECORDED: ours(own, "recorded", states.recorded),
        OURS_MANY: ours_many(own, states.none),
        DRAMATIQ: with_dramatiq(url, states.none, 1),
        DRAMATIQ_MANY: with_dramatiq(url, states.none, MANY),
        RQ: with_rq(stock, states.none),
    }


def options(pool: redis.ConnectionPool) -> dict[str, Callable[[], object]]:
    """Return puts with options: delayed, unique, and unique while another message is there."""
    numbers = itertools.count()
    client = _client(pool)
    usual, later, unique, taken = (client.durable_queue(f"puts{number}") for number in range(4))
    return {
        "plain redis-py, XADD": lambda: client.xadd("puts", {"body": BODY}),
        "ours": lambda: usual.put(BODY),
        "ours, delayed": lambda: later.put(BODY, delay=3600),
        "ours, unique": lambda: unique.put(BODY, unique=f"key {next(numbers)}"),
        "ours, one of the key is there": lambda: taken.put(BODY, unique="key"),
    }


def show_options(url: str, rounds: int) -> None:
    """Measure puts with options and print the table."""
    pool = pool_from_config({"foo.url": url}, "foo.")
    puts = options(pool)
    seconds: dict[str, list[float]] = {name: [] for name in puts}
    for _ in range(rounds):
        for name, put in puts.items():
            seconds[name].append(_timed(put, MESSAGES))
    table = Table(title="Puts a second", title_justify="left")
    table.add_column("")
    table.add_column("puts", justify="right")
    for name, taken in seconds.items():
        table.add_row(name, f"{MESSAGES / statistics.median(taken):,.0f}")
    console.print(table)


def show(measured: dict[str, Peer]) -> list[str]:
    """Print the table and return the missed targets."""
    base = measured[PLAIN].seconds
    table = Table(title="Messages a second", title_justify="left")
    table.add_column("")
    for heading in ("put", "processed", "both", "of plain", "quartiles", "target"):
        table.add_column(heading, justify="right")
    ratios = {}
    for name, peer in measured.items():
        pairs = zip(base, peer.seconds, strict=True)
        ratios[name] = Spread.of([theirs / own for theirs, own in pairs])
        rates = [
            f"{MESSAGES / statistics.median(seconds):,.0f}"
            for seconds in (peer.put_seconds, peer.process_seconds, peer.seconds)
        ]
        target = f"{TARGETS[name]:.2f}" if name in TARGETS else ""
        table.add_row(name, *rates, *ratios[name].shown(), target)
    console.print(table)
    missed = [
        f"{name}: {ratios[name].median:.3f} of plain redis-py, target {target:.2f}"
        for name, target in TARGETS.items()
        if ratios[name].median < target
    ]
    for mine, theirs in AHEAD_OF:
        if ratios[mine].median <= ratios[theirs].median:
            missed.append(f"{mine}: behind {theirs}")
    return missed


def main() -> int:
    chosen = arguments(__doc__, ROUNDS)
    with running_valkey(chosen.placement) as url:
        measured = peers(url)
        order = list(measured.values())
        for peer in order:  # warm
            peer.run()
            peer.put_seconds.clear()
            peer.process_seconds.clear()
        shuffle = random.Random(0).shuffle
        for _ in range(chosen.rounds):
            shuffle(order)
            for peer in order:
                peer.run()
        show_options(url, chosen.rounds)
    missed = show(measured)
    for each in missed:
        console.print(f"missed: {each}")
    return 1 if chosen.check and missed else 0
