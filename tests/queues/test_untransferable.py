"""DurableMessageQueue: a message that can't be transferred becomes a dead letter without its body.

The proxy cuts each reply that is longer than a message of a few bytes, as a slow network with a
short ``socket_timeout`` does, or a server's limit of its output buffers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import DurableMessageQueue, QueueFullError, TimedOutError

from ..faults.proxy import Proxy
from ..support.servers import MakeClient, Server, wait_until
from .conftest import STREAM, WAITING, MakeQueue, let_leases_run_out

LARGE = b"x" * 300_000


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def queue(proxy: Proxy, make_client: MakeClient) -> DurableMessageQueue:
    client = make_client(f"redis://127.0.0.1:{proxy.port}")
    made: DurableMessageQueue = client.durable_queue(
        "jobs", lease=0.3, max_attempts=2, backoff=None
    )
    return made


def receive_until_dead(queue: DurableMessageQueue, seconds: float = 10) -> list[bytes]:
    """Receive as a worker does until there is a dead letter; the bodies."""
    bodies = []
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        try:
            bodies.append(queue.get(0.1))
        except TimedOutError:
            if queue._commands.send(("XLEN", queue.dead_key)) == [1]:
                return bodies
        except redis.RedisError:
            pass
    pytest.fail("there is no dead letter")


def test_it_becomes_a_dead_letter_and_the_others_are_received(
    queue: DurableMessageQueue, proxy: Proxy, raw: Any
) -> None:
    large = queue.put(LARGE)
    queue.put_many(["a", "b", "c"])
    proxy.cut_reply_after(10_000)
    assert receive_until_dead(queue) == [b"a", b"b", b"c"]
    (letter,) = queue.dead_letters()
    assert (letter.message_id, letter.ref, letter.attempts) == (large, large, 2)
    assert letter.error.endswith("LeaseLostError")
    assert letter.body == b""
    assert raw.xpending(STREAM, "workers")["pending"] == 0
    stats = queue.stats()
    assert (stats.length, stats.in_flight, stats.waiting, stats.dead) == (0, 0, 0, 1)
    proxy.cut_reply_after(None)
    assert queue.dead_letters()[0].body == LARGE


def test_it_is_received_when_it_is_replayed(
    queue: DurableMessageQueue, proxy: Proxy, raw: Any
) -> None:
    large = queue.put(LARGE)
    proxy.cut_reply_after(10_000)
    receive_until_dead(queue)
    proxy.cut_reply_after(None)
    assert (queue.replay(), queue.replay()) == (1, 0)
    assert queue.stats().waiting == 1
    with queue.receive(0) as message:
        assert (message.id, message.body, message.attempts) == (large, LARGE, 1)
    assert (raw.xlen(STREAM), raw.zcard(WAITING), queue.stats().dead) == (0, 0, 0)


@pytest.mark.parametrize("names_it", [True, False])
def test_it_is_discarded(
    queue: DurableMessageQueue, proxy: Proxy, raw: Any, names_it: bool
) -> None:
    queue.put(LARGE)
    proxy.cut_reply_after(10_000)
    receive_until_dead(queue)
    ids = [letter.id for letter in queue.dead_letters()] if names_it else []
    assert (queue.discard(*ids), queue.discard(*ids)) == (1, 0)
    assert (raw.xlen(STREAM), raw.zcard(WAITING), queue.stats().dead) == (0, 0, 0)


def test_a_batch_that_cannot_be_transferred_delays_the_others_by_one_lease(
    queue: DurableMessageQueue, proxy: Proxy
) -> None:
    queue.put_many(["a", LARGE, "b"])
    proxy.cut_reply_after(10_000)
    with pytest.raises(redis.RedisError):
        queue.receiver.wait(3, 1)
    assert receive_until_dead(queue) == [b"a", b"b"]


def test_a_group_that_is_made_anew_skips_it(
    queue: DurableMessageQueue, proxy: Proxy, raw: Any
) -> None:
    queue.put("a")
    with queue.receive(5) as message:
        message.give_back(3600)
    large = queue.put(LARGE)
    proxy.cut_reply_after(10_000)
    receive_until_dead(queue)
    queue.put_many(["b", "c"])
    raw.xgroup_destroy(STREAM, "workers")
    assert sorted([queue.get(0), queue.get(0), queue.get(0)]) == [b"a", b"b", b"c"]
    with pytest.raises(TimedOutError):
        queue.get(0.5)
    (letter,) = queue.dead_letters()
    assert (letter.ref, raw.zcard(WAITING), raw.xlen(STREAM)) == (large, 1, 1)


def test_it_does_not_count_for_the_limit(make_queue: MakeQueue, raw: Any) -> None:
    queue = make_queue(max_length=1, max_attempts=1)
    put = queue.put("poison", delay=0.001)
    wait_until(lambda: queue.receiver.wait(1, 1))
    let_leases_run_out(raw)
    with pytest.raises(TimedOutError):
        queue.get(0)
    (letter,) = queue.dead_letters()
    assert (letter.message_id, letter.body) == (put, b"poison")
    assert letter.ref != put
    queue.put("a")
    with pytest.raises(QueueFullError):
        queue.put("b")
