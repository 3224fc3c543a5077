"""The worker with the command of its systemd unit: parallel work, signals, spans, connections."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import redis

from pyramid_baseplate_redis import DurableMessageQueue

from ...support.collector import collector
from ...support.servers import Server, wait_until
from .deployment import CODE, PASSWORD, Exports, copied_code, environment, program, spans_by_process
from .units import setting

pytestmark = pytest.mark.slow("starts workers, whose messages take a second each")

MESSAGES = 100


@dataclass
class Worker:
    """The processes of ``predis work``, and the queue that they process."""

    process: subprocess.Popen[bytes]
    queue: DurableMessageQueue
    outside: redis.Redis
    received: Exports
    log: Path

    @property
    def handled(self) -> int:
        return int(self.outside.scard("sent"))

    @property
    def busy(self) -> int:
        """Return how many processes have messages under way."""
        consumers = self.outside.xinfo_consumers(self.queue.key, "workers")
        return sum(consumer["pending"] > 0 for consumer in consumers)

    def processes(self) -> list[psutil.Process]:
        first = psutil.Process(self.process.pid)
        return [first, *first.children()]


@pytest.fixture
def worker(guarded: Server, tmp_path: Path) -> Iterator[Worker]:
    """Start the worker as the unit does. It has messages for several seconds."""
    _, *arguments = shlex.split(setting(CODE / "myapp-worker.service", "Service", "ExecStart"))
    code = copied_code(tmp_path, 0)
    with (
        redis.Redis(port=guarded.port) as outside,
        collector() as (endpoint, received),
        (tmp_path / "log").open("wb") as log,
    ):
        outside.flushall()
        queue = DurableMessageQueue("jobs", outside)
        for number in range(MESSAGES):
            queue.put(json.dumps({"invoice": number}))
        process = subprocess.Popen(
            [program("predis"), *arguments], cwd=code, stdout=log, stderr=log,
            env=environment(code, guarded, endpoint),
        )  # fmt: skip
        worker = Worker(process, queue, outside, received, tmp_path / "log")
        try:
            wait_until(lambda: worker.handled >= 4 and worker.busy == 2, 60)
            yield worker
        finally:
            for each in psutil.Process(process.pid).children() if process.poll() is None else []:
                each.kill()
            process.kill()
            process.wait()


def test_a_stop_finishes_what_was_begun_and_leaves_the_rest_to_others(worker: Worker) -> None:
    connections = [client for client in worker.outside.client_list() if client["name"] == "myapp"]
    worker.process.send_signal(signal.SIGTERM)

    assert worker.process.wait(40) == 0
    stats = worker.queue.stats()
    assert stats.length == MESSAGES - worker.handled > 0
    assert stats.in_flight == 0
    exported = spans_by_process(worker.received, "process jobs")
    assert sum(exported.values()) == worker.handled
    assert len([process for process, count in exported.items() if count]) == 2
    # Each of two processes has four threads, and one that acknowledges and renews leases.
    assert 2 <= len(connections) <= 2 * (4 + 1)
    assert PASSWORD not in worker.log.read_text()
    assert PASSWORD not in str(worker.received)


def test_a_signal_to_every_process_ends_the_grace_period(worker: Worker) -> None:
    """The unit's KillMode=mixed avoids this: systemd's default signals every process."""
    for process in reversed(worker.processes()):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)

    assert worker.process.wait(40) == 3
    assert "given back" in worker.log.read_text()
