"""The pools and clients that a hunt uses: this package's, or redis-py's own."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import redis
from opentelemetry import trace
from redis.sentinel import Sentinel

from pyramid_baseplate_redis import cluster_pool_from_config, pool_from_config
from pyramid_baseplate_redis.factories import ClusterRedisContextFactory, RedisContextFactory
from pyramid_baseplate_redis.pool.sentinel.pool import SentinelConnection

from ...support.topologies import SERVICE
from .weather.process import Places

DIRECT, LOSSY = "hunt-direct", "hunt-through-proxy"


class Ours:
    """A pool of this package; its clients are bound as a request's are."""

    refuses = True
    pool: Any
    factory: Any

    def __init__(self, name: str, url: str, size: int, **settings: str) -> None:
        self.name = name
        given = {
            "url": url, "client_name": name, "max_connections": str(size),
            "pool_timeout": "1 second", "socket_timeout": "300 ms",
            "socket_connect_timeout": "300 ms", **settings,
        }  # fmt: skip
        self.tracer = trace.get_tracer("hunt")
        self.make({f"foo.{key}": value for key, value in given.items()})

    def make(self, settings: dict[str, str]) -> None:
        self.pool = pool_from_config(settings, "foo.")
        self.factory = RedisContextFactory(self.pool, "foo")

    def client(self) -> Any:
        return self.factory.make_object_for_context("foo", self.tracer.start_span("request"))

    def give_back(self, client: Any) -> None:
        client.give_back()

    def pools(self) -> list[tuple[int, Any]]:
        """Return the pools of single servers, with the ports to which they lead."""
        return [(self.pool.connection_kwargs["port"], self.pool)]

    def other_pools(self) -> list[tuple[int, Any]]:
        """Return the pools that the package uses beside them, which may keep connections."""
        return []

    @staticmethod
    def figures(pool: Any) -> tuple[int, int]:
        """Return how many connections of one of the pools are in use, and how many are open."""
        stats = pool.stats
        return stats.in_use, stats.open


class OursBehindSentinel(Ours):
    """A pool of connections to the primary that Sentinels name.

    :param ways: to which port to connect in place of a server's, as through a proxy.
    """

    def __init__(
        self, name: str, url: str, size: int, ways: dict[int, int], **settings: str
    ) -> None:
        self.ways = ways
        super().__init__(name, url, size, **settings)

    def make(self, settings: dict[str, str]) -> None:
        ways = self.ways

        class Redirected(SentinelConnection):
            """Connects to the server that the Sentinels name by another way."""

            direct_modules = SentinelConnection.direct_modules | {__name__}

            def _connect(self) -> socket.socket:
                address = self.host, ways.get(self.port, self.port)
                made = socket.create_connection(address, self.socket_connect_timeout)
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                made.settimeout(self.socket_timeout)
                return made

        self.pool = pool_from_config(settings, "foo.", connection_class=Redirected)
        self.factory = RedisContextFactory(self.pool, "foo")

    def pools(self) -> list[tuple[int, Any]]:
        """Return the pool, with the port of the primary at this time."""
        return [(self.pool.get_master_address()[1], self.pool)]

    def other_pools(self) -> list[tuple[int, Any]]:
        """Return the pools of connections to the Sentinels, which announce failovers."""
        pools = [each.connection_pool for each in self.pool.sentinel_manager.sentinels]
        return [(pool.connection_kwargs["port"], pool) for pool in pools]


class OursOfACluster(Ours):
    """The pools of a Cluster's nodes.

    :param ways: to which port to connect in place of a node's, as through a proxy.
    """

    def __init__(
        self, name: str, url: str, size: int, ways: dict[int, int], **settings: str
    ) -> None:
        self.ways = ways
        super().__init__(name, url, size, **settings)

    def make(self, settings: dict[str, str]) -> None:
        self.pool = cluster_pool_from_config(
            settings, "foo.", address_remap=lambda at: (at[0], self.ways.get(at[1], at[1]))
        )
        self.factory = ClusterRedisContextFactory(self.pool, "foo")

    def pools(self) -> list[tuple[int, Any]]:
        """Return the nodes' pools, with the ports to which they lead."""
        return [(pool.connection_kwargs["port"], pool) for pool in self.pool.pools]


