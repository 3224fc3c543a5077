"""DurableMessageQueue passes its options on to its parts."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from unittest.mock import Mock, call

import pytest
import redis

from pyramid_baseplate_redis import DurableMessageQueue
from pyramid_baseplate_redis.queues import durable_queue as module
from pyramid_baseplate_redis.queues.receiving.delivery import Delivery
from pyramid_baseplate_redis.queues.sender import PutOptions


def queue_of(**options: Any) -> DurableMessageQueue:
    return DurableMessageQueue("jobs", redis.Redis(), **options)


def test_by_default_a_lease_lasts_thirty_seconds_and_six_attempts_are_made() -> None:
    queue = queue_of()
    assert queue.lease == timedelta(seconds=30)
    assert (queue.max_attempts, queue.max_length) == (6, None)
    assert (queue._spec.group, queue._spec.keep_errors) == ("workers", "all")
    assert queue._spec.backoff == (1, 5, 30, 120, 600)
    assert queue._spec.delay is None


@pytest.mark.parametrize(
    ("options", "attempts"),
    [({"backoff": None}, 5), ({"delay": 3}, 5), ({"backoff": [1]}, 5), ({"max_attempts": 2}, 2)],
    ids=str,
)
def test_without_the_default_waits_five_attempts_are_made(
    options: dict[str, Any], attempts: int
) -> None:
    assert queue_of(**options).max_attempts == attempts


def test_a_delay_replaces_the_backoff() -> None:
    spec = queue_of(delay=timedelta(minutes=1))._spec
    assert (spec.delay, spec.backoff) == (60.0, ())


def test_times_may_be_timedeltas() -> None:
    queue = queue_of(lease=timedelta(minutes=2), backoff=[timedelta(seconds=3), 4])
    assert queue.lease == timedelta(minutes=2)
    assert queue._spec.backoff == (3.0, 4)


def test_the_attributes_are_the_keys_and_limits() -> None:
    queue = queue_of(consumer="first", max_length=7)
    assert (queue.queue, queue.key, queue.dead_key) == ("jobs", "{jobs}:messages", "{jobs}:dead")
    assert (queue.consumer, queue.max_length) == ("first", 7)


@pytest.mark.parametrize("trace_parent", [None, False, True])
def test_the_process_span_is_a_child_only_if_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, trace_parent: bool | None
) -> None:
    tracer = Mock()
    monkeypatch.setattr(module, "MessageTracer", tracer)
    queue_of(group="g", **({} if trace_parent is None else {"trace_parent": trace_parent}))
    assert tracer.call_args.args[1:] == ("jobs", "g")
    assert tracer.call_args.kwargs == {"trace_parent": bool(trace_parent)}


# Putting


def put_with(queue: DurableMessageQueue) -> Mock:
    sender = Mock()
    sender.send.side_effect = lambda bodies, options: [f"{n}-0" for n in range(len(bodies))]
    queue._sender = sender
    return sender


def test_all_options_of_a_put_reach_the_server() -> None:
    queue = queue_of()
    sender = put_with(queue)
    options: dict[str, Any] = {"delay": 3, "unique": "a", "unique_for": 5}
    assert queue.put("job", **options) == "0-0"
    assert sender.send.mock_calls == [call([b"job"], PutOptions(3, None, "a", 5))]


def test_many_messages_may_be_delayed() -> None:
    queue = queue_of()
    sender = put_with(queue)
    at = datetime.now(timezone.utc)
    assert queue.put_many(["a", b"b"], at=at) == ["0-0", "1-0"]
    queue.put_many(["a"], delay=3)
    assert queue.put_many([]) == []
    assert sender.send.mock_calls == [
        call([b"a", b"b"], PutOptions(at=at)), call([b"a"], PutOptions(3)),
    ]  # fmt: skip


def test_an_object_is_put_as_json_with_the_options_of_put() -> None:
    queue = queue_of()
    sender = put_with(queue)
    assert queue.put_json({"a": 1}, delay=3) == "0-0"
    assert sender.send.mock_calls == [call([b'{"a":1}'], PutOptions(3))]


# Receiving


@pytest.mark.parametrize("delay", [None, timedelta(minutes=1), 60])
def test_a_block_waits_for_messages_and_settles_them(delay: Any) -> None:
    receiver, made = Mock(), [Mock(), Mock()]
    receiver.wait.return_value = made
    with Delivery(receiver, 2, 5.0, delay, lambda messages: messages) as messages:
        assert messages == made
        assert receiver.start_processing.mock_calls == [call(made)]
        assert not receiver.leave.called
    assert receiver.wait.mock_calls == [call(2, 5.0)]
    assert receiver.leave.mock_calls == [call(made, None, None if delay is None else 60.0)]


def test_one_message_is_received_by_default() -> None:
    queue = queue_of()
    queue._receiver = Mock()
    queue._receiver.wait.return_value = ["a"]
    with queue.receive(5) as message:
        assert message == "a"
    with queue.receive_many(1) as messages:
        assert messages == ["a"]
    assert queue._receiver.wait.mock_calls == [call(1, 5), call(1, None)]


def test_processing_ends_when_the_messages_are_settled() -> None:
    receiver = Mock()
    error = redis.ConnectionError("gone")
    receiver.leave.side_effect = error
    delivery = Delivery(receiver, 1, 5.0, None, lambda messages: messages)
    with pytest.raises(redis.ConnectionError), delivery:
        pass
    ((span, started, recorded), _) = receiver.stop_processing.call_args
    assert span is receiver.start_processing.return_value
    assert started > 0
    assert recorded is error


def test_the_error_of_the_block_is_recorded_even_if_settling_fails_as_well() -> None:
    receiver, error = Mock(), KeyError("no")
    receiver.leave.side_effect = RuntimeError("settling")
    delivery = Delivery(receiver, 1, 5.0, None, lambda messages: messages)
    with pytest.raises(RuntimeError), delivery:
        raise error
    assert receiver.leave.call_args.args[1] is error
    assert receiver.stop_processing.call_args.args[2] is error


# Operating


def test_ten_messages_are_shown_and_a_hundred_dead_letters_by_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue, peeked = queue_of(), Mock()
    monkeypatch.setattr(module, "peeked", peeked)
    queue._dead_letters = Mock()
    queue.peek()
    queue.peek(3)
    queue.dead_letters()
    queue.dead_letters(3)
    assert [each.args[3] for each in peeked.mock_calls] == [10, 3]
    assert queue._dead_letters.letters.mock_calls == [call(100), call(3)]


def test_all_keys_of_a_queue_are_removed_in_one_round_trip() -> None:
    queue = queue_of()
    queue._commands, queue._delayed, queue._unique = Mock(), Mock(), Mock()
    queue._delayed.keys.return_value = ["{jobs}:later:1"]
    queue._unique.keys.return_value = [b"{jobs}:unique:a"]
    queue.unlink()
    names = "messages", "dead", "waiting", "delayed", "later:1"
    keys = [*(f"{{jobs}}:{name}" for name in names), b"{jobs}:unique:a"]
    assert queue._commands.send.mock_calls == [
        call(*(("UNLINK", key) for key in keys), name="unlink")
    ]
