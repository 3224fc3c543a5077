"""A server that is dead or restarted, and connections that it closes: errors come in time.

Fail-over by Sentinel and of a Cluster is tested with those clients.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import redis

from ..support.servers import open_sockets_to, running_server, wait_until
from .everywhere import everywhere
from .helpers import (
    FAILURES,
    QUESTIONS,
    SLACK,
    Crowd,
    check_all_slots_are_back,
    client_of,
    figures_are_at_rest,
    in_threads,
    takes,
)

pytestmark = [
    pytest.mark.slow("kills servers and starts them again"),
    pytest.mark.timed("measures how long the timeouts take"),
]


# Dead


@everywhere
def test_a_dead_server_is_an_error_at_once(tmp_path: Path) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, max_connections="2") as client,
    ):
        for name, question in QUESTIONS.items():
            client.ping()
            server.kill()
            for _ in "connected", "not connected":
                with takes(at_most=0), pytest.raises(FAILURES):
                    question(client)
            assert figures_are_at_rest(client.connection_pool), name
            server.restart()
        check_all_slots_are_back(client, server)


@everywhere
def test_who_waits_for_an_answer_when_the_server_dies_gets_an_error_at_once(
    tmp_path: Path,
) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, max_connections="2") as client,
    ):

        def wait() -> float:
            with pytest.raises(redis.ConnectionError):
                client.blpop(["nothing"], timeout=4)
            return time.monotonic()

        def kill() -> float:
            with redis.Redis(port=server.port) as admin:
                wait_until(lambda: admin.info("clients")["blocked_clients"])
            server.kill()
            return time.monotonic()

        noticed, killed = in_threads(wait, kill)
        assert noticed - killed < SLACK
        server.restart()
        check_all_slots_are_back(client, server)


@everywhere
def test_a_watching_pipeline_whose_server_died_is_a_watch_error(tmp_path: Path) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, max_connections="2") as client,
    ):
        with client.pipeline() as pipeline:
            pipeline.watch("key")
            server.kill()
            server.restart()
            pipeline.multi()
            pipeline.set("key", "value")
            with takes(at_most=0), pytest.raises(redis.WatchError):
                pipeline.execute()
        check_all_slots_are_back(client, server)


@everywhere
@pytest.mark.parametrize("retries", ["0", "3"])
def test_a_server_that_is_restarted_five_times_gives_no_wrong_answer(
    tmp_path: Path, retries: str
) -> None:
    questions = [*QUESTIONS.values()]
    with (
        # It writes what it is told before it answers: nothing that it said is forgotten.
        running_server("valkey", tmp_path, "--appendonly", "yes") as server,
        client_of(server, max_connections="30", retries=retries, socket_timeout="2 s") as client,
    ):
        # Whatever isn't a connection error, or a wrong reply, ends this.
        asked = iter(range(10**9))
        crowd = Crowd(50, lambda: questions[next(asked) % len(questions)](client), FAILURES)
        with crowd:
            crowd.wait_for_answers(100)
            for _ in range(5):
                server.kill()
                time.sleep(0.1)
                server.restart()
                with takes(at_most=1):
                    crowd.wait_for_answers(100)
            failed = len(crowd.errors)
            crowd.wait_for_answers(500)
            assert len(crowd.errors) == failed, "there were errors after the server was back"
        # None waited for the dead.
        assert crowd.slowest < 5
        check_all_slots_are_back(client, server)


@everywhere
def test_retries_bridge_a_restart(tmp_path: Path) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, max_connections="10", retries="20", retry_budget="10 seconds") as client,
    ):
        with Crowd(50, lambda: client.get("key")) as crowd:
            for _ in range(2):
                crowd.wait_for_answers(200)
                server.kill()
                time.sleep(0.1)
                server.restart()
            crowd.wait_for_answers(200)
        assert crowd.errors == []
        check_all_slots_are_back(client, server)


# Closed


@everywhere
def test_idle_connections_that_the_server_closed_are_replaced(tmp_path: Path) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, max_connections="5") as client,
        redis.Redis(port=server.port) as admin,
    ):
        for question in QUESTIONS.values():
            check_all_slots_are_back(client, server)
            assert admin.client_kill_filter(_type="normal", skipme=True) >= 5
            question(client)
        check_all_slots_are_back(client, server)


@everywhere
def test_who_waits_for_an_answer_when_the_connection_is_closed_gets_an_error_at_once(
    tmp_path: Path,
) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, max_connections="2") as client,
        redis.Redis(port=server.port) as admin,
    ):

        def wait() -> None:
            with takes(at_most=1), pytest.raises(redis.ConnectionError):
                client.blpop(["nothing"], timeout=4)

        def close() -> None:
            wait_until(lambda: admin.info("clients")["blocked_clients"])
            admin.client_kill_filter(_type="normal", skipme=True)

        in_threads(wait, close)
        check_all_slots_are_back(client, server)


@everywhere
def test_connections_that_are_closed_under_load_give_no_wrong_answer(tmp_path: Path) -> None:
    questions = [*QUESTIONS.values()]
    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, max_connections="20") as client,
        redis.Redis(port=server.port) as admin,
    ):
        asked = iter(range(10**9))
        with Crowd(20, lambda: questions[next(asked) % len(questions)](client), FAILURES) as crowd:
            for _ in range(40):
                crowd.wait_for_answers(10)
                for kind in ("normal", "pubsub"):
                    admin.client_kill_filter(_type=kind, skipme=True)
        check_all_slots_are_back(client, server)


def test_no_server_listens_where_the_dead_one_was(tmp_path: Path) -> None:
    # What the tests above rely on.
    with running_server("valkey", tmp_path) as server:
        server.kill()
        assert open_sockets_to(server.port) == 0
        server.restart()
        assert open_sockets_to(server.port) == 1
