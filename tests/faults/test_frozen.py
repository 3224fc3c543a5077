"""A server that is frozen: errors come in time.

Fail-over by Sentinel and of a Cluster is tested with those clients.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
import redis

from pyramid_baseplate_redis import PoolTimeoutError, is_retryable

from ..support.servers import Server, running_server
from .everywhere import everywhere
from .helpers import (
    FAILURES,
    QUESTIONS,
    Client,
    ask,
    check,
    check_all_slots_are_back,
    client_of,
    failure_of,
    frozen,
    in_threads,
    takes,
    unique,
)

pytestmark = [
    pytest.mark.slow("waits for timeouts of frozen servers"),
    pytest.mark.timed("measures how long the timeouts take"),
]


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    with frozen(server):
        yield


@contextmanager
def paused(server: Server) -> Iterator[None]:
    with redis.Redis(port=server.port) as admin:
        admin.client_pause(1500)
        yield
        admin.ping()  # answers when the pause is over


@contextmanager
def sleeping(server: Server) -> Iterator[None]:
    with redis.Redis(port=server.port) as admin:
        admin.ping()
        thread = threading.Thread(target=admin.execute_command, args=("DEBUG", "SLEEP", "1.5"))
        thread.start()
        time.sleep(0.1)
        yield
        thread.join(10)


WAYS_TO_FREEZE = {"SIGSTOP": stopped, "CLIENT PAUSE": paused, "DEBUG SLEEP": sleeping}


@everywhere
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "unconnected"])
@pytest.mark.parametrize("way", WAYS_TO_FREEZE)
def test_a_frozen_server_costs_at_most_socket_timeout(
    tmp_path: Path, way: str, connected: bool
) -> None:
    with running_server("valkey", tmp_path, "--enable-debug-command", "local") as server:
        clients = [
            client_of(server, socket_timeout="500 ms", max_connections="3") for _ in QUESTIONS
        ]
        with ExitStack() as stack:
            entered = [stack.enter_context(client) for client in clients]
            if connected:
                in_threads(*[client.ping for client in entered])

            def fail(client: Client, question: Callable[[Client], None]) -> None:
                with takes(at_most=0.5), pytest.raises(FAILURES):
                    question(client)

            with WAYS_TO_FREEZE[way](server):
                in_threads(*map(partial(partial, fail), entered, QUESTIONS.values()))
            for client in entered:
                check_all_slots_are_back(client, server)


@everywhere
def test_a_reply_that_comes_too_late_is_no_answer_to_the_next_question(tmp_path: Path) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, socket_timeout="50 ms", max_connections="2") as client,
    ):
        for question in QUESTIONS.values():
            client.ping()
            with frozen(server), pytest.raises(FAILURES):
                question(client)
            time.sleep(0.01)  # and now the late reply is sent
            for _ in range(3):
                ask(client)
        check_all_slots_are_back(client, server)


@everywhere
def test_a_pipeline_in_which_a_reply_is_late_is_not_used_again_with_that_reply(
    tmp_path: Path,
) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, socket_timeout="100 ms", max_connections="2") as client,
        client.pipeline() as pipeline,
    ):
        pipeline.watch("key")
        with frozen(server), pytest.raises(FAILURES):
            pipeline.echo("late")
        time.sleep(0.05)
        text = unique()
        try:
            pipeline.watch("key")
            check(pipeline.echo(text), text.encode())
        except redis.WatchError:
            check(pipeline.immediate_execute_command("ECHO", text), text.encode())
        pipeline.reset()
        check_all_slots_are_back(client, server)


@everywhere
def test_no_caller_waits_longer_than_pool_timeout_and_socket_timeout_for_a_frozen_server(
    tmp_path: Path,
) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        client_of(
            server, max_connections="2", pool_timeout="300 ms", socket_timeout="300 ms"
        ) as client,
    ):
        client.ping()
        with frozen(server):
            errors = in_threads(*[lambda: failure_of(client.ping, at_most=0.6)] * 20)
        unexpected = [error for error in errors if not isinstance(error, FAILURES)]
        assert unexpected == []
        assert any(isinstance(error, PoolTimeoutError) for error in errors)
        check_all_slots_are_back(client, server)


@pytest.mark.parametrize("connected", [True, False], ids=["connected", "unconnected"])
def test_retries_end_with_their_budget(tmp_path: Path, connected: bool) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        client_of(
            server,
            socket_timeout="200 ms",
            retries="50",
            retry_budget="500 ms",
            max_connections="2",
        ) as client,
    ):
        if connected:
            client.ping()
        with frozen(server):
            # The last attempt begins within the budget.
            failure_of(lambda: client.get("key"), at_most=0.7)
        check_all_slots_are_back(client, server)


def test_a_health_check_of_a_frozen_server_costs_at_most_socket_timeout(tmp_path: Path) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, socket_timeout="500 ms", health_check_interval="10 ms") as client,
    ):
        client.ping()
        time.sleep(0.02)
        with frozen(server):
            failure_of(client.ping, at_most=0.5)


def test_a_host_that_never_answers_costs_at_most_socket_connect_timeout() -> None:
    # Linux drops packets of new connections while the server accepts none and its queue is full.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent:
        port = silent.getsockname()[1]
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        with client_of(f"redis://127.0.0.1:{port}", socket_connect_timeout="300 ms") as client:
            error = failure_of(client.ping, at_most=0.3)
        for one in waiting:
            one.close()
    assert isinstance(error, redis.TimeoutError)
    assert is_retryable(error) is True  # nothing was sent
