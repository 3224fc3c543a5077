"""The pools and clients that a hunt uses: this package's, or redis-py's own."""

from __future__ import annotations

from typing import Any

import redis
from opentelemetry import trace

from pyramid_baseplate_redis import pool_from_config
from pyramid_baseplate_redis.factories import RedisContextFactory


class Ours:
    """A pool of this package; its clients are bound as a request's are."""

    refuses = True

    def __init__(self, name: str, port: int, size: int, **settings: str) -> None:
        self.name = name
        given = {
            "url": f"redis://127.0.0.1:{port}/0", "client_name": name,
            "max_connections": str(size), "pool_timeout": "1 second",
            "socket_timeout": "300 ms", "socket_connect_timeout": "300 ms", **settings,
        }  # fmt: skip
        self.pool: Any = pool_from_config({f"foo.{k}": v for k, v in given.items()}, "foo.")
        self.factory = RedisContextFactory(self.pool, "foo")
        self.tracer = trace.get_tracer("hunt")

    def client(self) -> Any:
        return self.factory.make_object_for_context("foo", self.tracer.start_span("request"))

    def give_back(self, client: Any) -> None:
        client.give_back()

    def stats(self) -> tuple[int, int]:
        figures = self.pool.stats
        return figures.in_use, figures.open


class Stock:
    """redis-py's pool and client."""

    refuses = False

    def __init__(self, name: str, port: int, size: int, **settings: str) -> None:
        self.name = name
        self.pool: Any = redis.BlockingConnectionPool(
            size, 1, port=port, client_name=name, socket_timeout=0.3,
            socket_connect_timeout=0.3, protocol=int(settings.get("protocol", 3)),
        )  # fmt: skip
        self._client = redis.Redis(connection_pool=self.pool)

    def client(self) -> Any:
        return self._client

    def give_back(self, client: Any) -> None:
        pass

    def stats(self) -> tuple[int, int]:
        opened = [made for made in self.pool._connections if made.is_connected]
        return self.pool.max_connections - self.pool.pool.qsize(), len(opened)
