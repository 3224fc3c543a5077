"""The settings reach the pool, its connections and the server; failures leak no slot."""

from __future__ import annotations

import ast
import contextlib
import pathlib
import socket
import ssl
import time
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pyramid_baseplate_redis import MonitoredRedisConnection, pool_from_config

from ...support.servers import Server, free_port, running_server
from .conftest import Listener, client, client_of, make_pool

# Building a pool


def test_building_a_pool_opens_no_socket(listener: Listener) -> None:
    pool = make_pool(listener.url, retries="3", health_check_interval="1 second")
    redis.Redis(connection_pool=pool)
    MonitoredRedisConnection("foo", None, pool).pipeline()
    assert not listener.waiting()


def test_the_first_command_opens_a_socket(listener: Listener) -> None:
    # What the test above would see if building the pool connected.
    with (
        client(listener.url, socket_timeout="50 ms") as redis_client,
        contextlib.suppress(redis.RedisError),
    ):
        redis_client.ping()
    assert listener.waiting()


def test_a_pool_from_four_lines_of_settings_works(server: Server) -> None:
    pool = pool_from_config(
        {
            "redis.url": server.url,
            "redis.max_connections": "99",
            "redis.socket_connect_timeout": "3 seconds",
            "redis.socket_timeout": "200 milliseconds",
        }
    )
    with client_of(pool) as redis_client:
        redis_client.set("greeting", "hello")
        assert redis_client.get("greeting") == b"hello"


def test_the_pool_is_a_blocking_one_of_redis_py() -> None:
    assert isinstance(make_pool("redis://localhost"), redis.BlockingConnectionPool)


def test_the_defaults_of_a_pool_are_ours() -> None:
    pool = make_pool("redis://localhost")
    assert (pool.max_connections, pool.timeout) == (50, 5.0)


def test_the_defaults_of_a_connection_are_ours() -> None:
    connection = make_pool("redis://localhost").make_connection()
    assert {
        "host": connection.host,
        "port": connection.port,
        "db": connection.db,
        "socket_timeout": connection.socket_timeout,
        "socket_connect_timeout": connection.socket_connect_timeout,
        "socket_keepalive": connection.socket_keepalive,
        "health_check_interval": connection.health_check_interval,
        "retries": connection.retry.get_retries(),
        "client_name": connection.client_name,
        "decode_responses": connection.encoder.decode_responses,
        "protocol": connection.protocol,
    } == {
        "host": "localhost",
        "port": 6379,
        "db": 0,
        "socket_timeout": 5.0,
        "socket_connect_timeout": 5.0,
        "socket_keepalive": True,
        "health_check_interval": 0.0,
        "retries": 0,
        "client_name": None,
        "decode_responses": False,
        "protocol": 3,
    }


def test_the_defaults_of_a_tls_connection_check_certificate_and_host_name() -> None:
    connection = make_pool("rediss://localhost").make_connection()
    assert {
        "cert_reqs": connection.cert_reqs,
        "check_hostname": connection.check_hostname,
        "ssl_min_version": connection.ssl_min_version,
    } == {
        "cert_reqs": ssl.CERT_REQUIRED,
        "check_hostname": True,
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
    }


def test_what_tls_connections_get_can_be_written_into_source_code() -> None:
    # RQ's SpawnWorker writes it into the source of the process that it starts, without what
    # redis-py itself passes there.
    keywords = make_pool("rediss://localhost").connection_kwargs
    tls = {key: value for key, value in keywords.items() if key.startswith("ssl_")}
    assert ast.literal_eval(repr(tls)) == tls


@pytest.mark.parametrize(
    ("key", "text", "attribute", "value"),
    [
        ("socket_timeout", "200 milliseconds", "socket_timeout", 0.2),
        ("socket_connect_timeout", "3 seconds", "socket_connect_timeout", 3.0),
        ("socket_keepalive", "false", "socket_keepalive", False),
        ("health_check_interval", "30 seconds", "health_check_interval", 30.0),
        ("protocol", "2", "protocol", 2),
        ("client_name", "web-1", "client_name", "web-1"),
    ],
)
def test_a_setting_reaches_the_connection(key: str, text: str, attribute: str, value: Any) -> None:
    connection = make_pool("redis://localhost", **{key: text}).make_connection()
    assert getattr(connection, attribute) == value


