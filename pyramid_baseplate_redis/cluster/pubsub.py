"""The monitored subscriber of a Cluster, which has one connection per node for shard channels."""

from __future__ import annotations

from types import MethodType
from typing import Any

from redis.cluster import ClusterPubSub

from ..client.pubsub import MonitoredPubSub, MonitoredPubSubMixin


class MonitoredClusterPubSub(MonitoredPubSubMixin, ClusterPubSub):
    """A monitored :class:`~redis.cluster.ClusterPubSub`, created by ``request.foo.pubsub()``."""

    @property
    def connections(self) -> list[Any]:
        """The connections that it holds: its own, and one per node for shard channels."""
        subscribers = (self, *tuple(self.node_pubsub_mapping.values()))
        return [each.connection for each in subscribers if each.connection is not None]

    def _get_node_pubsub(self, node: Any) -> Any:
        if node.name not in self.node_pubsub_mapping:
            client = self.cluster.get_redis_connection(node)
            made: Any = MonitoredPubSub(
                client.connection_pool,
                event_dispatcher=client._event_dispatcher,
                push_handler_func=self.push_handler_func,
                telemetry=self._telemetry,
                server_span=self._server_span,
            )
            # Like redis-py: one command cannot subscribe to channels in several slots.
            made._resubscribe_shard_channels = MethodType(
                ClusterPubSub._resubscribe_shard_channels, made
            )
            self.node_pubsub_mapping[node.name] = made
        return self.node_pubsub_mapping[node.name]
