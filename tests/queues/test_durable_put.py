"""DurableMessageQueue: a message comes out as it was put, whatever the client."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import DurableMessageQueue, pool_from_config
from pyramid_baseplate_redis.queues.receiving import receiver

from ..support.servers import MakeClient, Server
from .conftest import STREAM, HandlerError, MakeQueue, fail

# Put and get


def test_a_message_comes_out_as_it_was_put(queue: DurableMessageQueue) -> None:
    queue.put(b"\x00\xff")
    assert queue.get(5) == b"\x00\xff"


def test_text_comes_out_as_utf_8(queue: DurableMessageQueue) -> None:
    queue.put("Grüße")
    assert queue.get(5) == "Grüße".encode()


def test_messages_come_out_in_their_order(queue: DurableMessageQueue) -> None:
    ids = [queue.put(str(number)) for number in range(3)] + queue.put_many(["3", "4"])
    received = []
    for _ in ids:
        with queue.receive(5) as message:
            received.append((message.id, message.body))
    assert received == [(entry_id, b"%d" % number) for number, entry_id in enumerate(ids)]


def test_an_empty_message_is_a_message(queue: DurableMessageQueue) -> None:
    queue.put(b"")
    assert queue.get(5) == b""


@pytest.mark.slow("encodes and copies 64 MiB several times")
def test_a_message_of_64_mebibytes_passes(server: Server, make_client: MakeClient) -> None:
    queue = make_client(server, socket_timeout="30 seconds").durable_queue("jobs")
    body = bytes(range(256)) * (64 * 2**20 // 256)
    queue.put(body)
    assert queue.get(30) == body


@pytest.mark.parametrize("message", [5, None, ["a"], {"a": 1}])
def test_what_is_neither_bytes_nor_text_is_refused(
    queue: DurableMessageQueue, message: Any
) -> None:
    expected = f"^queue jobs: {type(message).__name__} is neither bytes nor text"
    with pytest.raises(TypeError, match=expected):
        queue.put(message)
    assert queue.stats().length == 0


def test_put_many_puts_all_or_none(queue: DurableMessageQueue) -> None:
    with pytest.raises(TypeError):
        queue.put_many(["good", 5])  # type: ignore[list-item]
    assert queue.stats().length == 0


def test_put_many_of_nothing_is_nothing(queue: DurableMessageQueue) -> None:
    assert queue.put_many([]) == []


def test_put_many_is_one_transaction_in_one_round_trip(
    queue: DurableMessageQueue, raw: Any
) -> None:
    raw.config_resetstat()
    queue.put_many(["a", "b", "c"])
    stats = raw.info("commandstats")
    assert [stats[f"cmdstat_{name}"]["calls"] for name in ("multi", "xadd", "exec")] == [1, 3, 1]


def test_get_acknowledges_at_once(queue: DurableMessageQueue, raw: Any) -> None:
    queue.put("job")
    queue.get(5)
    assert raw.xlen(STREAM) == 0


def test_a_message_says_when_it_was_put_by_the_servers_clock(queue: DurableMessageQueue) -> None:
    queue.put("job")
    with queue.receive(5) as message:
        age = datetime.now(timezone.utc) - message.enqueued_at
    assert timedelta(seconds=-1) < age < timedelta(seconds=30)


def test_a_client_that_decodes_replies_gets_bytes_all_the_same(
    server: Server, make_client: MakeClient
) -> None:
    queue = make_client(server, decode_responses="true").durable_queue("jobs")
    queue.put(b"\xff")
    assert queue.get(5) == b"\xff"
    queue.put("job")
    fail(queue)
    assert queue.get(5) == b"job"


@pytest.mark.parametrize("protocol", ["2", "3"])
def test_both_protocols_do(server: Server, make_client: MakeClient, protocol: str) -> None:
    queue = make_client(server, protocol=protocol).durable_queue("jobs", max_attempts=2)
    queue.put("job")
    fail(queue)
    fail(queue)
    assert [letter.body for letter in queue.dead_letters()] == [b"job"]
    assert queue.replay() == 1
    assert queue.get(5) == b"job"


def test_a_plain_pool_and_a_plain_client_do(server: Server) -> None:
    pool = redis.ConnectionPool(port=server.port)
    for client in (pool, redis.Redis(connection_pool=pool), redis.Redis(port=server.port)):
        queue = DurableMessageQueue("jobs", client)
        queue.put("job")
        assert queue.get(5) == b"job"
    pool.disconnect()


def test_a_client_that_keeps_one_connection_does(server: Server, make_client: MakeClient) -> None:
    with make_client(server).client() as client:
        queue = client.durable_queue("jobs")
        queue.put("job")
        assert queue.get(5) == b"job"


@pytest.mark.parametrize(
    "options",
    [{"lease": 0}, {"lease": -1}, {"max_attempts": 0}, {"max_length": 0}, {"delay": 1e9},
     {"delay": -1}, {"backoff": [1, -1]}, {"group": ""}],
    ids=str,
)  # fmt: skip
def test_numbers_that_mean_nothing_are_refused(
    make_queue: MakeQueue, options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"lease|max_|delay|name"):
        make_queue(**options)


def test_something_else_than_a_client_is_refused_without_showing_it() -> None:
    with pytest.raises(TypeError, match="client: str is neither") as caught:
        DurableMessageQueue("jobs", "redis://:secret@localhost")
    assert "secret" not in str(caught.value)


# What shows


def test_no_body_is_in_a_repr_or_in_the_log(
    make_queue: MakeQueue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    queue = make_queue(max_attempts=1)
    queue.put("a secret")
    with pytest.raises(HandlerError), queue.receive(5) as message:  # noqa: PT012
        shown = repr(message)
        raise HandlerError("another secret")
    shown += repr(queue.dead_letters()) + repr(queue.stats()) + caplog.text
    assert "secret" not in shown


def test_the_wait_between_two_looks_for_lost_leases_is_short() -> None:
    assert receiver.LOOK_SECONDS <= 1


def test_a_pool_from_the_settings_does(server: Server) -> None:
    pool = pool_from_config({"foo.url": server.url}, "foo.")
    queue = DurableMessageQueue("jobs", pool)
    queue.put("job")
    assert queue.get(5) == b"job"
    pool.disconnect()