@pytest.mark.parametrize(
    ("key", "text", "attribute", "value"),
    [("max_connections", "7", "max_connections", 7), ("pool_timeout", "0 s", "timeout", 0.0)],
)
def test_a_setting_reaches_the_pool(key: str, text: str, attribute: str, value: Any) -> None:
    assert getattr(make_pool("redis://localhost", **{key: text}), attribute) == value


@pytest.mark.parametrize("scheme", ["redis", "valkey"])
def test_a_plain_scheme_makes_plain_connections(scheme: str) -> None:
    assert make_pool(f"{scheme}://h").connection_class is redis.Connection


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
def test_a_tls_scheme_makes_tls_connections(scheme: str) -> None:
    assert make_pool(f"{scheme}://h").connection_class is redis.SSLConnection


# What a real server sees of the settings


def test_the_server_sees_the_client_name(valkey: Server) -> None:
    with client(valkey.url, client_name="web-1") as redis_client:
        assert redis_client.client_getname() in (b"web-1", "web-1")


@pytest.mark.parametrize("protocol", [2, 3])
def test_the_server_sees_the_protocol(valkey: Server, protocol: int) -> None:
    with client(valkey.url, protocol=str(protocol)) as redis_client:
        assert redis_client.client_info()["resp"] == str(protocol)


def test_replies_have_the_shapes_of_a_plain_redis_pys_where_no_protocol_is_set(
    valkey: Server,
) -> None:
    with client(valkey.url) as ours, redis.Redis(port=valkey.port) as plain:
        plain.xadd("stream", {"field": "value"})
        plain.zadd("scores", {"one": 1, "two": 2})
        for ask in (
            lambda asked: asked.xread({"stream": 0}),
            lambda asked: asked.zrange("scores", 0, -1, withscores=True),
            lambda asked: asked.client_trackinginfo(),
        ):
            assert ask(ours) == ask(plain)


def test_redis_py_gets_a_protocol_only_where_one_is_set() -> None:
    assert "protocol" not in make_pool("redis://h").connection_kwargs
    assert make_pool("redis://h", protocol="3").connection_kwargs["protocol"] == 3


def test_the_server_sees_the_database(valkey: Server) -> None:
    with client(valkey.url.replace("/0", "/3")) as redis_client:
        assert redis_client.client_info()["db"] == 3


@pytest.mark.parametrize(("text", "reply"), [("true", "hello"), ("false", b"hello")])
def test_replies_are_decoded_as_the_settings_say(
    valkey: Server, text: str, reply: str | bytes
) -> None:
    with client(valkey.url, decode_responses=text) as redis_client:
        redis_client.set("greeting", "hello")
        assert redis_client.get("greeting") == reply


def test_decode_responses_false_in_the_url_is_false(valkey: Server) -> None:
    with client(f"{valkey.url}?decode_responses=False") as redis_client:
        redis_client.set("greeting", "hello")
        assert redis_client.get("greeting") == b"hello"


@pytest.mark.parametrize(("text", "expected"), [("true", True), ("false", False)])
def test_the_socket_is_kept_alive_as_the_settings_say(
    valkey: Server, text: str, expected: bool
) -> None:
    pool = make_pool(valkey.url, socket_keepalive=text)
    connection = pool.get_connection()
    option = connection._sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    pool.disconnect()
    assert bool(option) is expected


def test_a_reply_that_takes_longer_than_socket_timeout_is_an_error(valkey: Server) -> None:
    with (
        client(valkey.url, socket_timeout="50 ms") as redis_client,
        pytest.raises(redis.TimeoutError),
    ):
        redis_client.execute_command("BLPOP", "nothing", 2)


