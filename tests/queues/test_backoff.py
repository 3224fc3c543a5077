"""DurableMessageQueue: failed messages wait, longer after each attempt."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import (
    DurableMessageQueue,
    LeaseLostError,
    QueueFullError,
    TimedOutError,
)

from ..support.servers import MakeClient, Server
from .conftest import STREAM, WAITING, HandlerError, MakeQueue, die_with_message, fail

FAR = 3600


def waits(raw: Any) -> list[tuple[bytes, float]]:
    """The members of the sorted set, and the seconds until they are due."""
    seconds, microseconds = raw.time()
    now = seconds + microseconds / 1e6
    return [(member, score / 1000 - now) for member, score in
            raw.zrange(WAITING, 0, -1, withscores=True)]  # fmt: skip


def make_due(raw: Any) -> None:
    for member in raw.zrange(WAITING, 0, -1):
        raw.zadd(WAITING, {member: 1})


def test_each_failure_waits_longer_by_default(
    make_client: MakeClient, server: Server, raw: Any
) -> None:
    queue = make_client(server).durable_queue("jobs")
    put = queue.put("job")
    for attempt, wait in enumerate([1, 5, 30, 120, 600], start=1):
        fail(queue)
        ((member, left),) = waits(raw)
        assert member == f"{put}|{attempt}".encode()
        assert 0.8 * wait - 0.5 < left <= 1.2 * wait + 0.01
        make_due(raw)
    assert queue.dead_letters() == []
    fail(queue)
    (letter,) = queue.dead_letters()
    assert (letter.attempts, queue.max_attempts) == (6, 6)


def test_a_short_list_repeats_its_last_wait(make_queue: MakeQueue, raw: Any) -> None:
    queue = make_queue(backoff=[100, timedelta(seconds=200)])
    assert queue.max_attempts == 5
    queue.put("job")
    for wait in (100, 200, 200):
        fail(queue)
        ((_, left),) = waits(raw)
        assert 0.8 * wait - 0.5 < left <= 1.2 * wait + 0.01
        make_due(raw)


def test_waits_have_jitter(make_queue: MakeQueue, raw: Any) -> None:
    queue = make_queue(backoff=[1000])
    queue.put_many(["job"] * 20)
    with pytest.raises(HandlerError), queue.receive_many(20, 5):
        raise HandlerError
    lefts = [left for _, left in waits(raw)]
    assert max(lefts) - min(lefts) > 50


def test_a_message_comes_back_when_it_is_due(make_queue: MakeQueue) -> None:
    queue, other = make_queue("first", backoff=[0.3]), make_queue("second", backoff=[0.3])
    put = queue.put("job")
    fail(queue)
    failed = time.monotonic()
    with pytest.raises(TimedOutError):
        queue.get(0)
    with other.receive(5) as message:
        assert 0.2 < time.monotonic() - failed < 0.9
        assert (message.id, message.body, message.attempts) == (put, b"job", 2)
        assert not message.is_suspect
    assert queue.stats().length == 0


def test_an_explicit_delay_replaces_the_backoff(make_queue: MakeQueue, raw: Any) -> None:
    queue = make_queue(delay=FAR)
    assert queue.max_attempts == 5
    queue.put_many(["a", "b"])
    fail(queue)
    fail(queue, delay=2 * FAR)
    assert [round(left / FAR) for _, left in waits(raw)] == [1, 2]


def test_a_wait_is_longer_than_the_lease(make_queue: MakeQueue, raw: Any) -> None:
    queue = make_queue(lease=0.1)
    queue.put("job")
    with queue.receive(5) as message:
        message.give_back(FAR)
    with pytest.raises(TimedOutError):
        queue.get(0.5)
    assert len(waits(raw)) == 1


def test_a_message_that_waits_is_kept_and_counted_apart(make_queue: MakeQueue, raw: Any) -> None:
    queue = make_queue(delay=FAR)
    queue.put_many(["a", "b"])
    fail(queue)
    stats = queue.stats()
    assert (stats.length, stats.in_flight, stats.waiting) == (1, 0, 1)
    assert raw.xlen(STREAM) == 2
    queue.unlink()
    assert raw.keys() == []


def test_a_message_that_waits_counts_for_the_limit(make_queue: MakeQueue) -> None:
    queue = make_queue(delay=FAR, max_length=1)
    queue.put("a")
    fail(queue)
    with pytest.raises(QueueFullError):
        queue.put("b")


def test_due_messages_are_not_kept_from_a_busy_consumer(make_queue: MakeQueue) -> None:
    queue = make_queue(delay=0.2)
    queue.put("failed")
    fail(queue)
    for _ in range(1000):
        queue.put("new")
        body = queue.get(0)
        if body == b"failed":
            break
    else:
        pytest.fail("only new messages were received")


def test_many_takers_receive_each_message_once(make_queue: MakeQueue) -> None:
    queue = make_queue()
    queue.put_many(str(number) for number in range(60))
    with pytest.raises(HandlerError), queue.receive_many(60, 5):
        raise HandlerError
    got: list[bytes] = []

    def take(consumer: DurableMessageQueue) -> None:
        while True:
            try:
                got.append(consumer.get(1))
            except TimedOutError:
                return

    threads = [
        threading.Thread(target=take, args=(make_queue(str(number)),)) for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got, key=int) == [str(number).encode() for number in range(60)]


def test_an_entry_that_was_deleted_while_it_waited_is_forgotten(
    make_queue: MakeQueue, raw: Any
) -> None:
    queue = make_queue()
    put = queue.put("job")
    fail(queue)
    raw.xdel(STREAM, put)
    with pytest.raises(TimedOutError):
        queue.get(0)
    assert waits(raw) == []


def test_a_message_that_another_consumer_has_finished_does_not_wait(
    queue: DurableMessageQueue, raw: Any
) -> None:
    put = queue.put("job")
    message = die_with_message(queue)
    raw.xack(STREAM, "workers", put)
    raw.xdel(STREAM, put)
    with pytest.raises(LeaseLostError, match="was finished by another consumer"):
        message.give_back(FAR)
    assert waits(raw) == []


def test_what_was_not_begun_goes_back_without_an_attempt(
    queue: DurableMessageQueue, other: DurableMessageQueue
) -> None:
    put = queue.put("job")
    messages = queue.receiver.wait(1, 5)
    queue.receiver.leases.put_back(messages)
    with other.receive(0) as message:
        assert (message.id, message.attempts, message.is_suspect) == (put, 1, False)


@pytest.mark.parametrize("settle", ["give_back", "put_back"])
def test_on_a_full_server_a_message_waits_at_most_its_lease(
    make_queue: MakeQueue, raw: Any, caplog: pytest.LogCaptureFixture, settle: str
) -> None:
    queue = make_queue(lease=1)
    queue.put("job")
    messages = queue.receiver.wait(1, 5)
    leases = queue.receiver.leases
    calls: dict[str, Callable[[], None]] = {
        "give_back": lambda: leases.give_back(messages, FAR),
        "put_back": lambda: leases.put_back(messages),
    }
    try:
        raw.config_set("maxmemory", "1")
        calls[settle]()
        with queue.receive(5) as message:
            assert message.attempts == {"give_back": 2, "put_back": 1}[settle]
    finally:
        raw.config_set("maxmemory", "0")
    assert "will be delivered again within the lease" in caplog.text
    assert (queue.stats().length, waits(raw)) == (0, [])


def test_on_a_full_server_messages_that_wait_are_taken(
    queue: DurableMessageQueue, raw: Any
) -> None:
    queue.put("job")
    fail(queue)
    try:
        raw.config_set("maxmemory", "1")
        assert queue.get(5) == b"job"
    finally:
        raw.config_set("maxmemory", "0")
    assert (queue.stats().length, waits(raw)) == (0, [])


def test_no_message_is_lost_where_the_waiting_key_has_another_type(
    make_queue: MakeQueue, raw: Any
) -> None:
    queue = make_queue(lease=0.2)
    queue.put("job")
    with queue.receive(5) as message:
        raw.set(WAITING, "something else")
        message.give_back()
    assert queue.get(5) == b"job"
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        queue.get(0)


def test_an_outage_of_the_handlers_database_buries_nothing(
    make_client: MakeClient, server: Server
) -> None:
    queue = make_client(server).durable_queue("jobs")
    queue.put_many(str(number) for number in range(20))
    started = time.monotonic()
    done: list[bytes] = []
    while len(done) < 20:
        try:
            with queue.receive(15) as message:
                if time.monotonic() < started + 2:
                    raise HandlerError
            done.append(message.body)
        except HandlerError:
            pass
    assert time.monotonic() - started < 15
    assert (queue.stats().dead, len(set(done))) == (0, 20)


def test_a_group_that_is_made_anew_receives_waiting_messages_once(
    make_queue: MakeQueue, raw: Any
) -> None:
    queue = make_queue(delay=FAR)
    queue.put_many(["a", "b"])
    fail(queue)
    raw.xgroup_destroy(STREAM, "workers")
    with queue.receive(0) as message:
        assert (message.body, message.attempts) == (b"a", 1)
    assert (queue.get(0), waits(raw)) == (b"b", [])


def test_a_message_that_another_consumer_has_parked_is_not_lost(
    make_queue: MakeQueue, raw: Any
) -> None:
    """Both have counted the same attempts, as after a server has lost its last changes."""
    queue, other = make_queue("first"), make_queue("second")
    put = queue.put("job")
    message = die_with_message(queue)
    raw.xack(STREAM, "workers", put)
    raw.zadd(WAITING, {f"{put}|1": 1})  # as the other consumer did
    with pytest.raises(LeaseLostError):
        message.give_back()
    with other.receive(0) as again:
        assert (again.id, again.attempts) == (put, 2)
