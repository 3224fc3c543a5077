"""Outages of servers with replicas, which take over."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import redis

from ....support.topologies import Node, Topology
from .base import Weather


class ReplicatedWeather(Weather):
    """The weather of a Cluster or of a primary and its replica behind Sentinels."""

    topology: Topology

    def __init__(self, seed: int, fails: bool) -> None:
        super().__init__(seed, fails)
        self._probes: dict[int, redis.Redis] = {}
        self._histories: dict[int, str] = {}
        self._seen_at = time.monotonic_ns()

    def settle(self) -> None:
        """Repair all servers, and wait until they work together again."""
        for node in self.topology.processes:
            if node.frozen:
                node.thaw()
            node.restart()
        self.topology._repair()

    def watch(self) -> None:
        """Note each change of the history that a server says its data have.

        A replica that takes over starts a new one. It may do so without a fault of this weather:
        the others may take a server on a busy machine for one that has failed.
        """
        asked_at, is_complete, is_changed = time.monotonic_ns(), True, False
        for node in self.topology.nodes:
            probe = self._probes.get(node.port)
            if probe is None:
                probe = self._probes[node.port] = redis.Redis(
                    port=node.port, socket_timeout=0.3, client_name="admin"
                )
            try:
                found: Any = probe.info("replication")
            except redis.RedisError:
                is_complete = False
                continue
            known = self._histories.get(node.port)
            self._histories[node.port] = found["master_replid"]
            is_changed = is_changed or known not in (None, found["master_replid"])
        if is_changed:
            self.losses.append((self._seen_at, time.monotonic_ns()))
        if is_complete:
            self._seen_at = asked_at

    # The outages

    def primary(self) -> Node:
        return self.random.choice(self.topology.primaries())

    def replica(self) -> Node:
        raise NotImplementedError

    def wait_for_new_primary(self, old: Node) -> None:
        raise NotImplementedError

    def kill_primary(self) -> None:
        with self._outage():
            old = self.primary()
            old.kill()
            self.wait_for_new_primary(old)
            self.wait(0, 1)

    def freeze_primary(self) -> None:
        with self._outage():
            old = self.primary()
            old.freeze()
            self.wait_for_new_primary(old)
            self.wait(0, 1)

    def kill_replica(self) -> None:
        with self._outage():
            self.replica().kill()
            self.wait(0.1, 1)

    def freeze_server(self) -> None:
        """Freeze a server for less time than it takes to be given up."""
        node: Node = self.random.choice(self.topology.nodes)
        with self._outage():
            node.freeze()
            self.wait(0.05, 0.4)

    @contextlib.contextmanager
    def _outage(self) -> Any:
        with self.losing():
            try:
                yield
            finally:
                self.settle()
