"""The faults of servers that Sentinels watch, and of a Cluster."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ...support.topologies import (
    Cluster,
    Node,
    SentinelSet,
    frozen,
    running_cluster,
    running_sentinels,
)
from ...support.unreachable import unreachable_port
from . import formulae
from .faults import Fault
from .limits import Limits
from .operations import OPERATIONS, App, Operation

_LIST_QUEUE = "jobs"
_THREADS = 20
_ALONE = {
    "pub/sub": "a subscriber belongs to one thread",
    "predis check": "predis is a process of its own",
}
_WRITES = {name: "it writes" for name, operation in OPERATIONS.items() if operation.writes}
_ELECTION_SECONDS = 0.7  # after which a failover is under way
_BACKLOG = 64  # connections that a node's listener holds while the node is frozen
_FROM_REPLICAS = {"read_from_replicas": "true", "load_balancing": "round_robin_replicas"}
_FEW_WAIT = ("--tcp-backlog", str(_BACKLOG))
_Breaking = Callable[[list[Node]], AbstractContextManager[object]]


class BehindSentinels:
    """A primary, its replica and three Sentinels; a context manager.

    :param directory: a new one.
    """

    def __init__(self, directory: Path, limits: Limits) -> None:
        self._directory = directory
        self._limits = limits
        self._stack = ExitStack()
        self._servers: SentinelSet | None = None

    def __enter__(self) -> BehindSentinels:
        return self

    def __exit__(self, *args: Any) -> None:
        self._stack.close()

    @property
    def servers(self) -> SentinelSet:
        if self._servers is None:
            entered = running_sentinels("valkey", self._directory, *_FEW_WAIT)
            self._servers = self._stack.enter_context(entered)
        return self._servers

    def faults(self) -> list[Fault]:
        """Return the rows of the table."""
        ask = partial(self._app, {}, False)
        read = {"read_from": "replica"}
        return [
            Fault(
                "Sentinel: primary frozen", partial(self._app, {}, True), formulae.REPLY,
                begin=partial(self._broken, "primary", frozen),
            ),
            Fault(
                "Sentinel: primary drops SYN", ask, formulae.PRIMARY,
                begin=partial(self._broken, "primary", dropping),
            ),
            Fault(
                "Sentinel: failover under way", ask, formulae.PRIMARY,
                begin=partial(self._broken, "primary", _frozen_until_election),
            ),
            *(
                Fault(
                    f"Sentinel: reads, {server} frozen", partial(self._app, read, True),
                    formulae.REPLY, _WRITES, begin=partial(self._broken, server, frozen),
                )
                for server in ("primary", "replica")
            ),
            Fault(
                "Sentinel: reads, both frozen", partial(self._app, read, False),
                formulae.PRIMARY, _WRITES, begin=partial(self._broken, "both", frozen),
            ),
            *(
                Fault(
                    f"Sentinel: {count} of 3 frozen", ask,
                    formulae.SENTINELS, begin=partial(self._frozen_sentinels, count),
                )
                for count in (1, 2, 3)
            ),
            *(
                Fault(
                    f"Sentinel: {count} of 3 {verb} SYN", partial(self._behind_dropping, count),
                    formulae.SENTINELS,
                )
                for count, verb in ((1, "drops"), (2, "drop"), (3, "drop"))
            ),
            Fault(
                "Sentinel: reads, 3 of 3 frozen", partial(self._app, read, False),
                formulae.SENTINELS, _WRITES, begin=partial(self._frozen_sentinels, 3),
            ),
            Fault(
                f"Sentinel: 3 frozen, {_THREADS} threads", ask,
                formulae.CROWD, _ALONE, together=False, threads=_THREADS,
                begin=partial(self._frozen_sentinels, 3),
            ),
        ]  # fmt: skip

    @contextmanager
    def _app(
        self, settings: dict[str, str], is_connected: bool, operation: Operation
    ) -> Iterator[App]:
        with App(self.servers.url, self._limits, **settings) as app:
            app.only_reads = "read_from" in settings
            if is_connected:
                operation.connect(app)
            yield app

    @contextmanager
    def _behind_dropping(self, count: int, operation: Operation) -> Iterator[App]:
        """Make an application that is given ``count`` Sentinels to which packets are dropped."""
        servers = self.servers
        with ExitStack() as stack:
            ports = [stack.enter_context(unreachable_port()) for _ in range(count)]
            gone = ",".join(f"127.0.0.1:{port}" for port in ports)
            others = ",".join(each.address for each in servers.sentinels[count:])
            url = servers.url.replace(servers.addresses, ",".join(filter(None, (gone, others))))
            yield stack.enter_context(App(url, self._limits))

    @contextmanager
    def _broken(self, which: str, break_nodes: _Breaking) -> Iterator[None]:
        """Break the ``primary``, the ``replica`` or ``both``."""
        servers = self.servers
        nodes = [] if which == "replica" else [servers.primary()]
        nodes += [] if which == "primary" else [servers.replica()]
        with break_nodes(nodes):
            yield
        servers.tidy()

    @contextmanager
    def _frozen_sentinels(self, count: int) -> Iterator[None]:
        with frozen(self.servers.sentinels[:count]):
            yield


class OnCluster:
    """A Cluster of six nodes; a context manager.

    :param directory: a new one.
    """

    def __init__(self, directory: Path, limits: Limits) -> None:
        self._directory = directory
        self._limits = limits
        self._stack = ExitStack()
        self._cluster: Cluster | None = None

    def __enter__(self) -> OnCluster:
        return self

    def __exit__(self, *args: Any) -> None:
        self._stack.close()

    @property
    def cluster(self) -> Cluster:
        if self._cluster is None:
            entered = running_cluster("valkey", self._directory, *_FEW_WAIT)
            self._cluster = self._stack.enter_context(entered)
        return self._cluster

    def faults(self) -> list[Fault]:
        """Return the rows of the table."""
        connected, unconnected = partial(self._app, {}, True), partial(self._app, {}, False)
        reading = partial(self._app, _FROM_REPLICAS, True)
        frozen_nodes = [
            Fault(
                f"Cluster: {count} of 6 frozen", connected, formulae.LAYOUT,
                begin=partial(self._broken, lambda nodes, count=count: frozen(nodes[:count])),
            )
            for count in range(1, 7)
        ]  # fmt: skip
        crowd = Fault(
            f"Cluster: 6 frozen, {_THREADS} threads", connected, formulae.LAYOUT,
            _ALONE, together=False, threads=_THREADS, begin=partial(self._broken, frozen),
        )  # fmt: skip
        dropping_nodes = [
            Fault(
                f"Cluster: {count} of 6 {verb} SYN", self._app_without_connections,
                formulae.UNREACHED,
                begin=partial(self._broken, lambda nodes, count=count: dropping(nodes[:count])),
            )
            for count, verb in ((1, "drops"), (6, "drop"))
        ]  # fmt: skip
        return [
            *frozen_nodes, crowd, *dropping_nodes,
            Fault(
                "Cluster: first command", unconnected, formulae.FIRST_LAYOUT,
                begin=partial(self._broken, frozen),
            ),
            Fault(
                "Cluster: first command, no SYN", unconnected, formulae.FIRST_LAYOUT,
                begin=partial(self._broken, dropping),
            ),
            *(
                Fault(
                    f"Cluster: reads, {server} frozen", reading, formulae.LAYOUT, _WRITES,
                    begin=partial(self._frozen_pair, server),
                )
                for server in ("primary", "replica", "both")
            ),
            Fault(
                "Cluster: failover under way", connected, formulae.LAYOUT,
                begin=partial(self._broken, _killed),
            ),
        ]  # fmt: skip

    @contextmanager
    def _app(
        self, settings: dict[str, str], is_connected: bool, operation: Operation
    ) -> Iterator[App]:
        queues = (_LIST_QUEUE, self._name_on(self.cluster.node_of(_LIST_QUEUE), "letters"))
        with App(self.cluster.url, self._limits, queues, **settings) as app:
            app.only_reads = settings is _FROM_REPLICAS
            app.pipeline_keys = [self._name_on(node, "key") for node in self.cluster.primaries()]
            if is_connected:
                operation.connect(app)
            yield app

    @contextmanager
    def _app_without_connections(self, operation: Operation) -> Iterator[App]:
        """Make an application that knows the layout and has to connect."""
        with self._app({}, True, operation) as app:
            app.foo.connection_pool.disconnect()
            yield app

    def _name_on(self, node: Node, start: str) -> str:
        """Return a key that this node has.

        :param start: how the key begins.
        """
        names = (f"{start}{number}" for number in range(1000))
        return next(name for name in names if self.cluster.node_of(name) is node)

    @contextmanager
    def _broken(self, break_nodes: _Breaking) -> Iterator[None]:
        """Break nodes, and first the primary of the keys that the operations use."""
        primaries = self.cluster.primaries()
        first = self.cluster.node_of(_LIST_QUEUE)
        nodes = [first, *(node for node in primaries if node is not first)]
        nodes += [node for node in self.cluster.nodes if node not in primaries]
        with break_nodes(nodes):
            yield
        self.cluster.tidy()

    @contextmanager
    def _frozen_pair(self, which: str) -> Iterator[None]:
        """Freeze the ``primary``, the ``replica`` or ``both`` of the operations' keys."""
        primary = self.cluster.node_of(_LIST_QUEUE)
        nodes = [] if which == "replica" else [primary]
        nodes += [] if which == "primary" else self.cluster.replicas(primary)
        with frozen(nodes):
            yield
        self.cluster.tidy()


@contextmanager
def dropping(nodes: Sequence[Node]) -> Iterator[None]:
    """Have nodes drop the packets of new connections: they are frozen, with full backlogs."""
    with frozen(list(nodes)), ExitStack() as stack:
        for node in nodes:
            for _ in range(_BACKLOG + 4):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", node.port))
        yield


@contextmanager
def _frozen_until_election(nodes: list[Node]) -> Iterator[None]:
    with frozen(nodes):
        time.sleep(_ELECTION_SECONDS)
        yield


@contextmanager
def _killed(nodes: Sequence[Node]) -> Iterator[None]:
    nodes[0].kill()
    yield
