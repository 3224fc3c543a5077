"""The crash test of durable queues: nothing is lost, whoever is killed and whenever.

    python -m tests.faults.queue_crash --messages 20000 --workers 4 --restarts 3 [--kind redis]

Producers put numbered messages while worker processes are killed at random, again and again, and
the server is killed and started anew. Every message has to be processed at least once, and those
that a consumer receives for the first time have to come in the order in which they were put.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from rich.console import Console
from rich.table import Table

from pyramid_baseplate_redis import DurableMessageQueue, is_retryable, pool_from_config

from ..support.servers import Server, running_server

LEASE = 2.0
MOST_ATTEMPTS = 1_000_000  # nobody is to be buried for being killed
MOST_SECONDS = 300
CONSOLE = Console()


def queue_on(url: str) -> DurableMessageQueue:
    pool = pool_from_config({"foo.url": url}, "foo.")
    return DurableMessageQueue("jobs", pool, lease=LEASE, max_attempts=MOST_ATTEMPTS)


def work(url: str, log: str, seed: int) -> None:
    """A worker: what it has processed it writes to a file, one line each, then acknowledges."""
    chance = random.Random(seed)
    queue = queue_on(url)
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        try:
            with queue.receive() as message:
                time.sleep(chance.random() * 0.003)
                line = f"{message.id} {message.attempts} {message.body.decode()}\n"
                os.write(written, line.encode())
        except redis.RedisError:
            time.sleep(0.05)  # the acknowledgement failed: it comes back


@dataclass
class Producer:
    """Puts its share of the numbers; what may have been put or not it puts again."""

    url: str
    numbers: list[int]
    seed: int
    repeated: int = 0
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
            try:
                if len(batch) == 1:
                    queue.put(str(batch[0]))
                else:
                    queue.put_many([str(number) for number in batch])
            except redis.RedisError as error:
                if is_retryable(error) is None:
                    self.repeated += len(batch)
                time.sleep(0.02)
                continue
            left = left[len(batch) :]
            time.sleep(0.0005 * len(batch))


class Workers:
    """Processes that are killed and replaced."""

    def __init__(self, url: str, directory: Path, size: int, chance: random.Random) -> None:
        # Forked from a process that has no threads.
        self._context: Any = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.faults.queue_crash"])
        self._url = url
        self._directory = directory
        self._chance = chance
        self._numbers = itertools.count()
        self._processes = [self._started() for _ in range(size)]
        self.kills = 0

    def _started(self) -> Any:
        log = str(self._directory / f"worker-{next(self._numbers)}")
        arguments = (self._url, log, self._chance.getrandbits(32))
        process = self._context.Process(target=work, args=arguments, daemon=True)
        process.start()
        return process

    def kill_one(self) -> None:
        number = self._chance.randrange(len(self._processes))
        self._processes[number].kill()
        self._processes[number].join()
        self._processes[number] = self._started()
        self.kills += 1

    def kill_all(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()

    def logs(self) -> list[list[tuple[str, int, int]]]:
        """What each of them has processed: identifiers, attempts and numbers."""
        found = []
        for path in self._directory.glob("worker-*"):
            lines = [line.split() for line in path.read_text().splitlines()]
            found.append([(entry, int(attempts), int(number)) for entry, attempts, number in lines])
        return found

    def processed(self) -> int:
        return sum(path.read_bytes().count(b"\n") for path in self._directory.glob("worker-*"))


def crash(arguments: argparse.Namespace, server: Server, directory: Path) -> list[str]:
    """Do it; what is wrong."""
    chance = random.Random(arguments.seed)
    started = time.monotonic()
    producers = [
        Producer(server.url, list(range(number, arguments.messages, 2)), chance.getrandbits(32))
        for number in range(2)
    ]
    workers = Workers(server.url, directory, arguments.workers, chance)
    for producer in producers:
        producer.start()
    steps = arguments.restarts + 1
    restarts = [arguments.messages * step // steps for step in range(1, steps)]
    restarted = 0
    queue = queue_on(server.url)
    dead = -1
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
                stats = queue.stats()
            except redis.RedisError:
                continue
            if not stats.length + stats.waiting:
                dead = stats.dead
                break
    seconds = time.monotonic() - started
    workers.kill_all()
    logs = workers.logs()
    counts = Counter(number for log in logs for _, _, number in log)
    repeated = sum(producer.repeated for producer in producers)
    table = Table("", "", show_header=False)
    for name, value in {
        "server": server.kind, "messages": arguments.messages, "processed": len(counts),
        "lost": arguments.messages - len(counts), "duplicates": counts.total() - len(counts),
        "of these perhaps put twice": repeated, "workers killed": workers.kills,
        "server restarts": restarted, "seconds": f"{seconds:.1f}",
    }.items():  # fmt: skip
        table.add_row(name, str(value))
    CONSOLE.print(table)
    wrong = [f"a producer failed: {each.failure!r}" for each in producers if each.failure]
    if dead:
        wrong.append("the queue wasn't emptied in time" if dead < 0 else f"{dead} dead letters")
    if len(counts) != arguments.messages:
        wrong.append(f"lost: {sorted(set(range(arguments.messages)) - counts.keys())[:20]}")
    for log in logs:
        first = [tuple(map(int, entry.split("-"))) for entry, attempts, _ in log if attempts == 1]
        if first != sorted(first):
            wrong.append("a consumer received messages out of their order")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--restarts", type=int, default=3, help="of the server")
    parser.add_argument("--kind", choices=["valkey", "redis"], default="valkey")
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
