"""The span of a command or pipeline has the time that it waited for a connection."""

from __future__ import annotations

import threading

import pytest
import redis

from pyramid_baseplate_redis import MonitoredRedisConnection

from ...support.servers import RecordedSpans, Server, attributes
from .conftest import client_of, make_pool, wait_until

WAIT_TIME = "pyramid_baseplate_redis.connection.wait_time"


def blocked_clients(server: Server) -> int:
    with redis.Redis(port=server.port) as admin:
        return int(admin.info("clients")["blocked_clients"])


@pytest.fixture
def waited(valkey: Server, spans: RecordedSpans) -> RecordedSpans:
    """The spans of a BLPOP and of a GET that had to wait for the pool's only connection."""
    pool = make_pool(valkey.url, max_connections="1")
    monitored = MonitoredRedisConnection("foo", None, pool)
    first = threading.Thread(
        target=monitored.execute_command, args=("BLPOP", "nothing", 0.3), daemon=True
    )
    second = threading.Thread(target=monitored.get, args=("key",), daemon=True)
    first.start()
    wait_until(lambda: blocked_clients(valkey) == 1)
    second.start()
    first.join(10)
    second.join(10)
    pool.disconnect()
    return spans


def test_the_span_of_a_command_that_waited_for_a_connection_tells_how_long(
    waited: RecordedSpans,
) -> None:
    assert 0 < attributes(waited.one("foo.GET"))[WAIT_TIME] < 5


def test_the_span_of_a_command_that_did_not_wait_has_no_wait_time(
    waited: RecordedSpans,
) -> None:
    assert WAIT_TIME not in attributes(waited.one("foo.BLPOP"))


def test_a_wait_is_reported_by_one_span_only(valkey: Server, waited: RecordedSpans) -> None:
    waited.clear()
    with client_of(make_pool(valkey.url)) as redis_client:
        MonitoredRedisConnection("foo", None, redis_client.connection_pool).get("key")
    assert WAIT_TIME not in attributes(waited.one("foo.GET"))


def test_the_span_of_a_command_that_waited_in_vain_tells_how_long(
    valkey: Server, spans: RecordedSpans
) -> None:
    pool = make_pool(valkey.url, max_connections="1", pool_timeout="50 ms")
    held = pool.get_connection()
    with pytest.raises(redis.ConnectionError):
        MonitoredRedisConnection("foo", None, pool).get("key")
    pool.release(held)
    assert attributes(spans.one("foo.GET"))[WAIT_TIME] >= 0.045


def test_the_span_of_a_pipeline_that_waited_tells_how_long(
    valkey: Server, spans: RecordedSpans
) -> None:
    pool = make_pool(valkey.url, max_connections="1")
    held = pool.get_connection()
    threading.Timer(0.1, pool.release, (held,)).start()
    MonitoredRedisConnection("foo", None, pool).pipeline("both").get("a").get("b").execute()
    pool.disconnect()
    assert attributes(spans.one("foo.pipeline_both"))[WAIT_TIME] > 0
