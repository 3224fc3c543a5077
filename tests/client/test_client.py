"""MonitoredRedisConnection: it acts as redis.Redis in everything, with a span for each command."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from mirakuru import TCPExecutor
from redis.sentinel import Sentinel

from pyramid_baseplate_redis import MonitoredRedisConnection, pool_from_config

from ..support.servers import (
    MakeClient,
    RecordedSpans,
    Server,
    attributes,
    free_port,
    server_binary,
)
from .conftest import failures, tracer

# Results and exceptions


def test_it_is_a_redis_client(valkey: Server, make_client: MakeClient) -> None:
    assert isinstance(make_client(valkey), redis.Redis)


def test_a_result_is_the_object_that_redis_py_made(valkey: Server, make_client: MakeClient) -> None:
    result = object()
    client = make_client(valkey)
    client.set_response_callback("GET", lambda response, **options: result)
    assert client.get("key") is result


def test_an_exception_is_the_object_that_redis_py_raised(
    valkey: Server, make_client: MakeClient
) -> None:
    error = redis.RedisError("from within redis-py")
    client = make_client(valkey)

    def refuse(response: bytes, **options: Any) -> None:
        raise error

    client.set_response_callback("GET", refuse)
    with pytest.raises(redis.RedisError) as raised:
        client.get("key")
    assert raised.value is error


CALLS: list[Callable[[redis.Redis], Any]] = [
    lambda c: c.set("text", "value"),
    lambda c: c.set("text", "other", nx=True),
    lambda c: c.get("text"),
    lambda c: c.get("missing"),
    lambda c: c.incrbyfloat("float", 0.5),
    lambda c: c.hset("hash", mapping={"a": 1, "b": 2}),
    lambda c: c.hgetall("hash"),
    lambda c: c.zadd("sorted", {"a": 1, "b": 2.5}),
    lambda c: c.zrange("sorted", 0, -1, withscores=True),
    lambda c: c.smembers("missing"),
    lambda c: c.mget("text", "missing"),
    lambda c: c.xadd("stream", {"field": "value"}, id="1-1"),
    lambda c: c.xrange("stream"),
    lambda c: c.scan(match="text"),
    lambda c: c.exists("text", "hash", "missing"),
    lambda c: c.config_get("maxmemory"),
    lambda c: c.execute_command("GET", "text"),
    lambda c: c.lpush("text", 1),
    lambda c: c.incr("text"),
    lambda c: c.evalsha("f" * 40, 0),
    lambda c: c.execute_command("NO.SUCH", "argument"),
    lambda c: c.execute_command("GET"),
    lambda c: c.set("text", object()),
    lambda c: c.set("text", "value", ex=1, px=1),
    lambda c: c.lock("text", blocking=False).acquire(),
    lambda c: c.lock("text").release(),
    lambda c: c.lock("text").extend(1),
    lambda c: c.pipeline().set("text", "value").lpush("text", 1).execute(),
    lambda c: c.pipeline(False).set("text", "value").lpush("text", 1).execute(),
    lambda c: c.pipeline().execute_command("NO.SUCH", "argument").execute(),
    lambda c: c.pipeline().get("text").get("missing").hgetall("hash").execute(),
    lambda c: c.transaction(lambda p: p.get("text"), "text"),
    lambda c: c.json().get("document"),
    lambda c: c.publish("news", "now"),
    lambda c: list(c.scan_iter("text")),
]


def outcome(client: redis.Redis, call: Callable[[redis.Redis], Any]) -> Any:
    try:
        result = call(client)
    except Exception as error:
        return type(error), repr(error.args), str(error)
    return type(result), result


@pytest.mark.parametrize(
    "settings",
    [{}, {"decode_responses": "true"}, {"protocol": "2"}],
    ids=["bytes", "decoded", "RESP2"],
)
def test_results_and_exceptions_are_those_of_redis_py(
    server: Server, make_client: MakeClient, settings: dict[str, str]
) -> None:
    client = make_client(server, **settings)
    plain = redis.Redis(connection_pool=client.connection_pool)
    expected = [outcome(plain, call) for call in CALLS]
    plain.flushall()
    assert [outcome(client, call) for call in CALLS] == expected


def test_the_raised_error_has_no_cause_and_no_context(
    valkey: Server, make_client: MakeClient
) -> None:
    client = make_client(valkey)
    client.set("text", "value")
    with pytest.raises(redis.ResponseError) as raised:
        client.lpush("text", 1)
    assert (raised.value.__cause__, raised.value.__context__) == (None, None)


def test_decoded_responses_are_text(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(server, decode_responses="true")
    client.set("greeting", "hello")
    assert client.get("greeting") == "hello"
    assert spans.names == ["foo.SET", "foo.GET"]


def test_threads_get_their_own_replies(valkey: Server, make_client: MakeClient) -> None:
    client = make_client(valkey, max_connections="3")
    wrong: list[str] = []

    def echo(number: int) -> None:
        for turn in range(100):
            text = f"{number}-{turn}"
            if client.echo(text) != text.encode():
                wrong.append(text)

    threads = [threading.Thread(target=echo, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_span_for_each_round_trip_of_an_iterator(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(server)
    client.mset({f"key:{number}": number for number in range(100)})
    spans.clear()
    with tracer.start_as_current_span("request"):
        assert len(set(client.scan_iter("key:*", count=10))) == 100
    assert len(spans.named("foo.SCAN")) > 2
    assert set(spans.tree()) == {("request", None), ("foo.SCAN", "request")}


# Other ways to a client


def test_a_client_that_keeps_its_connection(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    request = tracer.start_span("request")
    with make_client(server, request).client() as single:
        assert isinstance(single, MonitoredRedisConnection)
        assert single.client_id() == single.client_id()
    request.end()
    assert spans.tree() == [
        ("request", None),
        ("foo.CLIENT ID", "request"),
        ("foo.CLIENT ID", "request"),
    ]


def test_a_client_that_keeps_its_connection_gives_it_back(
    valkey: Server, make_client: MakeClient
) -> None:
    client = make_client(valkey, max_connections="1", pool_timeout="50 milliseconds")
    with client.client() as single:
        single.ping()
        with pytest.raises(redis.ConnectionError):
            client.ping()
    assert client.ping()


class OfOurOwn(MonitoredRedisConnection):
    """A team's client, whose constructor takes what redis-py passes and nothing else."""

    def __init__(self, connection_pool: Any = None, single_connection_client: bool = False) -> None:
        super().__init__(
            "own",
            connection_pool=connection_pool,
            single_connection_client=single_connection_client,
        )


