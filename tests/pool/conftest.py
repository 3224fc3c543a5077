"""Pools of a Valkey, and how to recognize their connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pyramid_baseplate_redis import BlockingConnectionPool, pool_from_config

from ..support.servers import Server


@pytest.fixture
def make_pool(valkey: Server) -> Any:
    pools = []

    def make(url: str | None = None, **settings: str) -> BlockingConnectionPool:
        own = {f"foo.{key}": value for key, value in settings.items()}
        pool = pool_from_config({"foo.url": url or valkey.url, **own}, "foo.")
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.disconnect()


MakePool = Callable[..., BlockingConnectionPool]


def identity(connection: Any) -> int:
    """The server's number for a connection."""
    connection.send_command("CLIENT", "ID")
    number = connection.read_response()
    assert isinstance(number, int)
    return number


def state_of_next(pool: BlockingConnectionPool) -> tuple[int, Any]:
    """The number of the connection that is used next, and what it answers."""
    connection = pool.get_connection()
    number = identity(connection)
    connection.send_command("ECHO", "mine")
    reply = connection.read_response()
    pool.release(connection)
    return number, reply
