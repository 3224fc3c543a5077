"""The faults of a soak: one every few seconds, with quiet times in between."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import redis

from ..support.servers import free_port, wait_until
from .deployment import Deployment
from .records import FaultSpan, Records

LASTS = 3.0  # seconds of a fault
LOADING_KEYS = 2000


class Faults:
    """Makes one fault after another, in an order that a seed chooses anew for each round.

    :param burst: sends many requests at once, and returns when they are answered.
    :param quiet: seconds between two faults.
    """

    def __init__(
        self,
        running: Deployment,
        records: Records,
        now: Callable[[], float],
        burst: Callable[[], None],
        seed: int,
        quiet: float,
    ) -> None:
        self._running = running
        self._records = records
        self._now = now
        self._burst = burst
        self._random = random.Random(seed)
        self._quiet = quiet
        self.kinds: dict[str, Callable[[threading.Event], None]] = {
            "killed": self._killed,
            "loading": self._loading,
            "frozen": self._frozen,
            "paused": self._paused,
            "clients killed": self._clients_killed,
            "connections reset": self._connections_reset,
            "refused": self._refused,
            "slow replies": self._slow_replies,
            "cut replies": self._cut_replies,
            "lost replies": self._lost_replies,
            "read-only": self._read_only,
            "full memory": self._full_memory,
            "burst": self._pool_exhausted,
        }

    def make(self, stopping: threading.Event, until: float) -> None:
        """Make faults until a time. The last quiet time is as long as the others."""
        while not stopping.is_set():
            for name in self._random.sample(sorted(self.kinds), len(self.kinds)):
                if stopping.wait(self._quiet) or self._now() + LASTS + self._quiet > until:
                    return
                fault = FaultSpan(name, self._now(), float("inf"))
                self._records.faults.append(fault)
                try:
                    self.kinds[name](stopping)
                except Exception as error:
                    text = f"the fault {name!r} could not be made: {type(error).__name__}: {error}"
                    self._records.errors.append(text)
                finally:
                    fault.ended = self._now()

    @contextmanager
    def _outside(self) -> Iterator[redis.Redis]:
        with self._running.server.outside() as client:
            yield client

    def _killed(self, stopping: threading.Event) -> None:
        self._running.server.kill()
        stopping.wait(LASTS)
        self._running.server.start()
        self._wait_until_ready()

    def _loading(self, stopping: threading.Event) -> None:
        with self._outside() as client:
            client.mset({f"soak:loaded:{number}": "x" * 100 for number in range(LOADING_KEYS)})
            # Without a rewrite, the file has every write since the start, and loading takes ever
            # longer.
            client.bgrewriteaof()
            wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], 30)
            keys = client.dbsize()
        self._running.server.kill()
        slowly = str(int(LASTS / keys * 1_000_000))  # microseconds for each key
        self._running.server.start(
            "--key-load-delay", slowly, "--loading-process-events-interval-bytes", "1024"
        )
        self._wait_until_ready()

    def _frozen(self, stopping: threading.Event) -> None:
        os.kill(self._running.server.pid, signal.SIGSTOP)
        try:
            stopping.wait(LASTS)
        finally:
            os.kill(self._running.server.pid, signal.SIGCONT)
        self._wait_until_ready()

    def _paused(self, stopping: threading.Event) -> None:
        with self._outside() as client:
            client.client_pause(int(LASTS * 1000))
        stopping.wait(LASTS)

    def _clients_killed(self, stopping: threading.Event) -> None:
        with self._outside() as client:
            for _ in range(int(LASTS / 0.3)):
                client.client_kill_filter(_type="normal", skipme=True)
                client.client_kill_filter(_type="pubsub", skipme=True)
                stopping.wait(0.3)

    def _connections_reset(self, stopping: threading.Event) -> None:
        for _ in range(int(LASTS / 0.3)):
            self._running.proxy.reset_connections()
            stopping.wait(0.3)

    def _refused(self, stopping: threading.Event) -> None:
        self._running.proxy.refuse(True)
        self._running.proxy.reset_connections()
        try:
            stopping.wait(LASTS)
        finally:
            self._running.proxy.refuse(False)

    def _slow_replies(self, stopping: threading.Event) -> None:
        self._running.proxy.delay(0.1)
        try:
            stopping.wait(LASTS)
        finally:
            self._running.proxy.delay(0)

    def _cut_replies(self, stopping: threading.Event) -> None:
        self._running.proxy.cut_reply_after(20)
        try:
            stopping.wait(LASTS)
        finally:
            self._running.proxy.cut_reply_after(None)

    def _lost_replies(self, stopping: threading.Event) -> None:
        self._running.proxy.lose_replies(0.3)
        try:
            stopping.wait(LASTS)
        finally:
            self._running.proxy.lose_replies(False)

    def _read_only(self, stopping: threading.Event) -> None:
        """Make the server a replica of a primary that does not exist, for the time of the fault."""
        with self._outside() as client:
            client.replicaof("127.0.0.1", free_port())
            try:
                stopping.wait(LASTS)
            finally:
                client.replicaof("NO", "ONE")

    def _full_memory(self, stopping: threading.Event) -> None:
        with self._outside() as client:
            client.config_set("maxmemory", 1)
            try:
                stopping.wait(LASTS)
            finally:
                client.config_set("maxmemory", 0)

    def _pool_exhausted(self, stopping: threading.Event) -> None:
        """Send bursts while each connection of the pools is busy for longer."""
        self._running.proxy.delay(0.2)
        try:
            self._burst()
        finally:
            self._running.proxy.delay(0)

    def _wait_until_ready(self) -> None:
        def is_ready() -> bool:
            with suppress(redis.RedisError), self._outside() as client:
                return bool(client.ping())
            return False

        wait_until(is_ready, 30)
