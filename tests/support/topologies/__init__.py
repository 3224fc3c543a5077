"""Real Clusters and Sentinel sets on the loopback interface, formed through redis-py."""

from __future__ import annotations

from .cluster import Cluster, running_cluster
from .node import Node, frozen, log_tails
from .sentinel import SERVICE, SentinelSet, running_sentinels
from .topology import Topology

__all__ = [
    "SERVICE",
    "Cluster",
    "Node",
    "SentinelSet",
    "Topology",
    "frozen",
    "log_tails",
    "running_cluster",
    "running_sentinels",
]
