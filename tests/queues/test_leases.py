"""DurableMessageQueue: a lease runs out or is lost, and idle consumers are removed."""

from __future__ import annotations

import os
from typing import Any

import pytest

from pyramid_baseplate_redis import DurableMessageQueue, LeaseLostError, TimedOutError
from pyramid_baseplate_redis.queues.receiving import idle_consumers

from ..support.servers import wait_until
from .conftest import STREAM, HandlerError, MakeQueue, die_with_message, let_leases_run_out

# Leases


def test_what_a_dead_consumer_had_comes_to_another(
    queue: DurableMessageQueue, other: DurableMessageQueue, raw: Any
) -> None:
    put = queue.put("job")
    die_with_message(queue)
    let_leases_run_out(raw)
    with other.receive(5) as message:
        assert (message.id, message.body, message.attempts) == (put, b"job", 2)


def test_a_lease_runs_out_by_itself(make_queue: MakeQueue) -> None:
    queue, other = make_queue("first", lease=0.2), make_queue("second", lease=0.2)
    queue.put("job")
    die_with_message(queue)
    assert other.get(10) == b"job"


def test_extending_renews_the_lease(
    queue: DurableMessageQueue, other: DurableMessageQueue, raw: Any
) -> None:
    queue.put("job")
    with queue.receive(5) as message:
        let_leases_run_out(raw)
        message.extend()
        with pytest.raises(TimedOutError):
            other.get(0)


def test_extending_is_no_attempt(queue: DurableMessageQueue) -> None:
    queue.put("job")
    with pytest.raises(HandlerError), queue.receive(5) as message:  # noqa: PT012
        message.extend()
        message.extend()
        raise HandlerError
    with queue.receive(0) as message:
        assert message.attempts == 2


@pytest.mark.parametrize("settle", ["extend", "acknowledge", "give_back"])
def test_a_consumer_that_lost_the_lease_gets_an_error(
    queue: DurableMessageQueue, other: DurableMessageQueue, raw: Any, settle: str
) -> None:
    queue.put("job")
    message = die_with_message(queue)
    let_leases_run_out(raw)
    with other.receive(5):
        message.leased_at -= 3600
        with pytest.raises(LeaseLostError, match="was received again"):
            getattr(message, settle)()
        (pending,) = raw.xpending_range(STREAM, "workers", "-", "+", 1)
        assert (pending["consumer"], pending["times_delivered"]) == (b"second", 2)


def test_the_same_consumer_in_another_thread_is_another_holder(
    make_queue: MakeQueue, raw: Any
) -> None:
    queue, namesake = make_queue("first"), make_queue("first")
    queue.put("job")
    message = die_with_message(queue)
    let_leases_run_out(raw)
    with namesake.receive(5), pytest.raises(LeaseLostError):
        message.extend()


def test_a_message_that_another_consumer_finished_is_reported(
    queue: DurableMessageQueue, other: DurableMessageQueue, raw: Any
) -> None:
    queue.put("job")
    with pytest.raises(LeaseLostError, match="finished by another consumer"), queue.receive(5):  # noqa: PT012
        let_leases_run_out(raw)
        other.get(5)


def test_a_failure_after_a_lost_lease_leaves_the_message_to_its_holder(
    queue: DurableMessageQueue,
    other: DurableMessageQueue,
    raw: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue.put("job")
    with pytest.raises(HandlerError), queue.receive(5) as message:  # noqa: PT012
        let_leases_run_out(raw)
        theirs = die_with_message(other)
        message.leased_at -= 3600
        raise HandlerError
    assert "could not be given back" in caplog.text
    theirs.extend()


def test_an_acknowledgement_late_in_the_lease_is_one_all_the_same(
    queue: DurableMessageQueue,
) -> None:
    queue.put("job")
    with queue.receive(5) as message:
        message.leased_at -= 29
    assert queue.stats().length == 0


# Consumers


def test_each_process_is_a_consumer_of_its_own(make_queue: MakeQueue, raw: Any) -> None:
    make_queue().put("job")
    with make_queue().receive(5):
        (consumer,) = raw.xinfo_consumers(STREAM, "workers")
    assert consumer["name"].decode() == make_queue().consumer
    assert f":{os.getpid()}:" in make_queue().consumer


def _wait_once(queue: DurableMessageQueue) -> None:
    queue._receiver._tidy_at = 0
    with pytest.raises(TimedOutError):
        queue.get(0)


def test_idle_consumers_with_nothing_pending_are_removed(
    queue: DurableMessageQueue, other: DurableMessageQueue, raw: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    queue.put_many(["a", "b"])
    queue.get(5)
    die_with_message(other)
    monkeypatch.setattr(idle_consumers, "CONSUMER_IDLE_SECONDS", 0)
    monkeypatch.setattr(idle_consumers, "CONSUMER_IDLE_LEASES", 0)
    raw.xgroup_createconsumer(STREAM, "workers", "gone")
    _wait_once(queue)
    names = {consumer["name"] for consumer in raw.xinfo_consumers(STREAM, "workers")}
    assert names == {b"first", b"second"}  # itself, and who has a message


def test_consumers_that_are_only_quiet_stay(queue: DurableMessageQueue, raw: Any) -> None:
    queue.put("a")
    queue.get(5)
    raw.xgroup_createconsumer(STREAM, "workers", "quiet")
    _wait_once(queue)
    assert len(raw.xinfo_consumers(STREAM, "workers")) == 2


def test_what_a_consumer_received_in_the_moment_of_its_removal_is_not_lost(
    queue: DurableMessageQueue, other: DurableMessageQueue, raw: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    queue.put("a")
    queue.get(5)
    raw.xgroup_createconsumer(STREAM, "workers", "second")
    monkeypatch.setattr(idle_consumers, "CONSUMER_IDLE_SECONDS", 0)
    monkeypatch.setattr(idle_consumers, "CONSUMER_IDLE_LEASES", 0)
    transaction = queue._commands.transaction

    def wake_up_first(*args: Any) -> list[Any]:
        queue.put("b")
        die_with_message(other)
        return transaction(*args)

    wait_until(lambda: all(c["idle"] > 10 for c in raw.xinfo_consumers(STREAM, "workers")))
    monkeypatch.setattr(queue._commands, "transaction", wake_up_first)
    idle_consumers.remove_idle_consumers(queue._spec, queue._commands)
    monkeypatch.undo()
    assert raw.xpending(STREAM, "workers")["pending"] == 1
    let_leases_run_out(raw)
    assert queue.get(0) == b"b"
