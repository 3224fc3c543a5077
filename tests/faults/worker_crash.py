"""The crash test of workers: failing, delayed, unique, poisonous and hanging messages.

    python -m tests.faults.worker_crash --messages 20000 [--kind redis] [--on sentinel]

Two producers put messages while worker processes are killed again and again. The server is killed
and started anew, or a replica takes over. At the end, every good message was processed at least
once, none of them is a dead letter, each unique key was processed as one message, and the dead
letters are the poison.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import redis
from pyramid.config import Configurator
from rich.console import Console
from rich.table import Table

from pyramid_baseplate_redis import DurableMessageQueue
from pyramid_baseplate_redis.interfaces import IMessageQueueFactory, IRedisContextFactory
from pyramid_baseplate_redis.worker import work

from ..support.servers import running_server, wait_until
from ..support.topologies import running_cluster, running_sentinels

LEASE = 2
MAX_ATTEMPTS = 12  # a good message is killed from outside a few times at most
CONCURRENCY = 2
MOST_SECONDS = 900
WINDOW = timedelta(hours=1)
CONSOLE = Console()
#: How many messages of a thousand are of these kinds; the others are plain.
KINDS = {"fails": 50, "delayed": 100, "unique": 100, "poison": 1, "hangs": 2}


def registry_of(url: str) -> Any:
    """Return the registry of an application with the queue ``jobs``."""
    settings = {
        "foo.url": url, "foo.socket_timeout": "1 second", "foo.max_connections": "10",
        "jobs.queue": "foo", "jobs.durable": "true", "jobs.lease": f"{LEASE} seconds",
        "jobs.max_attempts": str(MAX_ATTEMPTS),
        "jobs.backoff": "100 milliseconds, 500 milliseconds",
    }  # fmt: skip
    with Configurator(settings=settings) as config:
        config.include("pyramid_baseplate_redis")
    return config.registry


def queue_of(registry: Any) -> DurableMessageQueue:
    factory = registry.getUtility(IMessageQueueFactory, "jobs")
    client = registry.getUtility(IRedisContextFactory, "foo").make_object_for_context("foo", None)
    queue: DurableMessageQueue = factory(client)
    return queue


def run_worker(url: str, log: str) -> None:
    """Process messages until the process is killed; write a line for each to the file ``log``."""
    logging.disable(logging.CRITICAL)  # thousands of handlers fail
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def handle(request: Any, message: Any) -> None:
        job = json.loads(message.body)
        kind = job["kind"]
        if kind == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "hangs" and message.attempts == 1:
            time.sleep(2 * LEASE)
        if kind == "fails" and message.attempts <= 2:
            raise ValueError("the database is away")
        os.write(written, f"{message.id} {job['number']}\n".encode())

    while True:
        work(registry_of(url), "jobs", handle, concurrency=CONCURRENCY)


class Workers:
    """Worker processes that are killed and replaced."""

    def __init__(self, url: str, folder: Path, size: int, chance: random.Random) -> None:
        # Forked from a process that has no threads.
        self._context: Any = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.faults.worker_crash"])
        self._url, self._folder, self._chance = url, folder, chance
        self._numbers = itertools.count()
        self._processes = [self._started() for _ in range(size)]
        self.kills = 0
        self.deaths = 0

    def _started(self) -> Any:
        log = str(self._folder / f"worker-{next(self._numbers)}")
        process = self._context.Process(target=run_worker, args=(self._url, log), daemon=True)
        process.start()
        return process

    def replace_dead(self) -> None:
        for number, process in enumerate(self._processes):
            if not process.is_alive():
                self.deaths += 1
                self._processes[number] = self._started()

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

    def processed(self) -> list[tuple[str, int]]:
        """Return the identifier and the number of each message that was processed."""
        found = []
        for path in self._folder.glob("worker-*"):
            for line in path.read_text().splitlines():
                entry, number = line.split()
                found.append((entry, int(number)))
        return found


@dataclass
class Producer:
    """Puts its messages. One that may have been put or not is put again."""

    registry: Any
    jobs: list[dict[str, Any]]
    chance: random.Random
    running: threading.Event
    ids: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    repeated: int = 0
    is_idle: bool = False
    failure: BaseException | None = None
    thread: threading.Thread = field(init=False)

    def start(self) -> None:
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            queue = queue_of(self.registry)
            for job in self.jobs:
                self.is_idle = True
                self.running.wait()
                self.is_idle = False
                self._put(queue, job)
        except BaseException as error:
            self.failure = error
        self.is_idle = True

    def _put(self, queue: DurableMessageQueue, job: dict[str, Any]) -> None:
        options: dict[str, Any] = {}
        if job["kind"] == "delayed":
            options["delay"] = timedelta(seconds=self.chance.uniform(0, 3))
        elif job["kind"] == "unique":
            options.update(unique=f"invoice {job['number']}", unique_for=WINDOW)
        while True:
            try:
                put = queue.put(json.dumps(job), **options)
            except redis.RedisError:
                self.repeated += 1
                time.sleep(0.02)
            else:
                break
        if job["kind"] == "unique":
            self.ids[str(job["number"])].add(str(put))
        time.sleep(0.002)


@contextmanager
def topology(on: str, kind: str, folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Start servers; return the URL, and the function that makes them fail and come back."""
    options = ("--appendonly", "yes")
    if on == "server":
        with running_server(kind, folder, *options) as server:

            def restart() -> None:
                server.kill()
                time.sleep(0.3)
                server.restart()

            yield server.url, restart
    elif on == "sentinel":
        with running_sentinels(kind, folder, *options, down_after=5000) as sentinels:

            def fail_over() -> None:
                old = sentinels.failover()
                sentinels.wait_for_new_primary(old.port, 60)
                sentinels.wait_until_healthy(60)

            yield sentinels.url, fail_over
    else:
        with running_cluster(kind, folder, *options) as cluster:

            def fail_over() -> None:
                old = cluster.node_of("{jobs}:messages")
                cluster.replicas(old)[0].client.execute_command("CLUSTER FAILOVER")
                wait_until(lambda: cluster.node_of("{jobs}:messages") != old, 30)
                cluster.wait_until_healthy(60)

            yield cluster.url, fail_over


