"""redis-py's RedisCluster, corrected: the base of the monitored client and of what it shares."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from opentelemetry.trace import Span
from redis.cluster import RedisCluster

from ..telemetry.call_details import without_details


class SharedCluster(RedisCluster):
    """A RedisCluster whose FT.CURSOR goes to the nodes of its thread's last FT.AGGREGATE.

    redis-py keeps these nodes on one client and looks for them on another. Here all clients of a
    process share them in a context variable, which each thread or greenlet sees by itself.
    """

    connection_pool: Any
    server_span: Span
    client_telemetry: Any
    reinitialize_counter: int

    aggregate_nodes: ContextVar[Any]  # shared by the clients of a process

    @property
    def _aggregate_nodes(self) -> Any:
        return self.aggregate_nodes.get()

    @_aggregate_nodes.setter
    def _aggregate_nodes(self, value: Any) -> None:
        self.aggregate_nodes.set(value)


class ProcessCluster(SharedCluster):
    """redis-py's, which repeats nothing that a node may have executed."""

    ERRORS_ALLOW_RETRY: Any = ()

    def __init__(self, keywords: dict[str, Any]) -> None:
        self.aggregate_nodes = ContextVar("pyramid_baseplate_redis_aggregate_nodes", default=None)
        super().__init__(**keywords)
        # Both are shared by all clients, and ask nodes that the command doesn't go to.
        nodes_manager: Any = self.nodes_manager
        nodes_manager.initialize = without_details(nodes_manager.initialize)
        commands_parser: Any = self.commands_parser
        commands_parser.get_keys = without_details(commands_parser.get_keys)
