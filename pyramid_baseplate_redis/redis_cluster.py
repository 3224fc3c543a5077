"""redis-py's RedisCluster, with two corrections: the base of what the clients of a process share."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from redis.cluster import RedisCluster


class RemembersAggregateNodes(RedisCluster):
    """Where FT.CURSOR goes: to the nodes of the last FT.AGGREGATE of the same thread or greenlet.

    redis-py notes them on one client and looks for them on the other, with which it was made.
    """

    aggregate_nodes: ContextVar[Any]  # shared by the clients of a process

    @property
    def _aggregate_nodes(self) -> Any:
        return self.aggregate_nodes.get()

    @_aggregate_nodes.setter
    def _aggregate_nodes(self, value: Any) -> None:
        self.aggregate_nodes.set(value)