def jobs_of(messages: int, chance: random.Random) -> list[dict[str, Any]]:
    kinds = [*KINDS, "plain"]
    weights = [*KINDS.values(), 1000 - sum(KINDS.values())]
    drawn = chance.choices(kinds, weights, k=messages)
    return [{"number": number, "kind": kind} for number, kind in enumerate(drawn)]


def crash(arguments: argparse.Namespace, folder: Path) -> list[str]:
    """Run the test, print the figures, and return what is wrong."""
    chance = random.Random(arguments.seed)
    jobs = jobs_of(arguments.messages, chance)
    kinds = {job["number"]: job["kind"] for job in jobs}
    unique = [job for job in jobs if job["kind"] == "unique"]
    running = threading.Event()
    running.set()
    with topology(arguments.on, arguments.kind, folder) as (url, fail):
        started = time.monotonic()
        registry = registry_of(url)
        # Each unique message is put by both producers.
        shares = [jobs[::2] + unique, jobs[1::2] + unique]
        for share in shares:
            chance.shuffle(share)
        producers = [Producer(registry, share, chance, running) for share in shares]
        workers = Workers(url, folder, arguments.workers, chance)
        for producer in producers:
            producer.start()
        steps = arguments.restarts + 1
        restarts = [arguments.messages * step // steps for step in range(1, steps)]
        queue = queue_of(registry)
        dead: list[Any] | None = None
        while time.monotonic() - started < MOST_SECONDS:
            time.sleep(chance.uniform(0.05, 0.3))
            workers.replace_dead()
            if any(producer.thread.is_alive() for producer in producers):
                workers.kill_one()
            if restarts and len(workers.processed()) >= restarts[0]:
                del restarts[0]
                if arguments.on != "server":
                    # A replica that takes over lacks what it has not received yet.
                    running.clear()
                    wait_until(lambda: all(producer.is_idle for producer in producers), 60)
                    time.sleep(0.5)
                fail()
                running.set()
            try:
                stats = queue.stats()
                if not any(producer.thread.is_alive() for producer in producers) and not (
                    stats.length or stats.delayed or stats.waiting or restarts
                ):
                    dead = queue.dead_letters(1000)
                    break
            except redis.RedisError:
                continue
        seconds = time.monotonic() - started
        workers.kill_all()
        return _judged(arguments, kinds, producers, workers, dead, seconds, len(restarts))


def _judged(
    arguments: argparse.Namespace, kinds: dict[int, str], producers: list[Producer],
    workers: Workers, dead: list[Any] | None, seconds: float, not_done: int,
) -> list[str]:  # fmt: skip
    processed = workers.processed()
    counts = Counter(number for _, number in processed)
    good = {number for number, kind in kinds.items() if kind != "poison"}
    by_number: dict[int, set[str]] = defaultdict(set)
    for entry, number in processed:
        by_number[number].add(entry)
    buried = [json.loads(letter.body) for letter in dead or []]
    good_buried = [job for job in buried if job["kind"] != "poison"]
    twice = [n for n, kind in kinds.items() if kind == "unique" and len(by_number[n]) > 1]
    lost = good - counts.keys() - {job["number"] for job in buried}
    table = Table("", "", show_header=False)
    for name, value in {
        "server": f"{arguments.kind}, {arguments.on}", "messages": arguments.messages,
        "processed": len(counts), "lost": len(lost), "good ones buried": len(good_buried),
        "poison": sum(kind == "poison" for kind in kinds.values()), "dead letters": len(buried),
        "unique ones processed twice": len(twice), "duplicates": counts.total() - len(counts),
        "puts repeated": sum(producer.repeated for producer in producers),
        "workers killed": workers.kills, "workers killed by poison": workers.deaths,
        "restarts or failovers": arguments.restarts - not_done, "seconds": f"{seconds:.1f}",
    }.items():  # fmt: skip
        table.add_row(name, str(value))
    CONSOLE.print(table)
    wrong = [f"a producer failed: {each.failure!r}" for each in producers if each.failure]
    if dead is None:
        wrong.append("the queue was not emptied in time")
    if lost:
        wrong.append(f"lost: {sorted(lost)[:20]}")
    if good_buried:
        wrong.append(f"good messages were buried: {good_buried[:20]}")
    if twice:
        wrong.append(f"unique messages were processed twice: {twice[:20]}")
    poison = {number for number, kind in kinds.items() if kind == "poison"}
    if dead is not None and {job["number"] for job in buried} < poison:
        wrong.append("a poisonous message is not a dead letter")
    ids: dict[str, set[str]] = defaultdict(set)
    for producer in producers:
        for key, found in producer.ids.items():
            ids[key] |= found
    if several := [key for key, found in ids.items() if len(found) > 1]:
        wrong.append(f"puts of one key returned several identifiers: {several[:20]}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--restarts", type=int, default=3, help="of the server, or failovers")
    parser.add_argument("--kind", default="valkey", choices=["valkey", "redis", "redis-8.2"])
    parser.add_argument("--on", choices=["server", "sentinel", "cluster"], default="server")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    arguments = parser.parse_args()
    # Each process imports this module, which runs as __main__ here.
    os.environ["PYTHONWARNINGS"] = "ignore::RuntimeWarning:runpy"
    CONSOLE.print(f"seed {arguments.seed}")
    with tempfile.TemporaryDirectory() as folder:
        wrong = crash(arguments, Path(folder))
    for each in wrong:
        CONSOLE.print(each)
    CONSOLE.print("found something" if wrong else "found nothing")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