def test_a_server_on_a_unix_socket_is_reached(
    tmp_path: pathlib.Path, socket_directory: pathlib.Path
) -> None:
    path = socket_directory / "r.sock"
    with (
        running_server("valkey", tmp_path, "--unixsocket", str(path)),
        client(f"unix://{path}?db=2") as redis_client,
    ):
        assert redis_client.client_info()["db"] == 2


def test_an_acl_user_is_logged_in(valkey: Server, acl_user: tuple[str, str]) -> None:
    name, password = acl_user
    with client(valkey.url, username=name, password=password) as redis_client:
        assert redis_client.acl_whoami() in (b"app", "app")


def test_no_maintenance_notifications_are_asked_for(tmp_path: pathlib.Path) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        client(server.url) as redis_client,
    ):
        redis_client.ping()
        assert redis_client.info("stats")["total_error_replies"] == 0


def test_an_unread_reply_is_never_given_to_the_next_command(valkey: Server) -> None:
    pool = make_pool(valkey.url, max_connections="1")
    connection = pool.get_connection()
    connection.send_command("ECHO", "somebody else's reply")
    assert connection.can_read(5)
    pool.release(connection)
    with client_of(pool) as redis_client:
        assert redis_client.echo("mine") == b"mine"


# Slots


@pytest.mark.parametrize(
    ("url", "keywords"),
    [
        pytest.param("redis://h", {"protocol": 7}, id="protocol"),
        pytest.param("rediss://h", {"ssl_cert_reqs": "nonsense"}, id="ssl_cert_reqs"),
    ],
)
def test_a_connection_that_cannot_be_made_leaks_no_slot(url: str, keywords: dict[str, Any]) -> None:
    pool = make_pool(
        url, max_connections="2", pool_timeout="0 s", **{f"__{k}": v for k, v in keywords.items()}
    )
    messages = set()
    for _ in range(5):
        with pytest.raises(redis.RedisError) as caught:
            pool.get_connection()
        messages.add(str(caught.value))
    assert "No connection available." not in messages


def test_a_server_that_cannot_be_reached_leaks_no_slot() -> None:
    pool = make_pool(f"redis://127.0.0.1:{free_port()}", max_connections="1", pool_timeout="0 s")
    messages = set()
    for _ in range(3):
        with pytest.raises(redis.ConnectionError) as caught:
            pool.get_connection()
        messages.add(str(caught.value))
    assert "No connection available." not in messages


def test_an_exhausted_pool_is_an_error_after_pool_timeout(valkey: Server) -> None:
    pool = make_pool(valkey.url, max_connections="1", pool_timeout="50 ms")
    held = pool.get_connection()
    started = time.monotonic()
    with pytest.raises(redis.ConnectionError, match="No connection available"):
        pool.get_connection()
    assert time.monotonic() - started >= 0.045
    pool.release(held)


# Retries


def test_nothing_is_tried_again_by_default(listener: Listener) -> None:
    listener.hang_up()
    pool = make_pool(listener.url)
    assert listener.attempts(redis.Redis(connection_pool=pool).ping) == 1


def test_retries_are_as_the_settings_say(listener: Listener) -> None:
    listener.hang_up()
    pool = make_pool(listener.url, retries="2")
    assert listener.attempts(MonitoredRedisConnection("foo", None, pool).ping) == 3


def test_set_retry_holds_for_connections_made_later(listener: Listener) -> None:
    listener.hang_up()
    pool = make_pool(listener.url)
    pool.set_retry(Retry(NoBackoff(), 3))
    assert listener.attempts(redis.Redis(connection_pool=pool).ping) == 4


def test_set_retry_holds_for_connections_made_before(listener: Listener) -> None:
    listener.hang_up()
    redis_client = redis.Redis(connection_pool=make_pool(listener.url, max_connections="1"))
    listener.attempts(redis_client.ping)
    redis_client.set_retry(Retry(NoBackoff(), 3))
    assert listener.attempts(redis_client.ping) == 4
