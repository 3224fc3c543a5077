"""The servers behind a client: the one, those that Sentinels name, or the nodes of a Cluster."""

from __future__ import annotations

import contextvars
import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import redis

from ..cluster.pool import ClusterConnectionPool
from ..pool.connection_kwargs import server_address
from ..pool.factory import plain_client
from ..pool.sentinel.pool import SentinelBlockingConnectionPool
from ..settings.client import ClientSettings

T = TypeVar("T")
R = TypeVar("R")


class Server(NamedTuple):
    """A server, and redis-py's client for it alone: not monitored, so without retries and spans."""

    address: str
    client: Any


class Servers:
    """Finds the servers of a client, with the client's own settings and credentials.

    :param factory: the client's, from the application's registry.
    """

    def __init__(self, factory: Any) -> None:
        self.pool = factory.connection_pool
        self._clients: dict[str, redis.Redis] = {}

    @property
    def kind(self) -> str:
        """``standalone``, ``sentinel`` or ``cluster``."""
        if isinstance(self.pool, ClusterConnectionPool):
            return "cluster"
        return "sentinel" if isinstance(self.pool, SentinelBlockingConnectionPool) else "standalone"

    def find(self, anew: bool = False) -> list[Server]:
        """Return their current addresses. Sentinels are asked each time.

        :param anew: whether to ask a Cluster for its layout again, as after a failure.
        :raises redis.RedisError: if the Sentinels don't know.
        :raises redis.exceptions.RedisClusterException: if no node of a Cluster can be asked.
        """
        if isinstance(self.pool, ClusterConnectionPool):
            return self._nodes(self.pool, anew)
        if isinstance(self.pool, SentinelBlockingConnectionPool):
            return self._named(self.pool)
        address = server_address(self.pool.connection_kwargs)
        if address not in self._clients:
            self._clients[address] = redis.Redis(connection_pool=self.pool)
        return [Server(address, self._clients[address])]

    def _nodes(self, pool: ClusterConnectionPool, anew: bool) -> list[Server]:
        was_made = pool.is_made
        cluster: Any = pool.cluster()
        if anew and was_made:
            cluster.nodes_manager.initialize()
        nodes = sorted(cluster.get_nodes(), key=lambda node: (node.host, node.port))
        return [Server(node.name, cluster.get_redis_connection(node)) for node in nodes]

    def _named(self, pool: SentinelBlockingConnectionPool) -> list[Server]:
        manager: Any = pool.sentinel_manager
        primary = manager.discover_master(pool.service_name)
        replicas = sorted(set(manager.discover_slaves(pool.service_name)) - {primary})
        return [self._behind_sentinel(pool, *address) for address in (primary, *replicas)]

    def _behind_sentinel(
        self, pool: SentinelBlockingConnectionPool, host: str, port: int
    ) -> Server:
        address = f"{host}:{port}"
        if address not in self._clients:
            settings: Any = pool.client_settings
            url = dataclasses.replace(
                settings.parsed_url,
                scheme="rediss" if settings.parsed_url.is_tls else "redis",
                host=host,
                port=port,
                hosts=(),
                service="",
            )
            there: ClientSettings = dataclasses.replace(settings, parsed_url=url)
            self._clients[address] = plain_client(there)
        return Server(address, self._clients[address])


def at_once(function: Callable[[T], R], arguments: Sequence[T]) -> list[R]:
    """Call a function with each argument, all at the same time, in this thread's context."""
    if not arguments:
        return []
    with ThreadPoolExecutor(max_workers=len(arguments)) as executor:
        futures = [
            executor.submit(contextvars.copy_context().run, function, argument)
            for argument in arguments
        ]
        return [future.result() for future in futures]


def explained(error: Exception) -> str:
    """An error in one line: our texts name no secret, redis-py's neither."""
    return f"{type(error).__name__}: {error}"