def test_a_client_that_keeps_its_connection_is_of_a_subclass_with_another_constructor(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    with OfOurOwn(make_client(valkey).connection_pool).client() as single:
        assert isinstance(single, OfOurOwn)
        assert single.ping()
    assert spans.names == ["own.PING"]


@pytest.mark.parametrize("port", [7911, "7911"])
def test_positional_arguments_of_redis_py_are_refused(port: Any) -> None:
    with pytest.raises(TypeError, match=r"^server_span: .* pass the arguments of redis.Redis by n"):
        MonitoredRedisConnection("localhost", port)


@pytest.mark.parametrize("host", ["127.0.0.1", "cache-1", "redis://:secret@localhost"])
def test_a_positional_host_is_refused_without_being_quoted(host: str) -> None:
    with pytest.raises(TypeError, match=r"^context_name: .*by name") as caught:
        MonitoredRedisConnection(host)
    assert host not in str(caught.value)


def test_arguments_of_redis_py_may_be_named(valkey: Server) -> None:
    with MonitoredRedisConnection(host="127.0.0.1", port=valkey.port) as client:
        assert client.config_get("port") == {"port": str(valkey.port)}


def test_monitor_is_one_span_and_what_it_shows_none(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(server)
    with redis.Redis(port=server.port) as other, client.monitor() as monitor:
        other.set("key", "value")
        while monitor.next_command()["command"] != "SET key value":
            pass
    assert spans.names == ["foo.MONITOR"]
    assert client.ping()


def test_monitor_that_fails_is_a_failure(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    with redis.Redis(port=server.port) as admin:
        admin.acl_setuser("guest", enabled=True, nopass=True, commands=["+@all", "-monitor"])
        client = make_client(server, username="guest", password="any")
        with pytest.raises(redis.exceptions.NoPermissionError), client.monitor():
            pass
        admin.acl_deluser("guest")
    assert failures(spans) == ["foo.MONITOR"]


def test_from_url_is_monitored(server: Server, spans: RecordedSpans) -> None:
    with MonitoredRedisConnection.from_url(server.url, decode_responses=True) as client:
        client.set("greeting", "hello")
        assert client.get("greeting") == "hello"
    assert spans.names == ["redis.SET", "redis.GET"]
    assert attributes(spans.one("redis.GET"))["server.port"] == server.port


def test_from_pool_is_monitored(server: Server, spans: RecordedSpans) -> None:
    pool = redis.ConnectionPool(port=server.port)
    with MonitoredRedisConnection.from_pool(pool) as client:
        assert client.ping()
    assert spans.names == ["redis.PING"]


def test_the_plain_constructors_keywords_work(server: Server, spans: RecordedSpans) -> None:
    with MonitoredRedisConnection(host="127.0.0.1", port=server.port, db=2) as client:
        assert client.ping()
    assert attributes(spans.one("redis.PING"))["db.namespace"] == "2"


def test_the_reference_arguments_are_positional(valkey: Server, spans: RecordedSpans) -> None:
    pool = pool_from_config({"foo.url": valkey.url}, "foo.")
    with tracer.start_as_current_span("request") as request:
        MonitoredRedisConnection("foo", request, pool).ping()
    pool.disconnect()
    assert ("foo.PING", "request") in spans.tree()


@pytest.fixture
def sentinel(valkey: Server, tmp_path: Path) -> Iterator[Sentinel]:
    """A Valkey in Sentinel mode that watches the session's server."""
    port = free_port()
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\n"
        f"sentinel monitor primary 127.0.0.1 {valkey.port} 1\n"
    )
    command = [server_binary("valkey"), str(configuration), "--sentinel"]
    with TCPExecutor(command, "127.0.0.1", port, timeout=10):
        yield Sentinel([("127.0.0.1", port)], socket_timeout=2)


def test_sentinels_primary_is_monitored(sentinel: Sentinel, spans: RecordedSpans) -> None:
    with sentinel.master_for("primary", redis_class=MonitoredRedisConnection) as client:
        client.set("key", "value")
        client.pipeline("pair").get("key").get("key").execute()
    assert spans.names == ["redis.SET", "redis.pipeline_pair"]


def test_behind_sentinel_no_other_servers_address_is_reported(
    sentinel: Sentinel, valkey: Server, spans: RecordedSpans
) -> None:
    with sentinel.master_for("primary", redis_class=MonitoredRedisConnection) as client:
        client.ping()
    told = attributes(spans.one("redis.PING"))
    assert (told.get("server.address"), told.get("server.port")) in [
        ("127.0.0.1", valkey.port),
        (None, None),
    ]
