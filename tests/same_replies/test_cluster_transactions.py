"""In a Cluster's transaction: our client returns what redis-py returns on the node itself.

redis-py's own transactions on a Cluster return unparsed replies. They decide what is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import redis

from ..support.topologies import Cluster
from .clients import KEY, PROTOCOLS, Shape, our_cluster, plain_client, plain_cluster
from .comparison import Comparison
from .entries import FIRST, Entry, Group
from .marks import groups_and_shapes
from .outcomes import in_transaction, outcome
from .tables import ANYWHERE, DATA

# redis-py's Cluster pipelines don't queue them as a server's pipelines do.
NOT_QUEUED = ("delete", "unlink", "touch", "watch", "unwatch", "pubsub_channels",
              "pubsub_shardchannels", "himport_", "execute_command('UNWATCH'")  # fmt: skip

PIPED = groups_and_shapes(ANYWHERE, DATA, PROTOCOLS)


class _Expected:
    """redis-py's client of a Cluster, and of the node that has the keys."""

    def __init__(self, cluster: redis.RedisCluster, node: redis.Redis) -> None:
        self.cluster = cluster
        self.connection_pool = node.connection_pool
        self._node = node

    def transaction(self, entry: Entry, raise_on_error: bool) -> str:
        refusal = outcome(lambda: self._queue(entry))
        if refusal.startswith("raises"):
            return refusal
        return in_transaction(self._node, entry, raise_on_error)

    def _queue(self, entry: Entry) -> None:
        """Raise if the command can't be queued; it is not executed."""
        with self.cluster.pipeline(transaction=True) as pipeline:
            pipeline.set(FIRST, 1)
            entry.run(pipeline)


@contextmanager
def _expected(cluster: Cluster, shape: Shape) -> Iterator[_Expected]:
    port = cluster.node_of(KEY).port
    with plain_cluster(cluster, shape) as client, plain_client(port, shape) as node:
        yield _Expected(client, node)


def _in_transaction(client: Any, entry: Entry, raise_on_error: bool) -> str:
    if isinstance(client, _Expected):
        return client.transaction(entry, raise_on_error)
    return in_transaction(client, entry, raise_on_error)


@PIPED
def test_a_transaction_returns_what_redis_py_s_does_on_the_node(
    quick_cluster: Cluster, group: Group, shape: Shape
) -> None:
    queued = [entry for entry in group.entries if not entry.name.startswith(NOT_QUEUED)]
    with (
        plain_cluster(quick_cluster) as setup,
        plain_client(quick_cluster.node_of(KEY).port) as node,
    ):
        Comparison(
            setup,
            node,
            partial(_expected, quick_cluster, shape),
            partial(our_cluster, quick_cluster, shape),
        ).check(replace(group, entries=queued), _in_transaction)
