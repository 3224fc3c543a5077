"""DurableMessageQueue: a full queue, a full server, and one that only reads."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import (
    DurableMessageQueue,
    MessageQueueError,
    QueueFullError,
    TimedOutError,
    is_retryable,
)

from ..support.servers import MakeClient, running_server
from .conftest import STREAM, MakeQueue, die_with_message, fail, let_leases_run_out


def test_a_full_queue_refuses(make_queue: MakeQueue) -> None:
    queue = make_queue(max_length=2)
    queue.put("a")
    queue.put("b")
    with pytest.raises(QueueFullError, match="queue jobs is full: it may have 2 messages"):
        queue.put("c")
    assert [queue.get(0), queue.get(0)] == [b"a", b"b"]
    queue.put("c")


def test_put_many_does_not_fill_a_queue_by_half(make_queue: MakeQueue) -> None:
    queue = make_queue(max_length=2)
    queue.put("a")
    with pytest.raises(QueueFullError):
        queue.put_many(["b", "c"])
    assert queue.stats().length == 1


def test_what_is_processed_counts_as_well(make_queue: MakeQueue) -> None:
    queue = make_queue(max_length=1)
    queue.put("a")
    with queue.receive(5), pytest.raises(QueueFullError):
        queue.put("b")


def test_many_callers_that_put_at_once_do_not_exceed_the_limit(make_queue: MakeQueue) -> None:
    queue = make_queue(max_length=20)
    refused = []

    def put() -> None:
        for _ in range(10):
            try:
                queue.put("job")
            except QueueFullError:
                refused.append(1)

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (queue.stats().length, len(refused)) == (20, 20)


def test_a_queue_full_error_is_a_message_queue_error() -> None:
    assert issubclass(QueueFullError, MessageQueueError)
    assert is_retryable(QueueFullError("jobs", 1)) is False


def test_a_full_server_refuses_and_loses_nothing(
    make_queue: MakeQueue, raw: Any, caplog: pytest.LogCaptureFixture
) -> None:
    queue = make_queue(max_attempts=1)
    queue.put_many(["a", "b"])
    queue.stats()
    die_with_message(queue)  # a, and makes the group
    try:
        raw.config_set("maxmemory", "1")
        with pytest.raises(redis.OutOfMemoryError) as caught:
            queue.put("c")
        assert is_retryable(caught.value) is True
        fail(queue)  # b, which can't become a dead letter
        assert raw.xlen(STREAM) == 2
    finally:
        raw.config_set("maxmemory", "0")
    let_leases_run_out(raw)
    with pytest.raises(TimedOutError):
        queue.get(0)
    assert [letter.body for letter in queue.dead_letters()] == [b"a", b"b"]


def test_a_full_server_is_emptied_by_its_consumers(queue: DurableMessageQueue, raw: Any) -> None:
    queue.put_many(["a", "b"])
    queue.get(5)
    try:
        raw.config_set("maxmemory", "1")
        assert queue.get(5) == b"b"
    finally:
        raw.config_set("maxmemory", "0")


def test_a_server_that_only_reads_refuses_and_loses_nothing(
    tmp_path: Path, make_client: MakeClient
) -> None:
    with running_server("valkey", tmp_path) as server, redis.Redis(port=server.port) as raw:
        queue = make_client(server).durable_queue("jobs")
        queue.put("job")
        message = die_with_message(queue)
        raw.config_set("replica-read-only", "yes")
        raw.replicaof("127.0.0.1", 1)
        for call in (lambda: queue.put("more"), lambda: queue.get(1), message.acknowledge):
            with pytest.raises(redis.ReadOnlyError) as caught:
                call()
            assert is_retryable(caught.value) is True
        raw.replicaof("no", "one")
        message.acknowledge()
        assert queue.stats().length == 0
