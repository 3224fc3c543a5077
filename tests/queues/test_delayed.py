"""DurableMessageQueue: delayed messages, and how consumers move them to the stream."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import DurableMessageQueue, QueueFullError, TimedOutError
from pyramid_baseplate_redis.queues.schedules import delayed as module

from ..support.servers import RecordedSpans, attributes
from .conftest import STREAM, MakeQueue


def due_now(raw: Any, queue: DurableMessageQueue) -> None:
    """Make all delayed messages of a queue due."""
    for member in raw.zrange("{jobs}:delayed", 0, -1):
        raw.zadd("{jobs}:delayed", {member: 1})


def test_it_is_received_when_it_is_due(queue: DurableMessageQueue) -> None:
    queue.put("later", delay=0.3)
    queue.put("now")
    started = time.monotonic()
    assert queue.get(5) == b"now"
    with pytest.raises(TimedOutError):
        queue.get(0)
    assert queue.get(5) == b"later"
    assert 0.25 < time.monotonic() - started < 1.5


def test_a_waiting_receiver_gets_one_that_is_put_meanwhile(
    queue: DurableMessageQueue, other: DurableMessageQueue
) -> None:
    timer = threading.Timer(0.1, lambda: other.put("later", delay=timedelta(milliseconds=50)))
    timer.start()
    assert queue.get(5) == b"later"
    timer.join()


@pytest.mark.parametrize("seconds", [-3600, 0.05])
def test_a_time_may_be_given_and_may_be_past(queue: DurableMessageQueue, seconds: float) -> None:
    queue.put("job", at=datetime.now(timezone.utc) + timedelta(seconds=seconds))
    assert queue.get(5) == b"job"


def test_the_message_is_as_it_was_put(
    queue: DurableMessageQueue, raw: Any, spans: RecordedSpans
) -> None:
    put = queue.put("job", delay=60)
    before = datetime.now(timezone.utc)
    time.sleep(0.01)
    due_now(raw, queue)
    with queue.receive(5) as message:
        assert (message.id, message.body, message.attempts) == (put, b"job", 1)
        assert abs((message.enqueued_at - before).total_seconds()) < 5
    process, send = spans.one("process jobs"), spans.one("send jobs")
    assert [link.context.span_id for link in process.links] == [send.context.span_id]
    assert attributes(send)["messaging.message.id"] == put


def test_several_are_put_together(queue: DurableMessageQueue, raw: Any) -> None:
    put = queue.put_many(["a", "b"], delay=60)
    assert queue.stats().delayed == 2
    due_now(raw, queue)
    with queue.receive_many(2, 5) as messages:
        assert {message.id for message in messages} == set(put)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"delay": 1, "at": datetime.now(timezone.utc)}, "delay and at: write only one"),
        ({"at": datetime(2030, 1, 1)}, "at: the time has no time zone"),
        ({"delay": -1}, "delay: -1 is out of range"),
        ({"unique": ""}, "unique: the key is empty"),
        ({"unique_for": 3}, "unique_for: needs unique"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    queue: DurableMessageQueue, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        queue.put("job", **options)
    assert queue.peek() == []


def test_equal_bodies_are_two_messages(queue: DurableMessageQueue, raw: Any) -> None:
    queue.put("job", delay=60)
    queue.put("job", delay=60)
    due_now(raw, queue)
    assert [queue.get(1), queue.get(1)] == [b"job", b"job"]


def test_nothing_is_left_of_one_that_was_moved(queue: DurableMessageQueue, raw: Any) -> None:
    queue.put("job", delay=60)
    due_now(raw, queue)
    queue.get(5)
    assert raw.keys("*delayed*") + raw.keys("*later*") == []


def test_statistics_and_peek_show_it(queue: DurableMessageQueue) -> None:
    queue.put("now")
    put = queue.put("later", delay=60)
    stats = queue.stats()
    assert (stats.length, stats.delayed) == (1, 1)
    now, later = queue.peek()
    assert (now.body, now.due_at) == (b"now", None)
    assert (later.id, later.body, later.attempts) == (put, b"later", 0)
    assert later.due_at is not None
    assert 55 < (later.due_at - datetime.now(timezone.utc)).total_seconds() < 65


def test_it_counts_for_the_limit(make_queue: MakeQueue) -> None:
    queue = make_queue("first", max_length=2)
    queue.put("a", delay=60)
    queue.put("b")
    with pytest.raises(QueueFullError):
        queue.put("c")
    with pytest.raises(QueueFullError):
        queue.put("c", delay=60)


def test_unlink_removes_it(queue: DurableMessageQueue, raw: Any) -> None:
    queue.put("job", delay=60, unique="key", unique_for=60)
    queue.unlink()
    assert raw.keys("*") == []


def test_ten_movers_double_none(make_queue: MakeQueue, raw: Any) -> None:
    put = set(make_queue("put").put_many([str(number) for number in range(600)], delay=60))
    due_now(raw, make_queue("put"))
    movers = [make_queue(f"mover {number}") for number in range(10)]
    barrier = threading.Barrier(10)

    def move(queue: DurableMessageQueue) -> None:
        barrier.wait()
        while raw.zcard("{jobs}:delayed"):
            queue._delayed.move()

    threads = [threading.Thread(target=move, args=(queue,)) for queue in movers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = raw.xrange(STREAM)
    assert len(entries) == 600
    assert {fields[b"message.id"].decode() for _, fields in entries} == put


def test_a_mover_that_dies_before_its_transaction_loses_none(
    queue: DurableMessageQueue, other: DurableMessageQueue, raw: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    queue.put("job", delay=60)
    due_now(raw, queue)

    class Killed(BaseException):
        pass

    def die(*_: Any) -> Any:
        raise Killed

    monkeypatch.setattr(queue._unique, "moved", die)  # it has read the message by then
    with pytest.raises(Killed):
        queue.get(0)
    assert other.get(0) == b"job"


def test_messages_are_read_in_batches_of_a_megabyte(
    queue: DurableMessageQueue, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_BYTES", 1000)
    queue.put_many(["x" * 400] * 5, delay=60)
    queue.put("y" * 5000, delay=60)
    due_now(raw, queue)
    raw.config_resetstat()
    queue._delayed.move()
    assert raw.xlen(STREAM) == 6
    assert raw.info("commandstats")["cmdstat_exec"]["calls"] == 4  # 2, 2, 1 and the large one


def skip_first(queue: DurableMessageQueue) -> None:
    """Have the transfer of the first delayed message fail."""
    (first,) = queue._delayed.first(1)
    queue._delayed._skip(first.id, redis.TimeoutError("too large"))


def test_one_that_can_not_be_transferred_stops_no_other(
    queue: DurableMessageQueue, raw: Any
) -> None:
    large = queue.put("x" * 2000, delay=60)
    queue.put("small", delay=61)
    raw.zadd("{jobs}:delayed", {large: 1})
    skip_first(queue)
    for member in raw.zrange("{jobs}:delayed", 1, -1):
        raw.zadd("{jobs}:delayed", {member: 2})
    assert queue.get(3) == b"small"
    assert queue.stats().delayed == 1


def test_one_that_can_not_be_transferred_keeps_no_cpu_busy(
    queue: DurableMessageQueue, raw: Any
) -> None:
    queue.put("large", delay=60)
    due_now(raw, queue)
    skip_first(queue)
    raw.config_resetstat()
    with pytest.raises(TimedOutError):
        queue.get(1.5)
    calls = sum(each["calls"] for each in raw.info("commandstats").values())
    assert calls < 30


def test_after_a_failed_transfer_they_are_moved_one_by_one(
    queue: DurableMessageQueue, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.put_many(["a", "b", "c"], delay=60)
    due_now(raw, queue)
    watching = queue._commands.watching

    def fail(*_: Any, **__: Any) -> Any:
        raise redis.TimeoutError("too large together")

    monkeypatch.setattr(queue._commands, "watching", fail)
    with pytest.raises(redis.TimeoutError):
        queue._delayed.move()
    monkeypatch.setattr(queue._commands, "watching", watching)
    raw.config_resetstat()
    assert queue._delayed.move()
    assert raw.xlen(STREAM) == 3
    assert raw.info("commandstats")["cmdstat_exec"]["calls"] == 3


def test_none_is_lost_if_the_stream_has_another_type(queue: DurableMessageQueue, raw: Any) -> None:
    queue.put("job", delay=60)
    due_now(raw, queue)
    raw.set(STREAM, "something else")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        queue._delayed.move()
    raw.delete(STREAM)
    assert queue.get(3) == b"job"


def test_it_waits_for_the_commit(make_queue: MakeQueue) -> None:
    import transaction

    manager = transaction.TransactionManager(explicit=True)
    queue = make_queue("first", transaction_manager=lambda: manager)
    manager.begin()
    queue.put("job", delay=60, after_commit=True)
    assert queue.stats().delayed == 0
    manager.commit()
    assert queue.stats().delayed == 1


def test_a_full_server_keeps_no_message_of_the_stream_from_being_received(
    queue: DurableMessageQueue, raw: Any, caplog: pytest.LogCaptureFixture
) -> None:
    queue.put("first")
    queue.get(1)  # the group is there
    queue.put("delayed", delay=60)
    queue.put_many(["a", "b"])
    due_now(raw, queue)
    before = raw.config_get("maxmemory")["maxmemory"]
    raw.config_set("maxmemory", 1)
    try:
        with queue.receive(1) as first, queue.receive(1) as second:
            assert {first.body, second.body} == {b"a", b"b"}
        with pytest.raises(TimedOutError):
            queue.get(0)
    finally:
        raw.config_set("maxmemory", before)
    assert caplog.text.count("delayed messages are not moved to the stream") == 1
    assert queue.get(3) == b"delayed"
