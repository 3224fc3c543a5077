"""Processes that fork with connections in use: the parent's are untouched, the child has its own.

gunicorn's are in test_gunicorn.py.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import ForkedConnectionError, PoolReleaseError

from ..support.servers import needs_debian_redis, running_server, wait_until
from .everywhere import everywhere
from .helpers import (
    QUESTIONS,
    Client,
    Crowd,
    ask,
    check,
    check_all_slots_are_back,
    client_of,
    in_child,
    tls_server,
    unique,
)

pytestmark = pytest.mark.slow("forks processes while their parent is busy")


def identity(connection: Any) -> int:
    """The number that the server has for a connection."""
    connection.send_command("CLIENT", "ID")
    number = connection.read_response()
    assert isinstance(number, int)
    return number


@everywhere
def test_a_child_asks_on_connections_of_its_own(tmp_path: Path) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, max_connections="3") as client,
    ):
        check_all_slots_are_back(client, server)
        connections = {connection["id"] for connection in client.client_list()}

        def in_the_child() -> str:
            for question in QUESTIONS.values():
                question(client)
            return str(client.client_id())

        assert in_child(in_the_child) not in connections
        check_all_slots_are_back(client, server)
        # The very same as before: nobody closed them.
        assert {connection["id"] for connection in client.client_list()} == connections


@everywhere
def test_a_connection_that_was_taken_before_a_fork_is_made_anew_by_the_child(
    tmp_path: Path,
) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, max_connections="2") as client,
    ):
        connection = client.connection_pool.get_connection()
        number = identity(connection)
        assert in_child(lambda: identity(connection)) != number
        assert identity(connection) == number
        client.connection_pool.release(connection)
        check_all_slots_are_back(client, server)


@everywhere
def test_a_child_never_reads_its_parents_reply(tmp_path: Path) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, max_connections="2") as client,
    ):
        connection = client.connection_pool.get_connection()
        text = unique()
        connection.send_command("ECHO", text)
        error = in_child(connection.read_response)
        assert isinstance(error, ForkedConnectionError)
        assert str(os.getpid()) in str(error)  # whose it is
        check(connection.read_response(), text.encode())
        client.connection_pool.release(connection)


@everywhere
def test_a_child_cannot_release_its_parents_connection(tmp_path: Path) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, max_connections="1", pool_timeout="1 second") as client,
    ):
        connection = client.connection_pool.get_connection()
        number = identity(connection)

        def release() -> None:
            client.connection_pool.release(connection)

        def release_and_ask() -> None:
            with pytest.raises(PoolReleaseError):
                release()
            ask(client)  # the child has all of its slots

        assert isinstance(in_child(release), PoolReleaseError)
        assert in_child(release_and_ask) is None
        assert identity(connection) == number
        client.connection_pool.release(connection)
        check_all_slots_are_back(client, server)


def use(pipeline: Any) -> Any:
    return pipeline.get("key")


def execute(pipeline: Any) -> Any:
    pipeline.multi()
    return pipeline.set("key", "by the child").execute()


def watch(pipeline: Any) -> Any:
    return pipeline.watch("other")


@everywhere
@pytest.mark.parametrize("step", [use.__name__, execute.__name__, watch.__name__])
def test_a_watching_pipeline_cannot_be_used_by_a_child(tmp_path: Path, step: str) -> None:
    with running_server("valkey", tmp_path) as server, client_of(server) as client:
        pipeline = client.pipeline()
        pipeline.watch("key")
        error = in_child(lambda: globals()[step](pipeline))
        assert isinstance(error, (ForkedConnectionError, redis.WatchError)), repr(error)
        pipeline.multi()
        assert pipeline.set("key", "by the parent").get("key").execute()[1] == b"by the parent"
        check_all_slots_are_back(client, server)


@everywhere
def test_what_a_child_does_with_a_watching_pipeline_leaves_the_parents_watch(
    tmp_path: Path,
) -> None:
    with running_server("valkey", tmp_path) as server, client_of(server) as client:
        pipelines: list[Any] = [client.pipeline()]
        pipelines[0].watch("key")

        def reset() -> None:
            pipelines[0].reset()

        def leave() -> None:
            with pipelines[0]:
                pass

        def collect() -> None:
            pipelines.clear()
            gc.collect()
            ask(client)

        for step in (reset, leave, collect):
            assert in_child(step) is None
        client.set("key", "by somebody else")
        pipelines[0].multi()
        pipelines[0].set("key", "by the parent")
        with pytest.raises(redis.WatchError):
            pipelines[0].execute()
        check_all_slots_are_back(client, server)


@everywhere
def test_a_client_with_a_connection_of_its_own_has_another_in_the_child(tmp_path: Path) -> None:
    with running_server("valkey", tmp_path) as server, client_of(server) as client:
        with client.client() as own:
            number = own.client_id()
            assert in_child(own.client_id) != number

            def close() -> None:
                own.close()

            assert in_child(close) is None
            assert own.client_id() == number
        check_all_slots_are_back(client, server)


@everywhere
def test_a_subscriber_cannot_be_used_by_a_child(tmp_path: Path) -> None:
    with running_server("valkey", tmp_path) as server, client_of(server) as client:
        with client.pubsub() as subscriber:
            subscriber.subscribe("news")
            assert subscriber.get_message(timeout=5)["type"] == "subscribe"
            uses: list[Callable[[], Any]] = [
                lambda: subscriber.get_message(timeout=1),
                lambda: subscriber.subscribe("more"),
                lambda: subscriber.unsubscribe(),
                lambda: next(iter(subscriber.listen())),
            ]
            for take in uses:
                assert isinstance(in_child(take), ForkedConnectionError)
            client.publish("news", "a message")
            assert subscriber.get_message(timeout=5)["data"] == b"a message"
        check_all_slots_are_back(client, server)


@everywhere
def test_a_child_that_closes_a_subscriber_leaves_the_parents(tmp_path: Path) -> None:
    with running_server("valkey", tmp_path) as server, client_of(server) as client:
        with client.pubsub() as subscriber:
            subscriber.subscribe("news")
            subscriber.get_message(timeout=5)
            assert in_child(lambda: subscriber.close()) is None
            client.publish("news", "a message")
            assert subscriber.get_message(timeout=5)["data"] == b"a message"
        check_all_slots_are_back(client, server)


@everywhere
def test_a_child_that_ends_as_usual_closes_nothing_of_its_parents(tmp_path: Path) -> None:
    # Not by os._exit(): destructors and what atexit knows are run.
    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, max_connections="5") as client,
    ):
        connection = client.connection_pool.get_connection()
        number = identity(connection)
        pipeline = client.pipeline()
        pipeline.watch("key")
        own = client.client()
        mine = own.client_id()

        def collect_all() -> None:
            nonlocal connection, pipeline, own
            client.connection_pool.disconnect()
            del connection, pipeline, own
            gc.collect()
            client.close()

        assert in_child(collect_all) is None
        assert identity(connection) == number
        assert own.client_id() == mine
        pipeline.multi()
        assert pipeline.set("key", "value").execute() == [True]
        client.connection_pool.release(connection)
        own.close()
        check_all_slots_are_back(client, server)


def test_forks_while_all_connections_are_busy_disturb_no_process(tmp_path: Path) -> None:
    # Under threads alone: a fork copies no other thread, but all greenlets, which would go on.
    questions = [*QUESTIONS.values()]

    def ask_all(client: Client) -> None:
        for question in questions:
            question(client)

    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, max_connections="24") as client,
    ):
        asked = iter(range(10**9))
        work = lambda: questions[next(asked) % len(questions)](client)  # noqa: E731
        with Crowd(12, work, expect=()) as crowd:
            for _ in range(10):
                crowd.wait_for_answers(20)
                # Other threads may have held whatever lock there is.
                assert in_child(lambda: ask_all(client)) is None
        check_all_slots_are_back(client, server)


def test_a_child_that_is_killed_does_not_disturb_the_parent(tmp_path: Path) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, max_connections="2") as client,
    ):
        connection = client.connection_pool.get_connection()
        number = identity(connection)
        child = os.fork()
        if child == 0:
            while True:
                ask(client)
        time.sleep(0.1)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert identity(connection) == number
        client.connection_pool.release(connection)
        check_all_slots_are_back(client, server)


def test_a_fork_while_a_queue_waits_leaves_its_message_to_the_parent(tmp_path: Path) -> None:
    with running_server("valkey", tmp_path) as server, client_of(server) as client:
        got: list[bytes] = []
        waiting = threading.Thread(
            target=lambda: got.append(client.message_queue("jobs").get(10)), daemon=True
        )
        waiting.start()
        wait_until(lambda: client.info("clients")["blocked_clients"])
        assert in_child(lambda: client.message_queue("others").put("x")) is None
        client.message_queue("jobs").put("a message")
        waiting.join(10)
        assert got == [b"a message"]


@needs_debian_redis
def test_a_child_says_nothing_on_its_parents_tls_connection(tmp_path: Path) -> None:
    with (
        tls_server(tmp_path) as (server, url, trusted),
        client_of(url, ssl_ca_certs=trusted, max_connections="3") as client,
    ):
        taken = [client.connection_pool.get_connection() for _ in range(2)]
        numbers = [identity(connection) for connection in taken]

        def use_and_close() -> None:
            identity(taken[0])
            taken.clear()
            gc.collect()
            ask(client)
            client.connection_pool.disconnect()

        assert in_child(use_and_close) is None
        assert [identity(connection) for connection in taken] == numbers
        for connection in taken:
            client.connection_pool.release(connection)
        check_all_slots_are_back(client, server)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_fork_during_the_very_first_connection_leaves_the_child_able_to_connect(
    tmp_path: Path, host: str
) -> None:
    program = Path(__file__).with_name("first_connection.py")
    with running_server("valkey", tmp_path) as server:
        url = f"redis://{host}:{server.port}/0"
        ended = subprocess.run([sys.executable, program, url], timeout=60, check=False)
    assert ended.returncode == 0