class Stock:
    """redis-py's pool and client."""

    refuses = False

    def __init__(self, name: str, port: int, size: int, **settings: str) -> None:
        self.name = name
        self.port = port
        self.pool: Any = redis.BlockingConnectionPool(
            size, 1, port=port, client_name=name, socket_timeout=0.3,
            socket_connect_timeout=0.3, protocol=int(settings.get("protocol", 3)),
        )  # fmt: skip
        self._client = redis.Redis(connection_pool=self.pool)

    def client(self) -> Any:
        return self._client

    def give_back(self, client: Any) -> None:
        pass

    def pools(self) -> list[tuple[int, Any]]:
        return [(self.port, self.pool)]

    def other_pools(self) -> list[tuple[int, Any]]:
        return []

    @staticmethod
    def figures(pool: Any) -> tuple[int, int]:
        opened = [made for made in pool._connections if made.is_connected]
        return pool.max_connections - pool.pool.qsize(), len(opened)


_DIRECT: dict[str, str] = {
    "health_check_interval": "1 s", "breaker_failures": "20", "breaker_reset": "20 ms",
}  # fmt: skip
_LOSSY: dict[str, str] = {
    "protocol": "2", "retries": "2", "retry_budget": "1 s", "max_lifetime": "2 s",
    "max_idle_time": "500 ms", "leak_warning": "1 s",
}  # fmt: skip


def make_targets(topology: str, places: Places, size: int, stock: bool) -> list[Any]:
    """Make two targets: one that connects directly, and one that connects through proxies.

    :param size: how many connections each pool has.
    :param stock: redis-py's own pool and client, which only hunts of one server use.
    """
    ways = places.proxies
    if topology == "sentinel":
        return [
            OursBehindSentinel(DIRECT, places.url, size, {}, **_DIRECT),
            OursBehindSentinel(LOSSY, places.url, size, ways, **_LOSSY),
        ]
    if topology == "cluster":
        return [
            OursOfACluster(DIRECT, _cluster_url(places.nodes), size, {}, **_DIRECT),
            OursOfACluster(LOSSY, _cluster_url([*ways.values()]), size, ways, **_LOSSY),
        ]
    ((port, proxy),) = ways.items()
    if stock:
        return [Stock(DIRECT, port, size, **_DIRECT), Stock(LOSSY, proxy, size, **_LOSSY)]
    return [
        Ours(DIRECT, f"redis://127.0.0.1:{port}/0", size, **_DIRECT),
        Ours(LOSSY, f"redis://127.0.0.1:{proxy}/0", size, **_LOSSY),
    ]


def _cluster_url(ports: list[int]) -> str:
    return "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports)


def make_reader(topology: str, places: Places) -> Callable[[str], bytes | None]:
    """Make a function that reads a key from the primary that has it, with redis-py alone."""
    options: dict[str, Any] = {"socket_timeout": 1, "client_name": "admin"}
    if topology == "sentinel":
        addresses = [("127.0.0.1", port) for port in places.sentinels]
        sentinel = Sentinel(addresses, sentinel_kwargs=options)
        behind: Any = sentinel.master_for(SERVICE, **options)
        return lambda key: behind.get(key)  # type: ignore[no-any-return]
    if topology == "cluster":
        nodes = [redis.cluster.ClusterNode("127.0.0.1", port) for port in places.nodes]
        cluster: Any = redis.RedisCluster(startup_nodes=nodes, **options)

        def read(key: str) -> bytes | None:
            try:
                return cluster.get(key)  # type: ignore[no-any-return]
            except AttributeError as error:  # redis-py's, after an ASK to a node that it forgot
                raise redis.ConnectionError from error

        return read
    single: Any = redis.Redis(port=places.nodes[0], **options)
    return lambda key: single.get(key)  # type: ignore[no-any-return]
