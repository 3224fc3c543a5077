"""Pairs of clients: redis-py's own and ours, configured alike."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pyramid_baseplate_redis import MonitoredRedisConnection, RedisContextFactory, pool_from_config
from pyramid_baseplate_redis.cluster.client import MonitoredRedisClusterConnection
from pyramid_baseplate_redis.cluster.pool import cluster_pool_from_config

from ..support.topologies import Cluster

MakeClient = Callable[[], AbstractContextManager[Any]]

# As many attempts as redis-py makes by default, without its pauses: a refused AUTH has them, too.
_RETRIES = 10

KEY = "{k}a"
"""Of the slot that all keys of the tables are in."""


@dataclass(frozen=True)
class Shape:
    """What decides on the types of replies: how to ask for it here, and in redis-py."""

    name: str
    settings: dict[str, str] = field(default_factory=dict)
    keywords: dict[str, Any] = field(default_factory=dict)
    plain: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


DEFAULTS = Shape("defaults")
PROTOCOLS = [
    DEFAULTS,
    Shape("RESP2", {"protocol": "2"}, {}, {"protocol": 2}),
    Shape("RESP3", {"protocol": "3"}, {}, {"protocol": 3}),
]
_UNIFIED = {"legacy_responses": False}
SHAPES = [
    *PROTOCOLS,
    Shape("decoded", {"decode_responses": "true"}, {}, {"decode_responses": True}),
]
if "legacy_responses" in inspect.signature(redis.Redis).parameters:  # since redis-py 8
    SHAPES += [
        Shape("unified", {}, _UNIFIED, _UNIFIED),
        Shape("unified RESP2", {"protocol": "2"}, _UNIFIED, {"protocol": 2, **_UNIFIED}),
    ]


def _eager() -> Retry:
    return Retry(NoBackoff(), _RETRIES)


@contextmanager
def plain_client(port: int, shape: Shape = DEFAULTS) -> Iterator[redis.Redis]:
    """redis-py's client of one server."""
    with redis.Redis("127.0.0.1", port, retry=_eager(), **shape.plain) as client:
        yield client


@contextmanager
def our_client(
    url: str, shape: Shape = DEFAULTS, **settings: str
) -> Iterator[MonitoredRedisConnection]:
    """A request's client of one server, or of the one that Sentinels name."""
    own = {f"foo.{key}": value for key, value in {**shape.settings, **settings}.items()}
    pool = pool_from_config({"foo.url": url, **own}, "foo.", **shape.keywords)
    try:
        yield RedisContextFactory(pool, "foo").make_object_for_context("foo", None)
    finally:
        pool.disconnect()


@contextmanager
def plain_cluster(cluster: Cluster, shape: Shape = DEFAULTS) -> Iterator[redis.RedisCluster]:
    """redis-py's client of a Cluster, which asks the node with the keys where any will do."""
    with redis.RedisCluster(
        "127.0.0.1", cluster.nodes[0].port, retry=_eager(), **shape.plain
    ) as client:
        client.set_default_node(client.get_node_from_key(KEY))
        yield client


@contextmanager
def our_cluster(
    cluster: Cluster, shape: Shape = DEFAULTS
) -> Iterator[MonitoredRedisClusterConnection]:
    """Our client of a Cluster, likewise."""
    own = {f"foo.{key}": value for key, value in shape.settings.items()}
    pool = cluster_pool_from_config({"foo.url": cluster.url, **own}, "foo.", **shape.keywords)
    client = MonitoredRedisClusterConnection("foo", None, pool)
    client.set_default_node(client.get_node_from_key(KEY))
    try:
        yield client
    finally:
        pool.disconnect()
