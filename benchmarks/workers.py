"""Measure the workers of durable queues as they ship: ours, dramatiq's and RQ's.

Run ``python benchmarks/workers.py``. The documents explain how to read the table.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import dramatiq
import psutil
import redis
import rq
from dramatiq.brokers.redis import RedisBroker
from measuring import Spread, arguments, console, running_valkey
from rich.table import Table
from workers_app import INI, RECORDS, URL, process

from pyramid_baseplate_redis import DurableMessageQueue, pool_from_config

ROUNDS = 15
MESSAGES = 1000  # of one worker in one round
SLOW_MESSAGES = 60  # of RQ's worker, which forks a process for each job
BODY = "x" * 100
SECONDS = 60.0
FOLDER = Path(__file__).parent
PREDIS = str(Path(sys.executable).with_name("predis"))
THREADS = 8  # dramatiq's default

OURS = "ours, 8 threads"
RECORDED = "ours, 8 threads, recorded"
OURS_TWO = "ours, 2 processes of 8 threads"
DRAMATIQ = "dramatiq, 8 threads"
DRAMATIQ_TWO = "dramatiq, 2 processes of 8 threads"
RQ = "RQ"
RQ_SIMPLE = "RQ, SimpleWorker"
TARGETS = {OURS: (1.5, DRAMATIQ), OURS_TWO: (1.5, DRAMATIQ_TWO), RECORDED: (1.0, DRAMATIQ)}


@dataclass
class Worker:
    """A worker's processes, which are stopped while it is not measured.

    :param put: puts messages on the worker's queue.
    :param left: returns the number of messages that are not processed yet.
    """

    command: Sequence[str]
    put: Callable[[int], object]
    left: Callable[[], int]
    environment: dict[str, str] = field(default_factory=dict)
    messages: int = MESSAGES
    seconds: list[float] = field(default_factory=list)  # of one message, one for each round
    cpu: list[float] = field(default_factory=list)

    @contextmanager
    def started(self, folder: str) -> Iterator[None]:
        path = os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path, **self.environment}
        self._log = os.path.join(folder, f"log-{id(self)}")
        with (
            open(self._log, "wb") as log,
            subprocess.Popen(
                [sys.executable, *self.command], env=environment, stdout=log, stderr=log,
                start_new_session=True,
            ) as child,
        ):  # fmt: skip
            self._process = psutil.Process(child.pid)
            try:
                self.put(self.messages // 10)  # until they are processed, the worker starts
                self._wait()
                self._signal("suspend")
                yield
            finally:
                self._signal("resume")
                child.terminate()
                try:
                    child.wait(SECONDS)
                except subprocess.TimeoutExpired:
                    child.kill()

    def run(self) -> None:
        """Run one round: put messages while the worker is stopped, and let it process them."""
        self.put(self.messages)
        before = self._cpu_seconds()
        started = time.perf_counter()
        self._signal("resume")
        self._wait()
        seconds = time.perf_counter() - started
        cpu = self._cpu_seconds() - before
        self._signal("suspend")
        self.seconds.append(seconds / self.messages)
        self.cpu.append(cpu / self.messages)

    def _wait(self) -> None:
        deadline = time.monotonic() + SECONDS
        while self.left():
            if not self._process.is_running() or time.monotonic() > deadline:
                text = f"{self.command}: {self.left()} messages are left"
                raise AssertionError(f"{text}\n{Path(self._log).read_text()[-2000:]}")
            time.sleep(0.002)

    def _processes(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]

    def _signal(self, name: str) -> None:
        for each in self._processes():
            with suppress(psutil.NoSuchProcess):  # RQ's process for a job has ended
                getattr(each, name)()

    def _cpu_seconds(self) -> float:
        total = 0.0
        for each in self._processes():
            with suppress(psutil.NoSuchProcess):
                times = each.cpu_times()
                total += times.user + times.system
                total += getattr(times, "children_user", 0) + getattr(times, "children_system", 0)
        return total


def ours(url: str, ini: str, processes: int = 1, recorded: bool = False) -> Worker:
    """Return ``predis work`` with the queue ``jobs`` of the .ini file."""
    queue = DurableMessageQueue("jobs", pool_from_config({"foo.url": url}, "foo."))
    command = [PREDIS, "work", ini, "jobs", "workers_app:handle", "--concurrency", str(THREADS)]
    if processes > 1:
        command += ["--processes", str(processes)]
    return Worker(
        command,
        lambda count: queue.put_many([BODY] * count),
        lambda: queue.stats().length,
        {RECORDS: "1"} if recorded else {},
    )  # fmt: skip


def dramatiqs(url: str, processes: int = 1) -> Worker:
    """Return ``dramatiq`` with its default middleware."""
    broker = RedisBroker(url=url)
    actor = dramatiq.actor(process, broker=broker)

    def put(count: int) -> None:
        for _ in range(count):
            actor.send(BODY)

    return Worker(
        ["-m", "dramatiq", "workers_app", "--processes", str(processes), "--threads", str(THREADS)],
        put, lambda: broker.do_qsize("default"), {URL: url},
    )  # fmt: skip


def rqs(url: str, worker_class: str, messages: int) -> Worker:
    """Return ``rq worker``."""
    connection = redis.Redis.from_url(url)
    queue = rq.Queue("rq", connection=connection)
    running = rq.registry.StartedJobRegistry(queue=queue)

    def put(count: int) -> None:
        for _ in range(count):
            queue.enqueue(process, BODY, result_ttl=0)

    return Worker(
        ["-m", "rq.cli", "worker", "--url", url, "--worker-class", worker_class, "rq"],
        put, lambda: queue.count + running.count, messages=messages,
    )  # fmt: skip


def workers(urls: Sequence[str], folder: str) -> dict[str, Worker]:
    """Return the workers; each has a database of its own."""
    inis = []
    for number, url in enumerate(urls):
        inis.append(os.path.join(folder, f"{number}.ini"))
        Path(inis[-1]).write_text(INI.format(url=url), encoding="utf-8")
    return {
        DRAMATIQ: dramatiqs(urls[0]),
        DRAMATIQ_TWO: dramatiqs(urls[1], 2),
        OURS: ours(urls[2], inis[2]),
        OURS_TWO: ours(urls[3], inis[3], 2),
        RECORDED: ours(urls[4], inis[4], recorded=True),
        RQ: rqs(urls[5], "rq.worker.Worker", SLOW_MESSAGES),
        RQ_SIMPLE: rqs(urls[6], "rq.worker.SimpleWorker", MESSAGES // 2),
    }


def show(measured: dict[str, Worker]) -> list[str]:
    """Print the table and return the missed targets."""
    table = Table(title="Messages a second", title_justify="left")
    table.add_column("")
    for heading in ("messages/s", "of dramatiq", "quartiles", "CPU ms a message", "target"):
        table.add_column(heading, justify="right")
    missed = []
    for name, worker in measured.items():
        factor, other = TARGETS.get(name, (0.0, DRAMATIQ))
        pairs = zip(measured[other].seconds, worker.seconds, strict=True)
        ratio = Spread.of([theirs / mine for theirs, mine in pairs])
        table.add_row(
            name, f"{1 / statistics.median(worker.seconds):,.0f}", *ratio.shown(),
            f"{statistics.median(worker.cpu) * 1000:.2f}", f"{factor:.2f}" if factor else "",
        )  # fmt: skip
        if ratio.median < factor:
            missed.append(f"{name}: {ratio.median:.2f} of {other}, target {factor:.2f}")
    console.print(table)
    return missed


def main() -> int:
    chosen = arguments(__doc__, ROUNDS)
    with ExitStack() as stack:
        url = stack.enter_context(running_valkey("free"))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        base = url.removesuffix("0")
        measured = workers([f"{base}{number}" for number in range(7)], folder)
        for worker in measured.values():
            stack.enter_context(worker.started(folder))
        order = list(measured.values())
        shuffle = random.Random(0).shuffle
        for _ in range(chosen.rounds):
            shuffle(order)
            for worker in order:
                worker.run()
    missed = show(measured)
    for each in missed:
        console.print(f"missed: {each}")
    return 1 if chosen.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
