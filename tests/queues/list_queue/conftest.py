"""A message queue, a server that may be killed, and helpers for queues that wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from opentelemetry import trace

from pyramid_baseplate_redis import MessageQueue
from pyramid_baseplate_redis.queues import list_queue

from ...support.servers import MakeClient, Server, running_server

tracer = trace.get_tracer("tests")


@pytest.fixture
def queue(server: Server, make_client: MakeClient) -> MessageQueue:
    """A queue whose socket timeout is shorter than any of its waits."""
    return make_client(server, socket_timeout="200 milliseconds").message_queue("jobs")


@pytest.fixture
def short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiting queue looks after the server more often than it does in earnest."""
    monkeypatch.setattr(list_queue, "POLL_SECONDS", 0.3)


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Server]:
    """A server of this test's own, to be killed or frozen."""
    with running_server("valkey", tmp_path) as server:
        yield server


def in_background(call: Callable[[], Any]) -> Future[Any]:
    """Call in a thread that nobody has to wait for, should it never come back."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def blocked_clients(server: Server) -> list[int]:
    """The clients that wait in BLPOP."""
    with redis.Redis(port=server.port) as probe:
        return [int(client["id"]) for client in probe.client_list() if "b" in client["flags"]]


@contextmanager
def other_client(server: Server) -> Iterator[MessageQueue]:
    """The queue as somebody else sees it, who isn't monitored."""
    with redis.Redis(port=server.port) as client:
        yield MessageQueue("jobs", client)


@pytest.fixture
def valkey_queue(valkey: Server, make_client: MakeClient) -> MessageQueue:
    """The same on one kind of server: for tests that have to wait."""
    return make_client(valkey, socket_timeout="200 milliseconds").message_queue("jobs")
