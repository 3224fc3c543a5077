"""A group of server processes: waiting for a state, and repairs after a test."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import redis

from .node import Node, log_tails

# What a node may answer, or not, while things change.
_NOT_YET = (redis.ConnectionError, redis.TimeoutError, redis.ResponseError)


@dataclass
class Topology:
    """What a Cluster and a Sentinel set have in common."""

    kind: str
    nodes: list[Node]
    """Those with data."""

    @property
    def processes(self) -> list[Node]:
        return self.nodes

    def is_healthy(self) -> bool:
        raise NotImplementedError

    def wait_until_healthy(self, seconds: float = 30) -> None:
        """Wait until all is as it was when it was formed, but for who is a primary."""
        self.wait_until(self.is_healthy, "healthy", seconds)

    def wait_until(self, done: Callable[[], object], what: str, seconds: float = 30) -> None:
        """Wait, and show the ends of the logs if it doesn't happen."""
        deadline = time.monotonic() + seconds
        error: Exception | None = None
        while True:
            try:
                if done():
                    return
                error = None
            except _NOT_YET as failure:
                error = failure
            if time.monotonic() > deadline:
                last = f" (last answer: {error!r})" if error else ""
                message = f"not {what} within {seconds} s{last}\n{log_tails(self.processes)}"
                raise AssertionError(message) from error
            time.sleep(0.02)

    def tidy(self) -> None:
        """Repair what a test has broken, and empty it."""
        for node in self.processes:
            if node.frozen:
                node.thaw()
            node.restart()
        self._repair()
        for node in self.primaries():
            node.client.flushall()
            assert node.client.wait(1, 1500) >= 1, f"no replica follows {node}"

    def primaries(self) -> list[Node]:
        raise NotImplementedError

    def _repair(self) -> None:
        self.wait_until_healthy()


def replicates(node: Node) -> bool:
    """A primary has one replica, which is online; a replica is up to date."""
    info = node.client.info("replication")
    if info["role"] == "master":
        return info["connected_slaves"] == 1 and info["slave0"]["state"] == "online"
    return info["master_link_status"] == "up" and not info["master_sync_in_progress"]
