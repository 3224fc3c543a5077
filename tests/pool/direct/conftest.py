"""A server that does what a test says, and the comparison of both ways to send a command to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pyramid_baseplate_redis import MonitoredRedisConnection, pool_from_config

from .both_ways import Call, compare
from .scripted_server import ScriptedServer, Step


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


def get(client: MonitoredRedisConnection) -> Any:
    return client.get("key")


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch, server: ScriptedServer) -> Iterator[Any]:
    """Compare what a command returns or raises, for a script of the server.

    Keyword arguments are those of the pool.
    """
    pools = []

    def compared(
        script: list[Step], call: Call = get, direct: bool = True, **keywords: Any
    ) -> dict[str, Any]:
        server.script = script
        keywords.setdefault("socket_timeout", 0.3)

        def make() -> MonitoredRedisConnection:
            pools.append(
                pool_from_config(
                    {"foo.url": server.url, "foo.breaker_failures": "3"}, "foo.", **keywords
                )
            )
            return MonitoredRedisConnection("foo", None, pools[-1])

        return compare(monkeypatch, make, call, direct)

    yield compared
    for pool in pools:
        pool.disconnect()
