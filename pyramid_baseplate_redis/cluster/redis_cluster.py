"""RedisCluster with two corrections: the base of the monitored client and of the shared state."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from functools import partial
from typing import Any

import redis
from opentelemetry.trace import Span
from redis.cluster import ClusterNode, RedisCluster
from redis.crc import key_slot

from ..exceptions import CircuitOpenError
from ..telemetry.call_details import without_details
from .event_dispatcher import ForkSafeEventDispatcher
from .layout import LayoutLookup


class SharedCluster(RedisCluster):
    """A RedisCluster that sends FT.CURSOR to the nodes that executed the last FT.AGGREGATE.

    redis-py keeps these nodes in an attribute. Our clients are copies of one RedisCluster: a client
    would set its own attribute, but redis-py's copied callbacks read the original's. Here the nodes
    are in a context variable that all copies share. Each thread or greenlet has its own value.
    """

    connection_pool: Any
    server_span: Span
    client_telemetry: Any
    reinitialize_counter: int

    aggregate_nodes: ContextVar[Any]  # one for all clients of the process

    @property
    def _aggregate_nodes(self) -> Any:
        return self.aggregate_nodes.get()

    @_aggregate_nodes.setter
    def _aggregate_nodes(self, value: Any) -> None:
        self.aggregate_nodes.set(value)

    def keyslot(self, key: Any) -> int:
        """Return the slot of a key; see :meth:`redis.cluster.RedisCluster.keyslot`."""
        encoder = self.encoder
        if type(key) is str:  # in one step, which redis-py's encoder reaches after five checks
            key = key.encode(encoder.encoding, encoder.encoding_errors)
        elif type(key) is not bytes:
            key = encoder.encode(key)
        return key_slot(key)


def primary_of(manager: Any, slot: int) -> ClusterNode:
    """Return the node that has a slot; redis-py's ``get_node_from_slot()`` without its lock.

    A slot's first node is always its primary: each change of the layout assigns it in one step.

    :param manager: redis-py's table of nodes and slots.
    :raises redis.exceptions.SlotNotCoveredError: no node has it.
    """
    nodes = manager.slots_cache.get(slot)
    node: ClusterNode = nodes[0] if nodes else manager.get_node_from_slot(slot)
    return node


class ProcessCluster(SharedCluster):
    """The one RedisCluster of a process, whose state all its clients share.

    It differs from redis-py's in four ways:

    1. It does not repeat a command after a failed connection, because a node may have executed it.
    2. Refreshing the layout and looking up the keys of a command leave no trace on the span of the
       command that caused them: they talk to other nodes than the command.
    3. Refreshing the layout is bounded, and shared by all callers that wait for it.
    4. A forked process does not wait for the lock of its parent's events.

    :param keywords: the keyword arguments of :class:`redis.cluster.RedisCluster`.
    :param layout: makes the look-ups of the layout.
    """

    ERRORS_ALLOW_RETRY: Any = ()

    def __init__(self, keywords: dict[str, Any], layout: LayoutLookup) -> None:
        self.aggregate_nodes = ContextVar("pyramid_baseplate_redis_aggregate_nodes", default=None)
        super().__init__(**keywords, event_dispatcher=ForkSafeEventDispatcher())
        nodes_manager: Any = self.nodes_manager
        initialize = without_details(nodes_manager.initialize)

        def refresh(*args: Any, **kwargs: Any) -> None:
            handled = sys.exc_info()[1]
            try:
                layout.run(partial(initialize, *args, **kwargs), len(nodes_manager.startup_nodes))
            except (CircuitOpenError, redis.TimeoutError):
                # No node was asked. If a node's error is the reason for the refresh, redis-py
                # raises it: the command may have been executed, and this error would say that it
                # was not.
                if handled is None:
                    raise

        nodes_manager.initialize = refresh
        commands_parser: Any = self.commands_parser
        commands_parser.get_keys = without_details(commands_parser.get_keys)
