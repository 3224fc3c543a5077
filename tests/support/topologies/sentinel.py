"""A primary and its replica, watched by three Sentinels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .node import Node, free_node_port, started_node, user_info
from .topology import Topology, replicates

SERVICE = "mymaster"


@dataclass
class SentinelSet(Topology):
    """A primary, its replica, and three Sentinels that watch them."""

    sentinels: list[Node]
    service: str = SERVICE

    @property
    def processes(self) -> list[Node]:
        return [*self.nodes, *self.sentinels]

    @property
    def addresses(self) -> str:
        return ",".join(sentinel.address for sentinel in self.sentinels)

    @property
    def url(self) -> str:
        """With the data nodes' user and password; the Sentinels' own are not in it."""
        return f"redis+sentinel://{user_info(self.nodes[0])}{self.addresses}/{self.service}/0"

    def primary(self) -> Node:
        """What the first Sentinel that is up says; after a failover it may be late."""
        port = _monitored_port(self._sentinels_up()[0], self.service)
        (node,) = [node for node in self.nodes if node.port == port]
        return node

    def primaries(self) -> list[Node]:
        return [self.primary()]

    def replica(self) -> Node:
        """The other node, in whichever state it is."""
        primary = self.primary()
        (node,) = [node for node in self.nodes if node is not primary]
        return node

    def kill_primary(self) -> Node:
        """SIGKILL the primary and return it; `wait_for_new_primary` with its port."""
        primary = self.primary()
        primary.kill()
        return primary

    def failover(self) -> Node:
        """Ask a Sentinel to promote the replica, and return who is the primary until then.

        It is the old one's turn to become a replica only some 10 s later.
        """
        primary = self.primary()
        self._sentinels_up()[0].client.sentinel_failover(self.service)
        return primary

    def wait_for_new_primary(self, old_port: int, seconds: float = 30) -> Node:
        """Wait until all Sentinels name another primary, and it agrees."""

        def promoted() -> bool:
            ports = self._named()
            return (
                ports != {old_port} and len(ports) == 1 and self._role(self.primary()) == "master"
            )

        self.wait_until(promoted, f"failed over from {old_port}", seconds)
        return self.primary()

    def is_healthy(self) -> bool:
        if not all(node.up for node in self.processes) or not self._is_settled():
            return False
        primary, replica = self.primary(), self.replica()
        followed = replica.client.info("replication")
        return (
            self._role(primary) == "master"
            and replicates(primary)
            and self._role(replica) == "slave"
            and followed["master_port"] == primary.port
            and replicates(replica)
            and all(self._is_watched(sentinel, replica) for sentinel in self.sentinels)
        )

    def _sentinels_up(self) -> list[Node]:
        return [sentinel for sentinel in self.sentinels if sentinel.up]

    def _named(self) -> set[int]:
        """The ports of whom the Sentinels name."""
        return {_monitored_port(sentinel, self.service) for sentinel in self._sentinels_up()}

    def _is_settled(self) -> bool:
        """All Sentinels know each other, agree, and have nothing under way."""
        states = [s.client.sentinel_master(self.service) for s in self._sentinels_up()]
        others = len(self.sentinels) - 1
        return len(self._named()) == 1 and all(
            state["flags"] == "master" and state["num-other-sentinels"] == others
            for state in states
        )

    def _is_watched(self, sentinel: Node, replica: Node) -> bool:
        found = sentinel.client.sentinel_slaves(self.service)
        return [(state["port"], state["flags"]) for state in found] == [(replica.port, "slave")]

    @staticmethod
    def _role(node: Node) -> str:
        return str(node.client.info("replication")["role"])

    def _repair(self) -> None:
        # Sentinels take 10 s to make a replica of a primary that is back: do it for them.
        def healthy() -> bool:
            if self._is_settled():
                primary, other = self.primary(), self.replica()
                if self._role(primary) == self._role(other) == "master":
                    other.client.replicaof(primary.host, primary.port)
            return self.is_healthy()

        self.wait_until(healthy, "repaired")


@contextmanager
def running_sentinels(
    kind: str,
    directory: Path,
    *options: str,
    username: str | None = None,
    password: str | None = None,
    sentinel_username: str | None = None,
    sentinel_password: str | None = None,
    min_replicas_to_write: int = 0,
    down_after: int = 500,
    failover_timeout: int = 3000,
) -> Iterator[SentinelSet]:
    """Start a primary, its replica and three Sentinels, and stop them at the end.

    :param options: of both data nodes, as on the command line
    :param username: of both data nodes, with ``password``: nobody else can log in
    :param sentinel_username: of the Sentinels, likewise
    :param down_after: in milliseconds, as ``failover_timeout``
    """
    data = ["--min-replicas-to-write", str(min_replicas_to_write), *options]
    with ExitStack() as stack:
        nodes: list[Node] = []
        for _ in range(2):
            port = free_node_port({node.port for node in nodes})
            following = ["--replicaof", f"127.0.0.1 {nodes[0].port}"] if nodes else []
            nodes.append(
                started_node(
                    stack, kind, directory, port, *data, *following,
                    username=username, password=password,
                )
            )  # fmt: skip
        both = Topology(kind, nodes)
        # A Sentinel that finds no replica at first looks again only 10 s later.
        both.wait_until(lambda: all(map(replicates, nodes)), "replicating")

        sentinels: list[Node] = []
        for _ in range(3):
            port = free_node_port({node.port for node in [*nodes, *sentinels]})
            lines = [
                f"sentinel monitor {SERVICE} 127.0.0.1 {nodes[0].port} 2",
                f"sentinel down-after-milliseconds {SERVICE} {down_after}",
                f"sentinel failover-timeout {SERVICE} {failover_timeout}",
                f"sentinel parallel-syncs {SERVICE} 1",
            ]
            if password:
                lines.append(f"sentinel auth-pass {SERVICE} {password}")
            if username:
                lines.append(f"sentinel auth-user {SERVICE} {username}")
            if sentinel_password:
                lines.append(f"sentinel sentinel-pass {sentinel_password}")
            if sentinel_username:
                lines.append(f"sentinel sentinel-user {sentinel_username}")
            sentinels.append(
                started_node(
                    stack, kind, directory, port,
                    username=sentinel_username, password=sentinel_password, sentinel=lines,
                )
            )  # fmt: skip
        for sentinel in sentinels:
            # Asked for its role every 10 s, as by default, a node that was promoted twice in this
            # time may be taken for one that should follow the old primary, and made its replica.
            sentinel.client.execute_command("SENTINEL DEBUG", "info-period", 1000)
        found = SentinelSet(kind, nodes, sentinels)
        found.wait_until_healthy()
        yield found


def _monitored_port(sentinel: Node, service: str) -> int:
    address = sentinel.client.sentinel_get_master_addr_by_name(service, return_responses=True)
    return int(address[1])
