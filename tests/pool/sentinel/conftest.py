"""Clients of a Sentinel set, and helpers that read their spans and errors."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import MonitoredRedisConnection, sentinel_pool_from_config

from ...faults.helpers import unique
from ...support.servers import RecordedSpans, attributes
from ...support.topologies import SentinelSet

SECRETS = ("of-the-servers", "of-the-sentinels")
WRITE_SCRIPT = "return redis.call('SET', 'key', 'value')"
NOWHERE = "redis+sentinel://127.0.0.1:1,127.0.0.1:2/mymaster"

MakeFoo = Callable[..., MonitoredRedisConnection]


@pytest.fixture
def make_foo() -> Iterator[MakeFoo]:
    """Make the client ``foo`` of a Sentinel set or a URL, with the settings given."""
    pools: list[Any] = []

    def make(where: SentinelSet | str, /, **settings: str) -> MonitoredRedisConnection:
        url = where if isinstance(where, str) else where.url
        settings = {"client_name": f"foo-{unique()}", "socket_timeout": "2 seconds", **settings}
        keys = {f"foo.{key}": value for key, value in settings.items()}
        pools.append(sentinel_pool_from_config({"foo.url": url, **keys}, "foo."))
        return MonitoredRedisConnection("foo", None, pools[-1])

    yield make
    for pool in pools:
        pool.disconnect()


@pytest.fixture
def valkeys(valkey_sentinels: SentinelSet) -> SentinelSet:
    """An empty set of Valkeys: for tests in which the kind of server makes no difference."""
    valkey_sentinels.tidy()
    return valkey_sentinels


@pytest.fixture
def foo(make_foo: MakeFoo, valkeys: SentinelSet) -> MonitoredRedisConnection:
    return make_foo(valkeys)


def pool_of(client: redis.Redis) -> Any:
    return client.connection_pool


def ports(spans: RecordedSpans) -> list[tuple[str, Any]]:
    """The names of all spans, and which port each says that it went to."""
    return [(span.name, attributes(span).get("server.port")) for span in spans.all]


def error_of(call: Callable[[], Any]) -> redis.RedisError:
    with pytest.raises(redis.RedisError) as caught:
        call()
    return caught.value


def told(error: BaseException) -> str:
    """All that a log would show of it."""
    return "".join(traceback.format_exception(error))


def ask(connection: Any) -> Any:
    connection.send_command("PING")
    return connection.read_response()


def another_address(sentinels: SentinelSet) -> tuple[str, int]:
    return sentinels.replica().host, sentinels.replica().port


def listeners_at(sentinels: SentinelSet, pool: Any) -> int:
    """How many connections of a pool the Sentinels have that wait for announcements."""
    name = pool if isinstance(pool, str) else pool.connection_kwargs["client_name"]
    connected = [c for node in sentinels.sentinels for c in node.client.client_list()]
    return sum(c["name"] == name and int(c["sub"]) == 3 for c in connected)
