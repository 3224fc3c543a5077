"""MessageQueue: messages come out as they went in, and waiting ends in time."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from itertools import chain
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import MessageQueue, MessageQueueError, TimedOutError

from ...support.servers import MakeClient, Server, wait_until
from .conftest import blocked_clients, in_background, other_client

# Messages


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"a message", b"a message"),
        ("a message", b"a message"),
        ("grüße", "grüße".encode()),
        (b"", b""),
        ("", b""),
        (bytes(range(256)), bytes(range(256))),
        (b"x" * 1_000_000, b"x" * 1_000_000),
    ],
    ids=["bytes", "text", "accents", "no bytes", "no text", "every byte", "a megabyte"],
)
@pytest.mark.parametrize("timeout", [0, 2, None])
@pytest.mark.parametrize("decoded", [False, True], ids=["bytes", "decoded"])
def test_a_message_comes_out_as_bytes(
    server: Server,
    make_client: MakeClient,
    message: str | bytes,
    expected: bytes,
    timeout: float | None,
    decoded: bool,
) -> None:
    queue = make_client(server, decode_responses=str(decoded)).message_queue("jobs")
    queue.put(message)
    assert queue.get(timeout) == expected


@pytest.mark.parametrize("protocol", ["2", "3"])
def test_messages_come_out_in_the_order_in_which_they_went_in(
    server: Server, make_client: MakeClient, protocol: str
) -> None:
    queue = make_client(server, protocol=protocol).message_queue("jobs")
    for number in range(10):
        queue.put(str(number))
    assert [int(queue.get(timeout)) for timeout in [0, 1] * 5] == list(range(10))


def test_put_takes_baseplates_timeout(queue: MessageQueue) -> None:
    queue.put(b"a message", timeout=3)
    assert queue.get(0) == b"a message"


@pytest.mark.parametrize("message", [{"a": 1}, None, ["a"], True])
def test_a_message_of_another_type_is_an_error_that_names_the_queue(
    valkey_queue: MessageQueue, message: Any
) -> None:
    expected = (
        f"queue jobs: {type(message).__name__} is neither bytes nor text. Put bytes or str, for "
        "example json.dumps(message)."
    )
    with pytest.raises(TypeError, match=f"^{re.escape(expected)}$"):
        valkey_queue.put(message)
    with pytest.raises(TimedOutError):
        valkey_queue.get(0)


@pytest.mark.parametrize("message", [bytearray(b"12"), memoryview(b"12"), 12])
def test_other_kinds_of_bytes_and_numbers_are_put(valkey_queue: MessageQueue, message: Any) -> None:
    valkey_queue.put(message)
    assert valkey_queue.get(0) == b"12"


def test_after_commit_is_an_error_that_names_the_queue(valkey_queue: MessageQueue) -> None:
    with pytest.raises(TypeError, match=r"^queue jobs: after_commit needs a durable queue\. "):
        valkey_queue.put("a message", after_commit=True)
    valkey_queue.put("another", after_commit=False)
    assert valkey_queue.get(0) == b"another"


@pytest.mark.parametrize("method", ["unlink", "close"])
def test_a_removed_queue_is_empty_and_can_be_used_again(queue: MessageQueue, method: str) -> None:
    queue.put(b"removed")
    getattr(queue, method)()
    queue.put(b"kept")
    assert queue.get(0) == b"kept"
    with pytest.raises(TimedOutError):
        queue.get(0)


# Waiting


def test_an_empty_queue_is_a_timed_out_error(queue: MessageQueue) -> None:
    with pytest.raises(TimedOutError) as raised:
        queue.get(0)
    assert str(raised.value) == "Timed out waiting for the message queue."
    assert isinstance(raised.value, MessageQueueError)


def test_get_with_no_time_doesnt_wait(queue: MessageQueue) -> None:
    started = time.monotonic()
    with pytest.raises(TimedOutError):
        queue.get(0)
    assert time.monotonic() - started < 0.5


def test_a_float_is_rounded_up(valkey_queue: MessageQueue) -> None:
    started = time.monotonic()
    with pytest.raises(TimedOutError):
        valkey_queue.get(0.2)
    assert 0.95 < time.monotonic() - started < 2


def test_a_message_that_comes_late_in_a_rounded_up_wait_is_still_taken(
    valkey_queue: MessageQueue, valkey: Server
) -> None:
    with other_client(valkey) as other:
        timer = threading.Timer(0.5, other.put, [b"late"])
        timer.start()
        assert valkey_queue.get(0.1) == b"late"
        timer.join()


@pytest.mark.parametrize("timeout", [-1, -0.1, float("nan"), float("inf")])
def test_a_timeout_that_means_nothing_is_refused(queue: MessageQueue, timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout: "):
        queue.get(timeout)


@pytest.mark.parametrize("timeout", [3, None])
def test_waiting_longer_than_the_socket_timeout_loses_nothing(
    queue: MessageQueue, server: Server, timeout: float | None
) -> None:
    waiting = in_background(lambda: queue.get(timeout))
    wait_until(lambda: blocked_clients(server))
    time.sleep(0.5)
    with other_client(server) as other:
        other.put(b"late")
    assert waiting.result(5) == b"late"


@pytest.mark.usefixtures("short_polls")
def test_waiting_for_ever_outlives_many_polls(valkey_queue: MessageQueue, valkey: Server) -> None:
    waiting = in_background(lambda: valkey_queue.get(None))
    time.sleep(1)
    assert not waiting.done()
    with other_client(valkey) as other:
        other.put(b"late")
    assert waiting.result(5) == b"late"


@pytest.mark.usefixtures("short_polls")
def test_a_wait_of_several_polls_ends_in_time(valkey_queue: MessageQueue) -> None:
    started = time.monotonic()
    with pytest.raises(TimedOutError):
        valkey_queue.get(1)
    assert 0.95 < time.monotonic() - started < 2


@pytest.mark.parametrize("error", [True, False], ids=["error", "timeout"])
@pytest.mark.parametrize("timeout", [5, None])
def test_being_unblocked_by_an_administrator_is_survived(
    queue: MessageQueue, server: Server, error: bool, timeout: float | None
) -> None:
    waiting = in_background(lambda: queue.get(timeout))
    wait_until(lambda: blocked_clients(server))
    with redis.Redis(port=server.port) as administrator:
        assert administrator.client_unblock(blocked_clients(server)[0], error=error)
        wait_until(lambda: blocked_clients(server))
        administrator.rpush("jobs", b"late")
    assert waiting.result(5) == b"late"


# Many consumers


def test_each_message_goes_to_one_consumer_of_many(valkey: Server, make_client: MakeClient) -> None:
    consumers, messages = 8, 4000
    queue = make_client(valkey, max_connections="9", trace="off").message_queue("jobs")

    def consume() -> list[int]:
        taken = []
        while (message := queue.get(20)) != b"":
            taken.append(int(message))
        return taken

    consuming = [in_background(consume) for _ in range(consumers)]
    for number in range(messages):
        queue.put(str(number))
    for _ in range(consumers):
        queue.put(b"")
    taken = [future.result(20) for future in consuming]
    assert Counter(chain.from_iterable(taken)) == Counter(range(messages))
    assert sum(1 for numbers in taken if numbers) > 1
