"""The crash test of workers: failing, delayed, unique, poisonous and hanging messages.

    python -m tests.faults.worker_crash --messages 20000 [--kind redis] [--on sentinel]

Two producers put messages while worker processes are killed again and again. The server is killed
and started anew, or a replica takes over. All record what they asked and got, and
``tests.histories.queue_contract`` decides whether the queue has kept its contract. Besides, no good
message is a dead letter, and the dead letters are the poison.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import redis
from pyramid.config import Configurator
from rich.console import Console
from rich.table import Table

from pyramid_baseplate_redis import DurableMessageQueue, is_retryable
from pyramid_baseplate_redis.interfaces import IMessageQueueFactory, IRedisContextFactory
from pyramid_baseplate_redis.worker import work

from ..histories.journal import Journal, deliveries
from ..histories.queue_contract import Put, QueueHistory, check
from ..support.servers import running_server, wait_until
from ..support.topologies import running_cluster, running_sentinels
from .killed_workers import KilledWorkers

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


def run_worker(url: str, path: str, seed: int) -> None:
    """Process messages until the process is killed."""
    logging.disable(logging.CRITICAL)  # thousands of handlers fail
    journal = Journal(path)

    def handle(request: Any, message: Any) -> None:
        job = json.loads(message.body)
        kind = job["kind"]
        leased_at = int(message.leased_at * 1e9)
        journal.received(message.id, job["number"], message.attempts, leased_at)
        if kind == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "hangs" and message.attempts == 1:
            time.sleep(2 * LEASE)
        if kind == "fails" and message.attempts <= 2:
            journal.returned(message.id)
            raise ValueError("the database is away")
        journal.processed(message.id)

    while True:
        work(registry_of(url), "jobs", handle, concurrency=CONCURRENCY)


@dataclass
class Producer:
    """Puts its messages. One that may have been put or not is put again."""

    registry: Any
    jobs: list[dict[str, Any]]
    chance: random.Random
    running: threading.Event
    puts: list[Put] = field(default_factory=list)
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
        seconds = 0.0
        unique = f"invoice {job['number']}" if job["kind"] == "unique" else None
        if job["kind"] == "delayed":
            seconds = self.chance.uniform(0, 3)
            options["delay"] = timedelta(seconds=seconds)
        elif unique:
            options.update(unique=unique, unique_for=WINDOW)
        while True:
            not_before = time.monotonic_ns() + int(seconds * 1e9) if seconds else None
            record = Put(job["number"], unique=unique, not_before=not_before)
            self.puts.append(record)
            try:
                put = queue.put(json.dumps(job), **options)
            except redis.RedisError as error:
                if is_retryable(error) is not None:
                    record.outcome = "failed"
                time.sleep(0.02)
            else:
                break
        record.id, record.outcome = str(put), "acknowledged"
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
                # Sentinels refuse a failover soon after another one, and may give one up.
                deadline = time.monotonic() + 120
                while True:
                    with suppress(redis.ResponseError, AssertionError):
                        old = sentinels.failover()
                        sentinels.wait_for_new_primary(old.port, 20)
                        break
                    if time.monotonic() > deadline:
                        raise TimeoutError("the Sentinels did not fail over")
                    time.sleep(1)
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
        workers = KilledWorkers(run_worker, url, folder, arguments.workers, chance)
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
            if restarts and workers.processed() >= restarts[0]:
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
    history = QueueHistory(LEASE * 10**9, deliveries=list(deliveries(folder, "worker-*")))
    for producer in producers:
        history.puts += producer.puts
    buried = [json.loads(letter.body) for letter in dead or []]
    history.dead = {job["number"] for job in buried}
    _print_figures(arguments, kinds, history, workers, seconds, len(restarts))
    wrong = check(history)
    wrong += [f"a producer failed: {each.failure!r}" for each in producers if each.failure]
    if dead is None:
        return [*wrong, "the queue was not emptied in time"]
    wrong += [f"a good message is a dead letter: {job}" for job in buried if is_good(job["kind"])]
    poison = {number for number, kind in kinds.items() if not is_good(kind)}
    wrong += [f"poison {number} is no dead letter" for number in sorted(poison - history.dead)]
    return wrong


def is_good(kind: str) -> bool:
    return kind != "poison"


def _print_figures(
    arguments: argparse.Namespace, kinds: dict[int, str], history: QueueHistory,
    workers: KilledWorkers, seconds: float, not_done: int,
) -> None:  # fmt: skip
    counts = Counter(each.number for each in history.deliveries if each.is_processed)
    outcomes = Counter(put.outcome for put in history.puts)
    table = Table("", "", show_header=False)
    for name, value in {
        "server": f"{arguments.kind}, {arguments.on}", "messages": arguments.messages,
        "processed": len(counts), "processed again": counts.total() - len(counts),
        "deliveries": len(history.deliveries),
        "poison": len(kinds) - sum(map(is_good, kinds.values())),
        "dead letters": len(history.dead), "puts acknowledged": outcomes["acknowledged"],
        "puts refused": outcomes["failed"], "puts perhaps done": outcomes["unknown"],
        "workers killed": workers.kills, "workers killed by poison": workers.deaths,
        "restarts or failovers": arguments.restarts - not_done, "seconds": f"{seconds:.1f}",
    }.items():  # fmt: skip
        table.add_row(name, str(value))
    CONSOLE.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--restarts", type=int, default=3, help="of the server, or failovers")
    parser.add_argument("--kind", default="valkey", choices=["valkey", "redis", "redis-8.2"])
    parser.add_argument("--on", choices=["server", "sentinel", "cluster"], default="server")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    arguments = parser.parse_args()
    CONSOLE.print(f"seed {arguments.seed}")
    with tempfile.TemporaryDirectory() as folder:
        wrong = crash(arguments, Path(folder))
    for each in wrong:
        CONSOLE.print(each)
    CONSOLE.print("found something" if wrong else "found nothing")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
