"""Two consumers of a durable queue, and helpers that fail, die, or let leases run out."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import Any
from weakref import WeakSet

import pytest
import redis

from pyramid_baseplate_redis import DurableMessageQueue

from ..support.servers import MakeClient, Server

STREAM, DEAD, WAITING = "{jobs}:messages", "{jobs}:dead", "{jobs}:waiting"
MakeQueue = Callable[..., DurableMessageQueue]


_made: WeakSet[DurableMessageQueue] = WeakSet()


def search_soon(queue: DurableMessageQueue) -> None:
    """Let a queue search for expired leases when it receives next.

    What an earlier search found is discarded, as it is half a lease later.
    """
    group = queue._receiver._group
    group._expired._found_until = 0.0
    group.search_soon()


class HandlerError(Exception):
    """What the handlers of these tests raise."""


@pytest.fixture
def make_queue(server: Server, make_client: MakeClient) -> MakeQueue:
    """Make the queue ``jobs``; its client's socket timeout is shorter than any wait.

    A failed message does not wait, unless a test says so.
    """

    def make(consumer: str | None = None, **options: Any) -> DurableMessageQueue:
        client = make_client(server, socket_timeout="300 milliseconds")
        options = options if "delay" in options else {"backoff": None, **options}
        made: DurableMessageQueue = client.durable_queue("jobs", consumer=consumer, **options)
        _made.add(made)
        return made

    return make


@pytest.fixture
def queue(make_queue: MakeQueue) -> DurableMessageQueue:
    return make_queue("first")


@pytest.fixture
def other(make_queue: MakeQueue) -> DurableMessageQueue:
    """Another consumer of the same queue."""
    return make_queue("second")


@pytest.fixture
def raw(server: Server) -> Any:
    """A plain client, to see what is on the server."""
    with redis.Redis(port=server.port) as client:
        yield client


def fail(queue: DurableMessageQueue, timeout: float = 5, **options: Any) -> bytes:
    """Receive a message and fail to process it; its body."""
    body = b""
    with pytest.raises(HandlerError), queue.receive(timeout, **options) as message:  # noqa: PT012
        body = message.body
        raise HandlerError
    return body


def die_with_message(queue: DurableMessageQueue) -> Any:
    """Receive a message as somebody does who is killed then."""
    # In a context of its own: the span that is current in the block is never ended.
    return copy_context().run(queue.receive(5).__enter__)


def let_leases_run_out(raw: Any, seconds: float = 3600) -> None:
    """Make it look as if everything had been received an hour ago.

    The queues search for expired leases again, as they would at the end of these leases.
    """
    for queue in _made:
        search_soon(queue)
    raw.response_callbacks.pop("XCLAIM", None)
    for entry in raw.xpending_range(STREAM, "workers", "-", "+", 1000):
        raw.execute_command(
            "XCLAIM", STREAM, "workers", entry["consumer"], 0, entry["message_id"],
            "IDLE", int(seconds * 1000), "JUSTID",
        )  # fmt: skip
