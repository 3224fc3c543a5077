"""A Cluster of three primaries and three replicas, which fail over; its slots move."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ....support.topologies import Cluster, Node, running_cluster
from ..tags import TAGS
from .base import Events
from .replicated import ReplicatedWeather


class ClusterWeather(ReplicatedWeather):
    """The weather of a Cluster."""

    topology: Cluster

    @contextlib.contextmanager
    def servers(self, directory: Path) -> Iterator[dict[str, Any]]:
        """Run six nodes."""
        with running_cluster("valkey", directory) as cluster:
            self.topology = cluster
            self.nodes = cluster.nodes
            yield {}

    def outages(self) -> Events:
        """Return the faults that take seconds, with their weights."""
        return {
            self.migrate_slot: 25, self.fail_over: 4, self.kill_primary: 3,
            self.freeze_primary: 3, self.kill_replica: 2, self.freeze_server: 3,
        }  # fmt: skip

    def replica(self) -> Node:
        return self.random.choice(self.topology.replicas())

    def wait_for_new_primary(self, old: Node) -> None:
        self.topology.wait_for_new_primary(old)

    def fail_over(self) -> None:
        """Fail over as planned, without a loss where the primary is there to agree."""
        with self._outage():
            old = self.primary()
            (replica,) = self.topology.replicas(old)
            replica.client.execute_command("CLUSTER FAILOVER")
            self.topology.wait_until(lambda: replica in self.topology.primaries(), "promoted", 10)
            self.wait(0, 1)

    def migrate_slot(self) -> None:
        """Move a slot and its keys to another primary, in small steps."""
        slot, source, target = self._migration()
        self.topology.begin_migration(slot, source, target)
        self.wait(0, 0.2)
        for _ in range(self.random.randint(0, 10)):
            keys = self.topology._keys_in(slot, source)
            some = self.random.sample(keys, min(len(keys), 5))
            if some:
                self.topology.move_keys(slot, source, target, *some)
            self.wait(0, 0.1)
        self.topology.finish_migration(slot, source, target)

    def _migration(self) -> tuple[int, Node, Node]:
        slot = self.topology.slot_of(self.random.choice(TAGS))
        source = self.topology.owner_of(slot)
        others = [node for node in self.topology.primaries() if node is not source]
        return slot, source, self.random.choice(others)
