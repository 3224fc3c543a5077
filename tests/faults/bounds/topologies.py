"""The faults behind Sentinels and of a Cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
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
from . import formulae
from .faults import Fault
from .limits import Limits
from .operations import App, Operation

_LIST_QUEUE = "jobs"
_THREADS = 20
_ALONE = {
    "pub/sub": "a subscriber belongs to one thread",
    "predis check": "predis is a process of its own",
}
_ELECTION_SECONDS = 0.7  # after which a failover is under way


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
            entered = running_sentinels("valkey", self._directory)
            self._servers = self._stack.enter_context(entered)
        return self._servers

    def faults(self) -> list[Fault]:
        """Return the rows of the table."""
        return [
            Fault(
                "Sentinel: primary frozen", partial(self._app, True), formulae.REPLY,
                begin=self._frozen_primary,
            ),
            Fault(
                "Sentinel: failover under way", partial(self._app, False), formulae.PRIMARY,
                begin=self._failover,
            ),
            *(
                Fault(
                    f"Sentinel: {count} of 3 frozen", partial(self._app, False),
                    formulae.SENTINELS, begin=partial(self._frozen_sentinels, count),
                )
                for count in (1, 2, 3)
            ),
            Fault(
                f"Sentinel: 3 frozen, {_THREADS} threads", partial(self._app, False),
                formulae.CROWD, _ALONE, together=False, threads=_THREADS,
                begin=partial(self._frozen_sentinels, 3),
            ),
        ]  # fmt: skip

    @contextmanager
    def _app(self, is_connected: bool, operation: Operation) -> Iterator[App]:
        with App(self.servers.url, self._limits) as app:
            if is_connected:
                operation.connect(app)
            yield app

    @contextmanager
    def _frozen_primary(self) -> Iterator[None]:
        with frozen([self.servers.primary()]):
            yield
        self.servers.tidy()

    @contextmanager
    def _failover(self) -> Iterator[None]:
        with frozen([self.servers.primary()]):
            time.sleep(_ELECTION_SECONDS)
            yield
        self.servers.tidy()

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
            entered = running_cluster("valkey", self._directory)
            self._cluster = self._stack.enter_context(entered)
        return self._cluster

    def faults(self) -> list[Fault]:
        """Return the rows of the table."""
        frozen_nodes = [
            Fault(
                f"Cluster: {count} of 6 frozen", partial(self._app, True), formulae.LAYOUT,
                begin=partial(self._broken, lambda nodes, count=count: frozen(nodes[:count])),
            )
            for count in range(1, 7)
        ]  # fmt: skip
        failover = Fault(
            "Cluster: failover under way", partial(self._app, True), formulae.LAYOUT,
            begin=partial(self._broken, _killed),
        )  # fmt: skip
        first_command = Fault(
            "Cluster: first command", partial(self._app, False), formulae.FIRST_LAYOUT,
            begin=partial(self._broken, frozen),
        )  # fmt: skip
        crowd = Fault(
            f"Cluster: 6 frozen, {_THREADS} threads", partial(self._app, True), formulae.LAYOUT,
            _ALONE, together=False, threads=_THREADS, begin=partial(self._broken, frozen),
        )  # fmt: skip
        return [*frozen_nodes, crowd, first_command, failover]

    @contextmanager
    def _app(self, is_connected: bool, operation: Operation) -> Iterator[App]:
        queues = (_LIST_QUEUE, self._name_on(self.cluster.node_of(_LIST_QUEUE), "letters"))
        with App(self.cluster.url, self._limits, queues) as app:
            app.pipeline_keys = [self._name_on(node, "key") for node in self.cluster.primaries()]
            if is_connected:
                operation.connect(app)
            yield app

    def _name_on(self, node: Node, start: str) -> str:
        """Return a key that this node has.

        :param start: how the key begins.
        """
        names = (f"{start}{number}" for number in range(1000))
        return next(name for name in names if self.cluster.node_of(name) is node)

    @contextmanager
    def _broken(self, break_nodes: Callable[[Sequence[Node]], Any]) -> Iterator[None]:
        """Break nodes, and first the primary of the keys that the operations use."""
        primaries = self.cluster.primaries()
        first = self.cluster.node_of(_LIST_QUEUE)
        nodes = [first, *(node for node in primaries if node is not first)]
        nodes += [node for node in self.cluster.nodes if node not in primaries]
        with break_nodes(nodes):
            yield
        self.cluster.tidy()


@contextmanager
def _killed(nodes: Sequence[Node]) -> Iterator[None]:
    nodes[0].kill()
    yield
