"""The crash test of durable queues: nothing is lost, whichever process is killed.

    python -m tests.faults.queue_crash --messages 20000 --workers 4 --restarts 3 [--kind redis]

Producers put numbered messages, some of them delayed, while worker processes are killed at random,
again and again, and the server is killed and started anew. All record what they asked and got, and
``tests.histories.queue_contract`` decides whether the queue has kept its contract. Besides, the
messages that a consumer receives for the first time have to come in the order in which they were
put.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import redis
from rich.console import Console
from rich.table import Table

from pyramid_baseplate_redis import DurableMessageQueue, is_retryable, pool_from_config

from ..histories.journal import Journal, deliveries
from ..histories.queue_contract import Put, QueueHistory, check
from ..support.servers import Server, running_server
from .killed_workers import KilledWorkers

LEASE = 2.0
MOST_ATTEMPTS = 1_000_000  # a message must not become a dead letter for being killed
MOST_SECONDS = 300
CONSOLE = Console()


def queue_on(url: str) -> DurableMessageQueue:
    pool = pool_from_config({"foo.url": url}, "foo.")
    return DurableMessageQueue("jobs", pool, lease=LEASE, max_attempts=MOST_ATTEMPTS)


def work(url: str, path: str, seed: int) -> None:
    """Process messages until the process is killed."""
    chance = random.Random(seed)
    queue = queue_on(url)
    journal = Journal(path)
    while True:
        leased_at = time.monotonic_ns()
        try:
            with queue.receive() as message:
                journal.received(message.id, int(message.body), message.attempts, leased_at)
                time.sleep(chance.random() * 0.003)
                journal.processed(message.id)
            journal.acknowledged(message.id)
        except redis.RedisError:
            time.sleep(0.05)  # if the acknowledgement failed, the message comes again


@dataclass
class Producer:
    """Puts its share of the numbers. Those that may have been put or not are put again."""

    url: str
    numbers: list[int]
    seed: int
    puts: list[Put] = field(default_factory=list)
    failure: BaseException | None = None
    thread: threading.Thread = field(init=False)

    def start(self) -> None:
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._put_all()
        except BaseException as error:
            self.failure = error

    def _put_all(self) -> None:
        chance = random.Random(self.seed)
        queue = queue_on(self.url)
        left = list(self.numbers)
        while left:
            batch = left[: chance.choice([1, 1, 1, 5, 20])]
            delay = chance.choice([None] * 9 + [timedelta(seconds=1)])
            puts = [Put(number) for number in batch]
            if delay is not None:
                not_before = time.monotonic_ns() + int(delay.total_seconds() * 1e9)
                for put in puts:
                    put.not_before = not_before
            self.puts += puts
            try:
                ids = queue.put_many([str(number) for number in batch], delay=delay)
            except redis.RedisError as error:
                if is_retryable(error) is not None:
                    for put in puts:
                        put.outcome = "failed"
                time.sleep(0.02)
                continue
            for put, entry_id in zip(puts, ids, strict=True):
                put.id, put.outcome = str(entry_id), "acknowledged"
            left = left[len(batch) :]
            time.sleep(0.0005 * len(batch))


def crash(arguments: argparse.Namespace, server: Server, directory: Path) -> list[str]:
    """Run the test, print the figures, and return what is wrong."""
    chance = random.Random(arguments.seed)
    started = time.monotonic()
    producers = [
        Producer(server.url, list(range(number, arguments.messages, 2)), chance.getrandbits(32))
        for number in range(2)
    ]
    workers = KilledWorkers(work, server.url, directory, arguments.workers, chance)
    for producer in producers:
        producer.start()
    steps = arguments.restarts + 1
    restarts = [arguments.messages * step // steps for step in range(1, steps)]
    restarted = 0
    queue = queue_on(server.url)
    stats = None
    while time.monotonic() - started < MOST_SECONDS:
        time.sleep(chance.uniform(0.05, 0.3))
        workers.kill_one()
        if restarts and workers.processed() >= restarts[0]:
            del restarts[0]
            server.kill()
            time.sleep(chance.uniform(0, 0.3))
            server.restart()
            restarted += 1
        if not any(producer.thread.is_alive() for producer in producers) and not restarts:
            try:
                found = queue.stats()
            except redis.RedisError:
                continue
            if not found.length + found.waiting + found.delayed:
                stats = found
                break
    seconds = time.monotonic() - started
    workers.kill_all()
    history = QueueHistory(int(LEASE * 1e9), deliveries=list(deliveries(directory, "worker-*")))
    for producer in producers:
        history.puts += producer.puts
    wrong = check(history)
    counts = Counter(each.number for each in history.deliveries if each.is_processed)
    outcomes = Counter(put.outcome for put in history.puts)
    table = Table("", "", show_header=False)
    for name, value in {
        "server": server.kind, "messages": arguments.messages, "processed": len(counts),
        "lost": sum("is lost" in each for each in wrong),
        "processed again": counts.total() - len(counts),
        "deliveries": len(history.deliveries), "puts acknowledged": outcomes["acknowledged"],
        "puts refused": outcomes["failed"], "puts perhaps done": outcomes["unknown"],
        "workers killed": workers.kills, "server restarts": restarted, "seconds": f"{seconds:.1f}",
    }.items():  # fmt: skip
        table.add_row(name, str(value))
    CONSOLE.print(table)
    wrong += [f"a producer failed: {each.failure!r}" for each in producers if each.failure]
    if stats is None:
        wrong.append("the queue was not emptied in time")
    elif stats.dead:
        wrong.append(f"{stats.dead} dead letters")
    return wrong + _out_of_order(history)


def _out_of_order(history: QueueHistory) -> list[str]:
    delayed = {put.number for put in history.puts if put.not_before is not None}
    by_worker: dict[str, list[tuple[int, ...]]] = defaultdict(list)
    for each in history.deliveries:
        if each.attempts == 1 and each.number not in delayed:
            by_worker[each.worker].append(tuple(map(int, each.id.split("-"))))
    return [
        f"{worker} received messages out of their order"
        for worker, received in by_worker.items()
        if received != sorted(received)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--restarts", type=int, default=3, help="of the server")
    parser.add_argument("--kind", choices=["valkey", "redis", "redis-8.2"], default="valkey")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    arguments = parser.parse_args()
    CONSOLE.print(f"seed {arguments.seed}")
    with (
        tempfile.TemporaryDirectory() as directory,
        running_server(arguments.kind, Path(directory), "--appendonly", "yes") as server,
    ):
        wrong = crash(arguments, server, Path(directory))
    for each in wrong:
        CONSOLE.print(each)
    CONSOLE.print("found something" if wrong else "found nothing")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
