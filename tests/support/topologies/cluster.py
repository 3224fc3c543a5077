"""A Cluster of six nodes, formed through redis-py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from .node import Node, free_port_with_bus, log_tails, started_node, user_info
from .topology import Topology, replicates


@dataclass
class Cluster(Topology):
    """Three primaries and three replicas; who is what changes with each failover: ask."""

    @property
    def addresses(self) -> str:
        return ",".join(node.address for node in self.nodes)

    @property
    def url(self) -> str:
        return f"redis+cluster://{user_info(self.nodes[0])}{self.addresses}"

    def primaries(self) -> list[Node]:
        """The nodes that say so of themselves; not those that are killed or frozen."""
        return [node for node in self._up() if "master" in _myself(node)["flags"]]

    def replicas(self, of: Node | None = None) -> list[Node]:
        """The nodes that say so of themselves, or those among them that follow a primary."""
        found = [node for node in self._up() if "slave" in _myself(node)["flags"]]
        if of is None:
            return found
        node_id = self.id_of(of)
        return [node for node in found if _myself(node)["master_id"] == node_id]

    def node_of(self, key: str | bytes) -> Node:
        """The primary that serves a key."""
        return self.owner_of(self.slot_of(key))

    def owner_of(self, slot: int) -> Node:
        """The primary that serves a slot: the one that was given it last, if two say so."""
        own = [(node, _myself(node)) for node in self._up()]
        owners = [
            (int(line["epoch"]), node)
            for node, line in own
            if "master" in line["flags"] and _has_slot(line, slot)
        ]
        assert owners, f"no node serves slot {slot}\n{log_tails(self.nodes)}"
        return max(owners, key=lambda owner: owner[0])[1]

    @staticmethod
    def slot_of(key: str | bytes) -> int:
        return key_slot(key.encode() if isinstance(key, str) else key)

    @staticmethod
    def id_of(node: Node) -> str:
        return str(node.client.execute_command("CLUSTER MYID"))

    def is_healthy(self) -> bool:
        return (
            all(node.up for node in self.nodes)
            and self._is_serving()
            and all(_has_joined(node, len(self.nodes)) for node in self.nodes)
            and len(self.primaries()) == 3
            and all(replicates(node) for node in self.nodes)
            and all(_names_replicas(node) for node in self.nodes)
        )

    def wait_until_serving(self, seconds: float = 30) -> None:
        """Wait until the nodes that are up agree and each slot is served by one of them.

        That is before whoever was killed is back.
        """
        self.wait_until(self._is_serving, "serving all slots", seconds)

    def wait_for_new_primary(self, old: Node, seconds: float = 30) -> None:
        """Wait until all slots are served, and none of them by that node."""

        def taken_over() -> bool:
            views = [_view(node) for node in self._up()]
            gone = all(not _serves(view.get(old.address)) for view in views)
            return gone and self._is_serving()

        self.wait_until(taken_over, f"taken over from {old}", seconds)

    def migrate_slot(
        self, slot: int, source: Node, target: Node, *, keys_left: bool = False
    ) -> None:
        """Move a slot, and wait until every node knows.

        :param keys_left: leave its keys behind, so that they are lost, as when an operator errs
        """
        self.begin_migration(slot, source, target)
        self.finish_migration(slot, source, target, keys_left=keys_left)

    def begin_migration(self, slot: int, source: Node, target: Node) -> None:
        """From now on the source answers ASK for each key of the slot that it doesn't have.

        Keys that it has stay where they are; see `move_keys`.
        """
        target.client.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", self.id_of(source))
        source.client.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", self.id_of(target))

    def move_keys(self, slot: int, source: Node, target: Node, *keys: str | bytes) -> None:
        """Move keys of a slot that migrates: those given, or all."""
        batch: list[Any] = list(keys) or self._keys_in(slot, source)
        while batch:
            auth = ["AUTH2", target.username or "default", target.password]
            source.client.execute_command(
                "MIGRATE", target.host, target.port, "", 0, 5000,
                *(auth if target.password else []), "KEYS", *batch,
            )  # fmt: skip
            batch = [] if keys else self._keys_in(slot, source)

    def finish_migration(
        self, slot: int, source: Node, target: Node, *, keys_left: bool = False
    ) -> None:
        """Move the keys that are still at the source, hand over, and tell everybody."""
        if not keys_left:
            self.move_keys(slot, source, target)
        target_id = self.id_of(target)
        # A source that still has keys refuses to be told, and hears of it from the target.
        told = [target, *([] if keys_left else [source])]
        told += [node for node in self.primaries() if node not in (source, target)]
        for node in told:
            node.client.execute_command("CLUSTER SETSLOT", slot, "NODE", target_id)

        def known() -> bool:
            lines = [_view(node).get(target.address) for node in self._up()]
            return all(line is not None and _has_slot(line, slot) for line in lines)

        self.wait_until(known, f"known to everybody that slot {slot} moved")

    def cancel_migrations(self) -> None:
        """Forget half-done migrations."""
        for node in self.primaries():
            for migration in _myself(node)["migrations"]:
                node.client.execute_command("CLUSTER SETSLOT", migration["slot"], "STABLE")

    def _up(self) -> list[Node]:
        return [node for node in self.nodes if node.up]

    def _is_serving(self) -> bool:
        up = self._up()
        if not up:
            return False
        states = [node.client.execute_command("CLUSTER INFO") for node in up]
        if any(state["cluster_state"] != "ok" for state in states):
            return False
        layouts = [_layout(node) for node in up]
        addresses = {node.address for node in up}
        served = sum(end - start + 1 for _, start, end in layouts[0])
        return (
            all(layout == layouts[0] for layout in layouts)
            and served == REDIS_CLUSTER_HASH_SLOTS
            and {address for address, _, _ in layouts[0]} <= addresses
        )

    def _keys_in(self, slot: int, node: Node) -> list[Any]:
        # As bytes: MIGRATE is to get the names as they are.
        with redis.Redis(port=node.port, username=node.username, password=node.password) as raw:
            return list(raw.execute_command("CLUSTER GETKEYSINSLOT", slot, 100))

    def _repair(self) -> None:
        self.wait_until_healthy()
        self.cancel_migrations()


@contextmanager
def running_cluster(
    kind: str,
    directory: Path,
    *options: str,
    username: str | None = None,
    password: str | None = None,
    node_timeout: int = 2000,
) -> Iterator[Cluster]:
    """Start six nodes, form a cluster of three primaries with a replica each, stop it at the end.

    :param options: of each node, as on the command line
    :param node_timeout: in milliseconds: how soon a node that doesn't answer is given up
    """
    with ExitStack() as stack:
        nodes: list[Node] = []
        for _ in range(6):
            port = free_port_with_bus({node.port for node in nodes})
            nodes.append(
                started_node(
                    stack, kind, directory, port,
                    "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
                    "--cluster-node-timeout", str(node_timeout),
                    # Redis names a replica to clients after the first ping, 10 s by default.
                    "--repl-ping-replica-period", "1", *options,
                    username=username, password=password,
                )
            )  # fmt: skip
        cluster = Cluster(kind, nodes)
        _form(cluster)
        yield cluster


def _form(cluster: Cluster) -> None:
    nodes = cluster.nodes
    primaries, replicas = nodes[:3], nodes[3:]
    bounds = [REDIS_CLUSTER_HASH_SLOTS * number // 3 for number in range(4)]
    for number, node in enumerate(primaries):
        node.client.execute_command("CLUSTER ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
        node.client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
    # Nodes hear of each other from the first one, too, but a second later.
    for node, other in combinations(nodes, 2):
        node.client.execute_command("CLUSTER MEET", other.host, other.port)
    cluster.wait_until(lambda: all(_has_joined(node, len(nodes)) for node in nodes), "joined")
    for primary, replica in zip(primaries, replicas, strict=True):
        replica.client.execute_command("CLUSTER REPLICATE", cluster.id_of(primary))
    cluster.wait_until_healthy()


def _view(node: Node) -> dict[str, dict[str, Any]]:
    """Everybody, by address, as a node sees them."""
    view: dict[str, dict[str, Any]] = node.client.execute_command("CLUSTER NODES")
    return view


def _myself(node: Node) -> dict[str, Any]:
    (line,) = [line for line in _view(node).values() if "myself" in line["flags"]]
    return line


def _ranges(line: dict[str, Any]) -> list[tuple[int, int]]:
    return [(int(slots[0]), int(slots[-1])) for slots in line["slots"]]


def _has_slot(line: dict[str, Any], slot: int) -> bool:
    return any(start <= slot <= end for start, end in _ranges(line))


def _serves(line: dict[str, Any] | None) -> bool:
    return line is not None and bool(line["slots"])


def _layout(node: Node) -> list[tuple[str, int, int]]:
    """Who serves which slots, as a node sees it."""
    view = _view(node)
    return sorted((address, *slots) for address, line in view.items() for slots in _ranges(line))


def _has_joined(node: Node, expected: int) -> bool:
    """It sees all nodes, and nothing is wrong with any of them."""
    view = _view(node)
    wrong = {"fail", "fail?", "handshake", "noaddr"}
    return len(view) == expected and not any(
        wrong & set(line["flags"].split(",")) for line in view.values()
    )


def _names_replicas(node: Node) -> bool:
    """It tells clients of a replica for each slot: not before it has heard of its offset."""
    slots = node.client.execute_command("CLUSTER SLOTS")
    return all(len(shard) > 3 for shard in slots)  # start, end, primary, replicas
