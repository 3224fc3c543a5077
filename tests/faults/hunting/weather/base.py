"""Faults that each topology has: of connections, of replies, and of a server that pauses."""

from __future__ import annotations

import contextlib
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import redis

from ....support.servers import Server
from ...proxy import Proxy

Events = dict[Callable[[], None], int]

# An operator's command may fail while the servers are in trouble; the next event is tried then.
FAILURES = (redis.RedisError, AssertionError, OSError)


class Weather:
    """Servers, a lossy way to each of them, and two threads that make them fail.

    One thread makes short faults, such as lost replies. The other one makes those that take
    seconds, such as failovers.

    :param seed: chooses the faults.
    :param fails: whether there are any.
    """

    seconds_between_events = 0.02, 0.15
    seconds_between_outages = 0.5, 2.5

    def __init__(self, seed: int, fails: bool) -> None:
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.nodes: Sequence[Server] = ()
        self.proxies: dict[int, Proxy] = {}
        self.losses: list[tuple[int, int]] = []
        self._fails = fails
        self._admins: dict[int, redis.Redis] = {}
        self._stop = threading.Event()

    @contextlib.contextmanager
    def servers(self, directory: Path) -> Iterator[dict[str, Any]]:
        """Run the servers; the value says where they are."""
        raise NotImplementedError
        yield {}

    def events(self) -> Events:
        """Return the short faults, with their weights."""
        return {
            self.kill_some: 40, self.kill_all: 2, self.unblock: 10, self.lose_replies: 25,
            self.cut_replies: 15, self.reset: 3, self.refuse: 2, self.freeze_proxy: 2,
            self.pause: 2,
        }  # fmt: skip

    def outages(self) -> Events:
        """Return the faults that take seconds, with their weights."""
        return {}

    def settle(self) -> None:
        """Repair all servers, and wait until they work together again."""

    def watch(self) -> None:
        """Note failovers that the hunt has not started. Called ten times a second."""

    def run(self, directory: Path) -> None:
        """Say where the servers are, make weather until a line says ``calm``, and end."""
        with self.servers(directory) as places, contextlib.ExitStack() as stack:
            for node in self.nodes:
                self.proxies[node.port] = stack.enter_context(Proxy(node.port))
                self._admins[node.port] = redis.Redis(
                    port=node.port, socket_timeout=1, client_name="admin"
                )
            ways = {port: proxy.port for port, proxy in self.proxies.items()}
            _say({**places, "nodes": [node.port for node in self.nodes], "proxies": ways})
            loops = [
                threading.Thread(
                    target=self._make, args=(self.events, self.seconds_between_events)
                ),
                threading.Thread(
                    target=self._make, args=(self.outages, self.seconds_between_outages)
                ),
                threading.Thread(target=self._watch),
            ]
            for loop in loops:
                loop.start()
            sys.stdin.readline()
            self._stop.set()
            for loop in loops:
                loop.join()
            self.settle()
            self.counts["replies lost"] = sum(proxy.lost for proxy in self.proxies.values())
            _say({"counts": dict(self.counts), "losses": self.losses})
            sys.stdin.readline()

    def _make(self, choices: Callable[[], Events], pauses: tuple[float, float]) -> None:
        events = choices()
        while events and self._fails and not self._stop.wait(self.random.uniform(*pauses)):
            (event,) = self.random.choices([*events], [*events.values()])
            name = event.__name__.replace("_", " ")
            try:
                event()
                self.counts[name] += 1
            except FAILURES as error:
                self.counts["failed events"] += 1
                sys.stderr.write(f"{name}: {str(error)[:300]}\n")

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            self.watch()

    @contextlib.contextmanager
    def losing(self) -> Iterator[None]:
        """Note the time of an outage that may lose acknowledged writes."""
        started = time.monotonic_ns()
        try:
            yield
        finally:
            self.losses.append((started, time.monotonic_ns()))

    def wait(self, least: float, most: float) -> None:
        """Wait for a random time, which the end of the hunt cuts short."""
        self._stop.wait(self.random.uniform(least, most))

    # The events

    def _admin(self) -> redis.Redis:
        return self._admins[self.random.choice(self.nodes).port]

    def _proxy(self) -> Proxy:
        return self.random.choice([*self.proxies.values()])

    @staticmethod
    def _clients(admin: redis.Redis) -> list[dict[str, str]]:
        listed: Any = admin.client_list()
        return [client for client in listed if client["name"].startswith("hunt")]

    def kill_some(self) -> None:
        admin = self._admin()
        clients = self._clients(admin)
        for client in self.random.sample(clients, min(len(clients), self.random.randint(1, 3))):
            with contextlib.suppress(redis.ResponseError):  # it has gone meanwhile
                admin.execute_command("CLIENT", "KILL", "ID", client["id"])

    def kill_all(self) -> None:
        self._admin().execute_command("CLIENT", "KILL", "TYPE", "normal")

    def unblock(self) -> None:
        admin = self._admin()
        for client in self._clients(admin):
            if "b" in client["flags"]:
                admin.client_unblock(int(client["id"]))

    def lose_replies(self) -> None:
        proxy = self._proxy()
        proxy.lose_replies(self.random.choice([0.05, 0.3]))
        self.wait(0.1, 0.1)
        proxy.lose_replies(False)

    def cut_replies(self) -> None:
        proxy = self._proxy()
        proxy.cut_reply_after(self.random.choice([1, 7, 40]))
        self.wait(0.05, 0.05)
        proxy.cut_reply_after(None)

    def reset(self) -> None:
        self._proxy().reset_connections()

    def refuse(self) -> None:
        proxy = self._proxy()
        proxy.refuse(True)
        self.wait(0.1, 0.1)
        proxy.refuse(False)

    def freeze_proxy(self) -> None:
        proxy, seconds = self._proxy(), self.random.choice([0.05, 0.6])
        proxy.freeze(True)
        self.wait(seconds, seconds)
        proxy.freeze(False)

    def pause(self) -> None:
        everything = self.random.random() < 0.5
        self._admin().client_pause(self.random.choice([20, 500]), all=everything)


def _say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()
