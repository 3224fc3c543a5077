"""The page about failures has the exception and the error type that each fault really causes."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from ..faults.proxy import Proxy
from ..support.servers import MakeClient, RecordedSpans, Server, attributes, running_server

PAGE = (Path(__file__).parents[2] / "docs/explanation/failures.rst").read_text()
ROWS = {
    fault: (exception, error_type)
    for fault, exception, error_type in re.findall(
        r"   \* - (.+)\n     - ``(.+)``\n     - ``(.+)``", PAGE
    )
}
NOWHERE = "redis://localhost:1/0"


def down(make: MakeClient, valkey: Server) -> None:
    make(NOWHERE).set("key", "value")


def frozen_server(make: MakeClient, valkey: Server) -> None:
    with Proxy(valkey.port) as proxy:
        client = make(f"redis://localhost:{proxy.port}/0", socket_timeout="100 ms")
        client.ping()
        proxy.freeze(True)
        client.set("key", "value")


def broken_connection(make: MakeClient, valkey: Server) -> None:
    with Proxy(valkey.port) as proxy:
        client = make(f"redis://localhost:{proxy.port}/0")
        client.ping()
        proxy.lose_replies(True)
        client.set("key", "value")


def exhausted_pool(make: MakeClient, valkey: Server) -> None:
    client = make(valkey, max_connections="1", pool_timeout="50 ms")
    connection = client.connection_pool.get_connection()
    try:
        client.set("key", "value")
    finally:
        client.connection_pool.release(connection)


def open_breaker(make: MakeClient, valkey: Server) -> None:
    client = make(NOWHERE, breaker_failures="1")
    with suppress(redis.ConnectionError):
        client.get("key")
    client.set("key", "value")


def passed_deadline(make: MakeClient, valkey: Server) -> None:
    with make(valkey).within(1e-9) as client:
        client.set("key", "value")


def wrong_password(make: MakeClient, valkey: Server) -> None:
    make(valkey, username="nobody", password="wrong").set("key", "value")


def forbidden(make: MakeClient, valkey: Server) -> None:
    admin = make(valkey)
    admin.acl_setuser("reader", enabled=True, passwords="+pw", commands=["+get", "+hello"])
    try:
        make(valkey, username="reader", password="pw", protocol="3").set("key", "value")
    finally:
        admin.acl_deluser("reader")


def other_type(make: MakeClient, valkey: Server) -> None:
    client = make(valkey)
    client.lpush("key", "element")
    client.set("key", "value", get=True)


FAULTS: dict[str, Callable[[MakeClient, Server], None]] = {
    "The server is down": down,
    "The server is frozen": frozen_server,
    "The connection breaks before the reply": broken_connection,
    "The pool is exhausted": exhausted_pool,
    "The circuit breaker is open": open_breaker,
    "The deadline has passed": passed_deadline,
    "The password is wrong": wrong_password,
    "The user may not call the command": forbidden,
    "The key has another type": other_type,
}
REFUSING_SERVERS = {
    "The memory is full": ["--maxmemory", "1"],
    "The server is a replica": ["--replicaof", "127.0.0.1 1"],
}


def check(fault: str, call: Callable[[], object], spans: RecordedSpans) -> None:
    """Check that ``call`` fails as the page says."""
    exception, error_type = ROWS[fault]
    with pytest.raises(Exception) as caught:  # noqa: PT011 (the page names the class)
        call()

    assert type(caught.value).__name__ == exception
    assert attributes(spans.one("foo.SET"))["error.type"] == error_type


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault(fault: str, make_client: MakeClient, valkey: Server, spans: RecordedSpans) -> None:
    check(fault, lambda: FAULTS[fault](make_client, valkey), spans)


@pytest.mark.parametrize("fault", REFUSING_SERVERS)
def test_a_server_that_refuses(
    fault: str, make_client: MakeClient, tmp_path: Path, spans: RecordedSpans
) -> None:
    with running_server("valkey", tmp_path, *REFUSING_SERVERS[fault]) as server:
        check(fault, lambda: make_client(server).set("key", "value"), spans)


def test_each_row_is_tested() -> None:
    assert ROWS.keys() == {*FAULTS, *REFUSING_SERVERS}
