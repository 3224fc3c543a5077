"""A primary and its replica behind three Sentinels, which fail over."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ....support.topologies import Node, SentinelSet, running_sentinels
from .base import Events
from .replicated import ReplicatedWeather


class SentinelWeather(ReplicatedWeather):
    """The weather of a primary and its replica behind three Sentinels."""

    topology: SentinelSet
    seconds_between_outages = 2.0, 5.0

    @contextlib.contextmanager
    def servers(self, directory: Path) -> Iterator[dict[str, Any]]:
        """Run two servers and three Sentinels."""
        with running_sentinels("valkey", directory) as sentinels:
            self.topology = sentinels
            self.nodes = sentinels.nodes
            yield {
                "url": sentinels.url,
                "sentinels": [sentinel.port for sentinel in sentinels.sentinels],
            }

    def outages(self) -> Events:
        """Return the faults that take seconds, with their weights."""
        return {
            self.fail_over: 4, self.kill_primary: 3, self.freeze_primary: 3, self.kill_replica: 2,
            self.freeze_server: 3, self.freeze_sentinels: 2,
        }  # fmt: skip

    def replica(self) -> Node:
        return self.topology.replica()

    def wait_for_new_primary(self, old: Node) -> None:
        self.topology.wait_for_new_primary(old.port)

    def fail_over(self) -> None:
        """Fail over as planned; the old primary takes writes until it is made a replica."""
        with self._outage():
            old = self.topology.failover()
            self.wait_for_new_primary(old)
            self.wait(0, 2)

    def freeze_sentinels(self) -> None:
        with self._outage():
            for sentinel in self.random.sample(self.topology.sentinels, self.random.randint(1, 3)):
                sentinel.freeze()
            self.wait(0.2, 2)
