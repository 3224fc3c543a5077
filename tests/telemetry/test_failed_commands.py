"""Spans of commands that fail or wait for a connection: errors, codes, wait times."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from pyramid_baseplate_redis import MonitoredRedisConnection

from ..support.operations import execute_pipeline, get, put, subscribe, take, watch
from ..support.servers import (
    MakeClient,
    RecordedSpans,
    Server,
    attributes,
    free_port,
    interrupt_when_blocked,
)

SECRET = "hunter2-secretword"


def failed(span: ReadableSpan) -> tuple[str | None, str | None]:
    """The error's type and the server's code, of a span that has to tell of a failure."""
    assert span.status.status_code is StatusCode.ERROR
    found = attributes(span)
    return found.get("error.type"), found.get("db.response.status_code")


# Failures


def make_string(client: redis.Redis) -> None:
    client.set("text", "not a list")


FAILURES = [
    pytest.param(lambda c: c.lpush("text", 1), "WRONGTYPE", id="WRONGTYPE"),
    pytest.param(lambda c: c.incr("text"), "ERR", id="ERR"),
    pytest.param(lambda c: c.evalsha("f" * 40, 0), "NOSCRIPT", id="NOSCRIPT"),
    pytest.param(
        lambda c: c.execute_command("FCALL", "no_such_function", 0),
        "ERR",
        id="FCALL",
    ),
    pytest.param(lambda c: c.execute_command("NO.SUCH", SECRET), "ERR", id="unknown command"),
    pytest.param(
        lambda c: c.execute_command("AUTH", "nobody", SECRET),
        "WRONGPASS",
        id="WRONGPASS",
    ),
]


@pytest.mark.parametrize(("call", "code"), FAILURES)
def test_a_servers_error_has_its_code_as_its_type(
    server: Server,
    make_client: MakeClient,
    spans: RecordedSpans,
    call: Callable[[redis.Redis], Any],
    code: str,
) -> None:
    client = make_client(server)
    make_string(client)
    spans.clear()
    with pytest.raises(redis.RedisError):
        call(client)
    (span,) = spans.all
    assert failed(span) == (code, code)


def test_a_full_server_is_reported_by_its_code(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(server)
    client.config_set("maxmemory", "1")
    try:
        with pytest.raises(redis.OutOfMemoryError):
            client.set("key", "value")
    finally:
        client.config_set("maxmemory", "0")
    assert failed(spans.one("foo.SET")) == ("OOM", "OOM")


@pytest.mark.parametrize(("call", "code"), FAILURES)
def test_a_failure_leaves_no_text_in_its_span(
    valkey: Server,
    make_client: MakeClient,
    spans: RecordedSpans,
    call: Callable[[redis.Redis], Any],
    code: str,
) -> None:
    client = make_client(valkey)
    make_string(client)
    spans.clear()
    with pytest.raises(redis.RedisError):
        call(client)
    (span,) = spans.all
    assert (span.status.description, list(span.events)) == (None, [])
    assert SECRET not in span.to_json()


def test_a_refused_connection_is_a_failure_without_code(
    make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(redis.ConnectionError):
        client.ping()
    assert failed(spans.one("foo.PING")) == ("redis.exceptions.ConnectionError", None)


def test_a_timeout_is_a_failure_without_code(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(valkey, socket_timeout="50 milliseconds")
    with pytest.raises(redis.TimeoutError):
        client.blpop("nothing", timeout=1)
    assert failed(spans.one("foo.BLPOP")) == ("redis.exceptions.TimeoutError", None)


def test_an_exhausted_pool_is_a_failure(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(valkey, max_connections="1", pool_timeout="20 milliseconds")
    connection = client.connection_pool.get_connection()
    with pytest.raises(redis.ConnectionError):
        client.ping()
    client.connection_pool.release(connection)
    assert spans.one("foo.PING").status.status_code is StatusCode.ERROR


def test_a_callback_that_raises_is_a_failure_of_its_own_type(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(valkey)

    def refuse(response: bytes, **options: Any) -> None:
        raise ZeroDivisionError(SECRET)

    client.set_response_callback("GET", refuse)
    with pytest.raises(ZeroDivisionError):
        client.get("key")
    assert failed(spans.one("foo.GET")) == ("ZeroDivisionError", None)


def test_an_interrupted_command_ends_its_span(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(server, max_connections="1")
    thread = interrupt_when_blocked(server)
    with pytest.raises(KeyboardInterrupt):
        client.blpop("nothing", timeout=4)
    thread.join()
    assert failed(spans.one("foo.BLPOP")) == ("KeyboardInterrupt", None)


def test_an_interrupted_command_leaves_no_reply_to_the_next(
    server: Server, make_client: MakeClient
) -> None:
    client = make_client(server, max_connections="1")
    client.set("key", "value")
    thread = interrupt_when_blocked(server)
    with pytest.raises(KeyboardInterrupt):
        client.blpop("later", timeout=4)
    thread.join()
    with redis.Redis(port=server.port) as other:
        other.rpush("later", "a message")
    assert client.get("key") == b"value"


# Waiting for a connection


@pytest.mark.parametrize(
    "call", [get, execute_pipeline, watch, subscribe, put, take], ids=lambda c: c.__name__
)
def test_waiting_for_a_connection_is_distinguished(
    valkey: Server,
    make_client: MakeClient,
    spans: RecordedSpans,
    call: Callable[[MonitoredRedisConnection], None],
) -> None:
    with redis.Redis(port=valkey.port) as other:
        other.rpush("jobs", "a message")
    client = make_client(valkey, max_connections="1")
    held = client.connection_pool.get_connection()
    timer = threading.Timer(0.2, client.connection_pool.release, [held])
    timer.start()
    call(client)
    timer.join()
    (span,) = spans.all
    assert 0.05 < attributes(span)["pyramid_baseplate_redis.connection.wait_time"] < 2


@pytest.mark.parametrize(
    "call", [get, execute_pipeline, watch, subscribe, put, take], ids=lambda c: c.__name__
)
@pytest.mark.parametrize("excluded", [False, True], ids=["span", "no span"])
def test_another_commands_wait_is_not_reported(
    valkey: Server,
    make_client: MakeClient,
    spans: RecordedSpans,
    call: Callable[[MonitoredRedisConnection], None],
    excluded: bool,
) -> None:
    with redis.Redis(port=valkey.port) as other:
        other.rpush("jobs", "a message")
    client = make_client(valkey, max_connections="1", trace_exclude="PING" if excluded else "INFO")
    held = client.connection_pool.get_connection()
    timer = threading.Timer(0.1, client.connection_pool.release, [held])
    timer.start()
    client.ping()
    timer.join()
    spans.clear()
    call(client)
    (span,) = spans.all
    assert "pyramid_baseplate_redis.connection.wait_time" not in attributes(span)
