"""Servers that refuse: full, loading, read-only, cut off, with another password, without TLS.

Failovers of Sentinel and Cluster and the durable queue belong to those clients' own tests.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import PoolTimeoutError, is_retryable

from ..support.servers import Server, needs_debian_redis, running_server, wait_until
from .everywhere import everywhere
from .helpers import (
    Client,
    ask,
    check_all_slots_are_back,
    client_of,
    connections_at,
    failure_of,
    frozen,
    takes,
    tls_server,
    told,
)

SECRET = "s3cr3t-w0rd"


def refused_connections(server: Server) -> int:
    """How many connections the server has accepted so far."""
    with redis.Redis(port=server.port, password=SECRET) as admin:
        return int(admin.info("stats")["total_connections_received"])


REFUSALS: dict[str, tuple[list[str], type[Exception], str]] = {
    "full": (["--maxmemory", "1"], redis.OutOfMemoryError, "OOM|command not allowed"),
    "read-only": (["--replicaof", "127.0.0.1 1"], redis.ReadOnlyError, "read only"),
    "without its primary": (
        ["--replicaof", "127.0.0.1 1", "--replica-serve-stale-data", "no"],
        redis.exceptions.MasterDownError,
        "Link with MASTER is down",
    ),
    "without replicas": (["--min-replicas-to-write", "1"], redis.ResponseError, "NOREPLICAS"),
}


def command_of(client: Client, kind: str) -> Any:
    """A command that is refused."""
    return client.get("key") if kind == "without its primary" else client.set("key", "value")


# By a replica: see test_demotion.py.
BY_A_PRIMARY = [kind for kind in REFUSALS if kind != "read-only"]


@everywhere
@pytest.mark.parametrize("kind", BY_A_PRIMARY)
def test_a_refusal_is_an_error_at_once_that_may_be_retried(tmp_path: Path, kind: str) -> None:
    options, error_class, text = REFUSALS[kind]
    with (
        running_server("valkey", tmp_path, *options) as server,
        client_of(server, retries="10") as client,
    ):
        error = failure_of(lambda: command_of(client, kind), at_most=0)
        assert isinstance(error, error_class)
        assert any(part in str(error) for part in text.split("|")), error
        assert is_retryable(error) is True


@pytest.mark.parametrize("kind", BY_A_PRIMARY)
def test_a_refusal_is_a_reply_so_that_the_connection_is_kept(tmp_path: Path, kind: str) -> None:
    with (
        running_server("valkey", tmp_path, *REFUSALS[kind][0]) as server,
        client_of(server) as client,
    ):
        for _ in range(5):
            failure_of(lambda: command_of(client, kind))
        figures = client.connection_pool.stats
        assert (figures.creations, figures.discards) == (1, 0)


@pytest.mark.parametrize("kind", ["full", "read-only", "without replicas"])
def test_a_refusal_within_a_pipeline_is_no_other_commands_reply(tmp_path: Path, kind: str) -> None:
    with (
        running_server("valkey", tmp_path, *REFUSALS[kind][0]) as server,
        client_of(server, max_connections="1") as client,
    ):
        pipeline = client.pipeline(transaction=False).echo("first").set("a", "b").echo("last")
        first, refusal, last = pipeline.execute(raise_on_error=False)
        assert (first, last) == (b"first", b"last")
        assert isinstance(refusal, REFUSALS[kind][1])
        ask(client)


# Loading


@pytest.fixture
def loading_options(tmp_path: Path) -> list[str]:
    """Of a server that takes a second or so to load what it has saved."""
    with running_server("valkey", tmp_path) as server, redis.Redis(port=server.port) as admin:
        pipeline = admin.pipeline(transaction=False)
        for number in range(2000):
            pipeline.set(f"key:{number}", number)
        pipeline.execute()
        admin.save()
    return ["--key-load-delay", "700", "--loading-process-events-interval-bytes", "1024"]


def test_a_server_that_is_loading_is_an_error_at_once_that_may_be_retried(
    tmp_path: Path, loading_options: list[str]
) -> None:
    with (
        running_server("valkey", tmp_path, *loading_options) as server,
        client_of(server) as client,
    ):
        error = failure_of(lambda: client.get("key:1"), at_most=0)
        assert isinstance(error, redis.BusyLoadingError)
        assert is_retryable(error) is True
        assert f"foo: Redis is loading the dataset in memory (127.0.0.1:{server.port})" in str(
            error
        ).replace("Valkey", "Redis")


@pytest.mark.slow("starts a server that takes seconds to load")
def test_retries_wait_until_a_server_has_loaded(tmp_path: Path, loading_options: list[str]) -> None:
    with (
        running_server("valkey", tmp_path, *loading_options) as server,
        client_of(server, retries="100", retry_budget="20 seconds") as client,
    ):
        assert client.get("key:1") == b"1"
        assert client.incr("visits") == 1


# Passwords


@everywhere
def test_a_wrong_password_is_an_error_at_once_and_never_retried(tmp_path: Path) -> None:
    with (
        running_server("valkey", tmp_path, "--requirepass", SECRET) as server,
        client_of(server, password="wrong-one", retries="10") as client,
    ):
        before = refused_connections(server)
        error = failure_of(lambda: client.get("key"), at_most=0)
        assert isinstance(error, redis.AuthenticationError)
        assert is_retryable(error) is False
        assert refused_connections(server) == before + 2  # the client's, and this question's
        assert client.connection_pool.stats.open == 0


def test_a_wrong_password_is_never_shown(tmp_path: Path) -> None:
    with (
        running_server("valkey", tmp_path, "--requirepass", SECRET) as server,
        client_of(server, password="wrong-one") as client,
    ):
        error = failure_of(lambda: client.get("key"))
        assert str(error).startswith("foo: ")
        assert f"127.0.0.1:{server.port}" in str(error)
        assert "wrong-one" not in told(error)
        assert "wrong-one" not in repr(client.connection_pool)


def test_no_password_where_one_is_needed_is_an_error_that_says_so(tmp_path: Path) -> None:
    with (
        running_server("valkey", tmp_path, "--requirepass", SECRET) as server,
        client_of(server) as client,
    ):
        error = failure_of(lambda: client.get("key"), at_most=0)
        assert isinstance(error, redis.AuthenticationError)
        assert "authenticate" in str(error)


# TLS


def test_a_tls_client_on_a_plain_port_gets_an_error_that_says_so(valkey: Server) -> None:
    url = valkey.url.replace("redis:", "rediss:")
    with client_of(url, socket_timeout="200 ms") as client:
        error = failure_of(lambda: client.get("key"), at_most=0.2)
        assert "does the server speak TLS on this port?" in str(error)
        assert f"127.0.0.1:{valkey.port}" in str(error)


@needs_debian_redis
@pytest.mark.parametrize("protocol", ["2", "3"])
def test_a_plain_client_on_a_tls_port_gets_an_error_that_says_so(
    tmp_path: Path, protocol: str
) -> None:
    with tls_server(tmp_path) as (_, url, _trusted):
        plain = url.replace("rediss:", "redis:")
        with client_of(plain, socket_timeout="1 s", protocol=protocol) as client:
            error = failure_of(lambda: client.get("key"))
            assert "does the server expect TLS on this port?" in str(error)


@needs_debian_redis
def test_a_certificate_that_is_not_trusted_is_an_error_at_once(tmp_path: Path) -> None:
    with tls_server(tmp_path) as (_, url, _trusted), client_of(url, retries="2") as client:
        error = failure_of(lambda: client.get("key"))
        assert "CERTIFICATE_VERIFY_FAILED" in str(error)
        assert client.connection_pool.stats.open == 0


@needs_debian_redis
def test_a_tls_connection_that_is_cut_gives_no_wrong_reply(tmp_path: Path) -> None:
    with (
        tls_server(tmp_path) as (server, url, trusted),
        client_of(url, ssl_ca_certs=trusted, max_connections="2") as client,
    ):
        ask(client)
        with redis.Redis(port=server.port) as admin:
            admin.client_kill_filter(_type="normal", skipme=True)
        ask(client)
        check_all_slots_are_back(client, server)


# Blocking


@everywhere
def test_a_queue_may_wait_for_longer_than_socket_timeout(tmp_path: Path) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, socket_timeout="100 ms") as client,
    ):
        queue = client.message_queue("jobs")
        timer = threading.Timer(0.5, queue.put, ("a message",))
        timer.start()
        with takes(at_most=1, at_least=0.4):
            assert queue.get(timeout=5) == b"a message"
        timer.join()
        check_all_slots_are_back(client, server)


@everywhere
def test_a_queue_that_an_administrator_unblocks_goes_on_waiting(tmp_path: Path) -> None:
    with running_server("valkey", tmp_path) as server, client_of(server) as client:
        got: list[Any] = []
        waiting = threading.Thread(
            target=lambda: got.append(client.message_queue("jobs").get(10)), daemon=True
        )
        waiting.start()
        for _ in range(3):
            wait_until(lambda: client.info("clients")["blocked_clients"])
            for connection in client.client_list():
                client.client_unblock(int(connection["id"]), error=True)
        client.message_queue("jobs").put("a message")
        waiting.join(10)
        assert got == [b"a message"]
        check_all_slots_are_back(client, server)


# The pool


@everywhere
def test_an_exhausted_pool_names_the_client_the_wait_and_what_to_change(tmp_path: Path) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, max_connections="2", pool_timeout="200 ms") as client,
    ):
        pool = client.connection_pool
        held = [pool.get_connection() for _ in range(2)]
        with takes(at_most=0.2, at_least=0.2):
            error = failure_of(lambda: client.get("key"))
        assert isinstance(error, PoolTimeoutError)
        for part in ("foo: ", str(server.port), "0.2 seconds", "foo.max_connections"):
            assert part in str(error)
        assert is_retryable(error) is True
        for connection in held:
            pool.release(connection)
        check_all_slots_are_back(client, server)


def test_a_frozen_server_opens_the_circuit_breaker_and_a_thawed_one_closes_it(
    tmp_path: Path,
) -> None:
    settings = {"breaker_failures": "3", "breaker_reset": "300 ms", "socket_timeout": "100 ms"}
    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, **settings) as client,
    ):
        ask(client)
        with frozen(server):
            for _ in range(3):
                failure_of(lambda: client.get("key"), at_most=0.1)
            started = time.monotonic()
            for _ in range(200):
                failure_of(lambda: client.get("key"))
            assert time.monotonic() - started < 1.5  # at most a probe or two have waited
        time.sleep(0.35)
        ask(client)
        ask(client)


def test_one_caller_at_a_time_asks_whether_a_server_is_back(tmp_path: Path) -> None:
    settings = {"breaker_failures": "1", "breaker_reset": "50 ms", "socket_timeout": "400 ms"}
    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, **settings) as client,
    ):
        ask(client)
        with frozen(server):
            failure_of(lambda: client.get("key"))
            time.sleep(0.06)
            slow: list[float] = []

            def call() -> None:
                started = time.monotonic()
                failure_of(lambda: client.get("key"))
                seconds = time.monotonic() - started
                if seconds > 0.2:
                    slow.append(seconds)

            threads = [threading.Thread(target=call) for _ in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(10)
            assert len(slow) == 1
        assert connections_at(server, client.connection_pool) <= 1
