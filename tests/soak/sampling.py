"""Samples of what the processes use, once a second."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

import psutil
import redis

from .deployment import Deployment
from .records import Clients, Records, Sample

EVERY = 1.0
_NAP = 0.05


class Sampler:
    """Samples each process and the server's list of clients."""

    def __init__(self, running: Deployment, records: Records, now: Callable[[], float]) -> None:
        self._running = running
        self._records = records
        self._now = now

    def sample(self, stopping: threading.Event) -> None:
        """Sample until the event is set."""
        gone: set[str] = set()
        while not stopping.wait(EVERY):
            for name, process in self._running.processes.items():
                try:
                    self._records.samples.append(self._sample_of(name, process))
                except psutil.Error as error:
                    if name not in gone:
                        gone.add(name)
                        self._records.errors.append(
                            f"the process {name} ended at {self._now():.0f} s ({error})"
                        )
            self._list_clients()

    def _sample_of(self, name: str, process: psutil.Process) -> Sample:
        at = self._now()
        with process.oneshot():
            memory = process.memory_full_info()
            threads, descriptors = process.num_threads(), process.num_fds()
        sockets = sum(
            bool(each.raddr) and each.raddr.port == self._running.proxy.port
            for each in process.net_connections("tcp")
        )
        megabyte = 1 << 20
        return Sample(
            at, name, process.pid, memory.rss / megabyte, memory.uss / megabyte, descriptors,
            threads, sockets,
        )  # fmt: skip

    def _list_clients(self) -> None:
        try:
            with self._running.server.outside() as client:
                names = Counter(each["name"] for each in client.client_list())
        except redis.RedisError:
            return  # a fault
        names.pop("outside", None)
        self._records.clients.append(Clients(self._now(), dict(names)))

    def watch_lateness(self, stopping: threading.Event) -> None:
        """Record the latest that a thread of this process woke up, for each second."""
        while not stopping.is_set():
            latest = 0.0
            for _ in range(int(1 / _NAP)):
                begun = time.monotonic()
                time.sleep(_NAP)
                latest = max(latest, time.monotonic() - begun - _NAP)
            self._records.lateness.append(latest)
