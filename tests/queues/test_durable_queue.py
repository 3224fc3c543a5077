"""DurableMessageQueue: what was put is processed at least once, whatever happens to consumers."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from contextvars import copy_context
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import (
    DurableMessageQueue,
    LeaseLostError,
    MessageQueueError,
    QueueFullError,
    TimedOutError,
    is_retryable,
    pool_from_config,
)
from pyramid_baseplate_redis.queues import consumer_group, receiver
from pyramid_baseplate_redis.queues.queue_spec import keys_of

from ..faults.proxy import Proxy
from ..support.servers import MakeClient, Server, interrupt_when_blocked, running_server, wait_until

STREAM, DEAD = "{jobs}:messages", "{jobs}:dead"
MakeQueue = Callable[..., DurableMessageQueue]


class HandlerError(Exception):
    """What the handlers of these tests raise."""


@pytest.fixture
def make_queue(server: Server, make_client: MakeClient) -> MakeQueue:
    """Make the queue ``jobs``; its client's socket timeout is shorter than any wait."""

    def make(consumer: str | None = None, **options: Any) -> DurableMessageQueue:
        client = make_client(server, socket_timeout="300 milliseconds")
        return client.durable_queue("jobs", consumer=consumer, **options)

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
    """Make it look as if everything had been received an hour ago."""
    raw.response_callbacks.pop("XCLAIM", None)
    for entry in raw.xpending_range(STREAM, "workers", "-", "+", 1000):
        raw.execute_command(
            "XCLAIM", STREAM, "workers", entry["consumer"], 0, entry["message_id"],
            "IDLE", int(seconds * 1000), "JUSTID",
        )  # fmt: skip


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
    with pytest.raises(TypeError, match=f"{type(message).__name__} is neither bytes nor text"):
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
    [{"lease": 0}, {"lease": -1}, {"max_attempts": 0}, {"max_length": 0}, {"delay": 31},
     {"delay": -1}, {"group": ""}],
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


# Waiting


def test_an_empty_queue_is_a_timeout(queue: DurableMessageQueue) -> None:
    with pytest.raises(TimedOutError):
        queue.get(0)


def test_waiting_longer_than_the_socket_timeout_is_fine(
    queue: DurableMessageQueue, other: DurableMessageQueue
) -> None:
    with pytest.raises(TimedOutError):  # which is 0.3 seconds
        queue.get(1.2)


def test_who_waits_gets_a_message_when_it_is_put(
    queue: DurableMessageQueue, other: DurableMessageQueue, raw: Any
) -> None:
    thread = threading.Thread(
        target=lambda: (wait_until(lambda: raw.info("clients")["blocked_clients"]),
                        other.put("job"))
    )  # fmt: skip
    thread.start()
    assert queue.get(10) == b"job"
    thread.join()


def test_a_wait_that_an_administrator_ends_goes_on(
    queue: DurableMessageQueue, other: DurableMessageQueue, raw: Any
) -> None:
    def was_unblocked() -> bool:
        waiting = [each["id"] for each in raw.client_list() if "b" in each["flags"]]
        return any(raw.client_unblock(each, error=True) for each in waiting)

    def unblock() -> None:
        wait_until(was_unblocked)
        other.put("job")

    thread = threading.Thread(target=unblock)
    thread.start()
    assert queue.get(10) == b"job"
    thread.join()


def test_an_interrupted_wait_loses_no_message_and_no_connection(
    server: Server, make_client: MakeClient
) -> None:
    client = make_client(server, max_connections="1")
    queue = client.durable_queue("jobs")
    thread = interrupt_when_blocked(server)
    with pytest.raises(KeyboardInterrupt):
        queue.get(30)
    thread.join()
    queue.put("job")
    assert queue.get(5) == b"job"


def test_a_plain_clients_next_command_does_not_read_the_reply_of_an_interrupted_one(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt  # behind sending, before a byte is read

    with redis.Redis(port=server.port) as client:
        queue = DurableMessageQueue("jobs", client)
        queue.stats()  # it is connected
        with monkeypatch.context() as patch:
            patch.setattr(redis.Connection, "read_response", interrupted)
            with pytest.raises(KeyboardInterrupt):
                queue.put("job")
        assert client.echo("mine") == b"mine"


def test_a_message_that_was_on_its_way_to_who_was_interrupted_comes_back(
    queue: DurableMessageQueue, other: DurableMessageQueue, raw: Any
) -> None:
    queue.put("job")
    queue._group.read(1, 0)  # and whoever asked never saw the reply
    let_leases_run_out(raw)
    with other.receive(5) as message:
        assert (message.body, message.attempts) == (b"job", 2)


# Acknowledging


def test_a_message_stays_on_the_server_while_it_is_processed(
    queue: DurableMessageQueue, raw: Any
) -> None:
    queue.put("job")
    with queue.receive(5):
        assert raw.xlen(STREAM) == 1
    assert raw.xlen(STREAM) == 0
    assert raw.xpending(STREAM, "workers")["pending"] == 0


def test_nobody_else_receives_it_meanwhile(
    queue: DurableMessageQueue, other: DurableMessageQueue
) -> None:
    queue.put("job")
    with queue.receive(5), pytest.raises(TimedOutError):
        other.get(0)


def test_an_exception_goes_on_and_gives_the_message_back_at_once(
    queue: DurableMessageQueue, other: DurableMessageQueue
) -> None:
    queue.put("job")
    assert fail(queue) == b"job"
    with other.receive(0) as message:
        assert (message.body, message.attempts) == (b"job", 2)


def test_who_waits_already_gets_what_another_gives_back(
    make_queue: MakeQueue, queue: DurableMessageQueue, other: DurableMessageQueue, raw: Any
) -> None:
    queue.put("job")
    message = die_with_message(queue)

    def give_back() -> None:
        wait_until(lambda: raw.info("clients")["blocked_clients"])
        message.give_back()

    thread = threading.Thread(target=give_back)
    thread.start()
    assert other.get(10) == b"job"
    thread.join()


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interruption_gives_the_message_back_too(
    queue: DurableMessageQueue, interruption: type[BaseException]
) -> None:
    queue.put("job")
    with pytest.raises(interruption), queue.receive(5):
        raise interruption
    assert queue.get(0) == b"job"


def test_what_failed_is_kept_back_for_its_delay(queue: DurableMessageQueue, raw: Any) -> None:
    queue.put("job")
    fail(queue, delay=20)
    with pytest.raises(TimedOutError):
        queue.get(0)
    (pending,) = raw.xpending_range(STREAM, "workers", "-", "+", 1)
    assert 9_000 < pending["time_since_delivered"] < 20_000  # of 30,000: 20 seconds are left


def test_what_failed_comes_back_when_its_delay_is_over(make_queue: MakeQueue) -> None:
    queue = make_queue(delay=timedelta(milliseconds=100), lease=5)
    queue.put("job")
    fail(queue)
    assert queue.get(10) == b"job"


def test_a_delay_longer_than_the_lease_is_refused_before_anything_is_received(
    queue: DurableMessageQueue,
) -> None:
    with pytest.raises(ValueError, match="from 0 to the lease"):
        queue.receive(5, delay=31)


def test_a_delay_longer_than_the_lease_is_refused(queue: DurableMessageQueue) -> None:
    queue.put("job")
    with queue.receive(5) as message, pytest.raises(ValueError, match="from 0 to the lease"):
        message.give_back(31)


def test_a_message_may_be_acknowledged_before_its_block_is_left(queue: DurableMessageQueue) -> None:
    queue.put("job")
    with pytest.raises(HandlerError), queue.receive(5) as message:  # noqa: PT012
        message.acknowledge()
        raise HandlerError
    assert queue.stats().length == 0


@pytest.mark.parametrize("settle", ["acknowledge", "give_back", "extend"])
def test_a_message_is_settled_once(queue: DurableMessageQueue, settle: str) -> None:
    queue.put("job")
    with queue.receive(5) as message:
        message.acknowledge()
        with pytest.raises(LeaseLostError, match="is already settled"):
            getattr(message, settle)()


def test_a_dead_letter_that_can_not_be_moved_keeps_nothing_else_from_being_given_back(
    make_queue: MakeQueue, raw: Any
) -> None:
    queue = make_queue("first", max_attempts=3)
    raw.set(DEAD, "something else")
    first, _ = queue.put_many(["a", "b"])
    with pytest.raises(HandlerError), queue.receive_many(2, 5):
        raise HandlerError
    raw.response_callbacks.pop("XCLAIM", None)
    raw.execute_command(
        "XCLAIM", STREAM, "workers", "first", 0, first, "IDLE", 3600_000, "RETRYCOUNT", 2, "JUSTID"
    )  # fmt: skip
    with pytest.raises(HandlerError), queue.receive_many(2, 0):  # the last attempt of a
        raise HandlerError
    assert queue.get(0) == b"b"


def test_a_message_may_be_given_back_without_an_exception(queue: DurableMessageQueue) -> None:
    queue.put("job")
    with queue.receive(5) as message:
        message.give_back()
    assert queue.get(0) == b"job"


def test_a_failing_server_does_not_hide_the_handlers_exception(
    tmp_path: Path, make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    with running_server("valkey", tmp_path) as mortal:
        queue = make_client(mortal).durable_queue("jobs")
        queue.put("job")
        with pytest.raises(HandlerError), queue.receive(5) as message:  # noqa: PT012
            mortal.kill()
            raise HandlerError
    assert f"{message.id} could not be given back" in caplog.text


def test_an_acknowledgement_that_fails_is_an_error(tmp_path: Path, make_client: MakeClient) -> None:
    with running_server("valkey", tmp_path) as mortal:
        queue = make_client(mortal).durable_queue("jobs")
        queue.put("job")
        with pytest.raises(redis.ConnectionError), queue.receive(5):
            mortal.kill()


# Many at once


def test_receive_many_receives_as_many_as_there_are(queue: DurableMessageQueue) -> None:
    queue.put_many(["a", "b", "c"])
    with queue.receive_many(2, 5) as messages:
        assert [message.body for message in messages] == [b"a", b"b"]
    with queue.receive_many(2, 5) as messages:
        assert [message.body for message in messages] == [b"c"]
    assert queue.stats().length == 0


def test_an_exception_gives_back_all_that_are_not_acknowledged(queue: DurableMessageQueue) -> None:
    queue.put_many(["a", "b", "c"])
    with pytest.raises(HandlerError), queue.receive_many(3, 5) as messages:  # noqa: PT012
        messages[0].acknowledge()
        raise HandlerError
    with queue.receive_many(3, 0) as messages:
        assert [(message.body, message.attempts) for message in messages] == [(b"b", 2), (b"c", 2)]


def test_a_lease_that_was_lost_keeps_the_others_from_nothing(
    queue: DurableMessageQueue, other: DurableMessageQueue, raw: Any
) -> None:
    queue.put_many(["a", "b"])
    with pytest.raises(LeaseLostError), queue.receive_many(2, 5) as messages:  # noqa: PT012
        let_leases_run_out(raw)
        other.get(0)  # a
        messages[0].leased_at -= 3600
    assert queue.stats().length == 0


def test_receive_many_of_none_is_refused(queue: DurableMessageQueue) -> None:
    with pytest.raises(ValueError, match="count: 0 is out of range"):
        queue.receive_many(0)


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
def test_whoever_lost_the_lease_is_told(
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


def test_the_same_consumer_in_another_thread_is_somebody_else(
    make_queue: MakeQueue, raw: Any
) -> None:
    queue, namesake = make_queue("first"), make_queue("first")
    queue.put("job")
    message = die_with_message(queue)
    let_leases_run_out(raw)
    with namesake.receive(5), pytest.raises(LeaseLostError):
        message.extend()


def test_a_message_that_somebody_else_finished_is_told_of(
    queue: DurableMessageQueue, other: DurableMessageQueue, raw: Any
) -> None:
    queue.put("job")
    with pytest.raises(LeaseLostError, match="finished by another consumer"), queue.receive(5):  # noqa: PT012
        let_leases_run_out(raw)
        other.get(5)


def test_a_failure_behind_a_lost_lease_leaves_the_message_to_who_has_it(
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


# Attempts and dead letters


def test_the_last_attempt_makes_a_dead_letter_with_the_errors_class(
    make_queue: MakeQueue, raw: Any, caplog: pytest.LogCaptureFixture
) -> None:
    queue = make_queue(max_attempts=3)
    put = queue.put("job")
    for _ in range(3):
        fail(queue)
    (letter,) = queue.dead_letters()
    assert (letter.body, letter.message_id, letter.attempts) == (b"job", put, 3)
    assert letter.error == f"{__name__}.HandlerError"
    assert queue.stats().length == 0
    assert f"{put} is a dead letter after 3 attempts" in caplog.text


def test_a_message_that_kills_its_consumers_becomes_a_dead_letter(
    make_queue: MakeQueue, raw: Any
) -> None:
    queue = make_queue(max_attempts=3)
    queue.put("poison")
    for _ in range(3):
        die_with_message(queue)
        let_leases_run_out(raw)
    with pytest.raises(TimedOutError):
        queue.get(0)
    (letter,) = queue.dead_letters()
    assert (letter.body, letter.attempts) == (b"poison", 3)
    assert letter.error.endswith("LeaseLostError")


def test_a_dead_letter_is_moved_in_one_transaction(make_queue: MakeQueue, raw: Any) -> None:
    queue = make_queue(max_attempts=1)
    queue.put("job")
    raw.config_resetstat()
    fail(queue)
    stats = raw.info("commandstats")
    calls = {name: stats[f"cmdstat_{name}"]["calls"] for name in ("multi", "exec", "xack", "xdel")}
    assert calls == {"multi": 1, "exec": 1, "xack": 1, "xdel": 1}


def test_no_message_is_lost_where_the_dead_letters_have_another_type(
    make_queue: MakeQueue, raw: Any, caplog: pytest.LogCaptureFixture
) -> None:
    queue = make_queue(max_attempts=1)
    raw.set(DEAD, "something else")
    queue.put("job")
    fail(queue)
    assert "WRONGTYPE {jobs}:dead is a string, but must be a stream" in caplog.text
    assert raw.xlen(STREAM) == 1
    raw.delete(DEAD)
    let_leases_run_out(raw)
    with pytest.raises(TimedOutError):
        queue.get(0)
    assert [letter.body for letter in queue.dead_letters()] == [b"job"]


def test_a_poisonous_message_that_can_not_be_moved_does_not_stop_the_queue(
    make_queue: MakeQueue, raw: Any
) -> None:
    queue = make_queue(max_attempts=1)
    raw.set(DEAD, "something else")
    queue.put_many(["poison", "job"])
    die_with_message(queue)
    let_leases_run_out(raw)
    assert queue.get(5) == b"job"


def test_dead_letters_are_replayed_as_new_messages(make_queue: MakeQueue) -> None:
    queue = make_queue(max_attempts=1)
    queue.put_many(["a", "b"])
    fail(queue)
    fail(queue)
    first, second = queue.dead_letters()
    assert queue.replay(first.id) == 1
    with queue.receive(5) as message:
        assert (message.body, message.attempts) == (b"a", 1)
    assert queue.dead_letters() == [second]
    assert queue.replay() == 1
    assert queue.replay() == 0
    assert queue.get(5) == b"b"


def test_a_dead_letter_is_replayed_once(make_queue: MakeQueue) -> None:
    queue = make_queue(max_attempts=1)
    queue.put("job")
    fail(queue)
    (letter,) = queue.dead_letters()
    assert (queue.replay(letter.id), queue.replay(letter.id)) == (1, 0)
    assert queue.stats().length == 1


def test_dead_letters_stay_where_the_queue_has_another_type(
    make_queue: MakeQueue, raw: Any
) -> None:
    queue = make_queue(max_attempts=1)
    queue.put("job")
    fail(queue)
    raw.delete(STREAM)
    raw.set(STREAM, "something else")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        queue.replay()
    assert queue.stats is not None
    assert len(queue.dead_letters()) == 1


def test_dead_letters_are_discarded(make_queue: MakeQueue) -> None:
    queue = make_queue(max_attempts=1)
    queue.put_many(["a", "b", "c"])
    for _ in range(3):
        fail(queue)
    first, *_ = queue.dead_letters()
    assert queue.discard(first.id) == 1
    assert [letter.body for letter in queue.dead_letters()] == [b"b", b"c"]
    assert queue.discard() == 2
    assert queue.discard() == 0


def test_more_dead_letters_than_a_page_are_replayed(make_queue: MakeQueue, raw: Any) -> None:
    queue = make_queue()
    for number in range(250):
        raw.xadd(DEAD, {"dead.id": "1-1", "dead.error": "E", "dead.attempts": 1, "body": number})
    assert queue.replay() == 250
    assert queue.stats().length == 250
    assert queue.get(5) == b"0"


# Entries of another format


def test_an_entry_that_is_no_message_becomes_a_dead_letter_as_it_is(
    queue: DurableMessageQueue, raw: Any
) -> None:
    raw.xadd(STREAM, {"task": "old", "dead.error": "theirs"})
    queue.put("job")
    assert queue.get(5) == b"job"
    (letter,) = queue.dead_letters()
    assert letter.fields == {b"task": b"old"} | {b"dead.error": b"theirs"}
    assert letter.body == b""
    assert letter.error == "pyramid_baseplate_redis.exceptions.MessageFormatError"


def test_a_message_of_somebody_else_with_a_body_is_a_message(
    queue: DurableMessageQueue, raw: Any
) -> None:
    raw.xadd(STREAM, {"priority": "1", "body": "job"}, id="5-1")
    with queue.receive(5) as message:
        assert message.body == b"job"
        assert message.enqueued_at == datetime(1970, 1, 1, 0, 0, 0, 5000, timezone.utc)


def test_an_identifier_that_is_no_time_is_no_error(queue: DurableMessageQueue, raw: Any) -> None:
    raw.xadd(STREAM, {"body": "job"}, id=f"{2**64 - 2}-1")
    with queue.receive(5) as message:
        assert message.enqueued_at.year == 9999


@pytest.mark.parametrize("command", ["put", "get", "stats"])
def test_a_key_of_another_type_is_an_error(
    queue: DurableMessageQueue, raw: Any, command: str
) -> None:
    raw.set(STREAM, "something else")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        getattr(queue, command)(*{"put": ["job"], "get": [1]}.get(command, []))
    assert raw.get(STREAM) == b"something else"


# A full queue, a full server, one that only reads


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


def test_many_who_put_at_once_do_not_exceed_the_limit(make_queue: MakeQueue) -> None:
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


# The server comes and goes


@pytest.mark.parametrize("kind", ["plain client", "monitored client"])
def test_a_put_whose_reply_was_lost_is_not_sent_again(
    valkey: Server, make_client: MakeClient, kind: str
) -> None:
    with Proxy(valkey.port) as proxy, redis.Redis(port=valkey.port) as raw:
        client = (
            redis.Redis(port=proxy.port)  # which has ten retries
            if kind == "plain client"
            else make_client(f"redis://127.0.0.1:{proxy.port}", retries="5")
        )
        queue = DurableMessageQueue("jobs", client)
        queue.stats()  # it is connected
        proxy.lose_replies(True)
        with pytest.raises(redis.ConnectionError) as caught:
            queue.put("job")
        assert is_retryable(caught.value) is None
        wait_until(lambda: raw.xlen(STREAM))
        proxy.lose_replies(False)
        assert queue.stats().length == 1
        client.close()


def test_a_put_that_was_not_sent_is_tried_again_as_the_client_is_told_to(
    valkey: Server, make_client: MakeClient
) -> None:
    with Proxy(valkey.port) as proxy:
        client = make_client(f"redis://127.0.0.1:{proxy.port}", retries="100")
        queue = client.durable_queue("jobs")
        proxy.refuse(True)
        again = threading.Timer(0.3, proxy.refuse, (False,))
        again.start()
        queue.put("job")
        again.join()
        assert queue.stats().length == 1


def test_a_message_whose_reply_was_lost_comes_back(valkey: Server, make_client: MakeClient) -> None:
    with Proxy(valkey.port) as proxy, redis.Redis(port=valkey.port) as raw:
        queue = make_client(f"redis://127.0.0.1:{proxy.port}").durable_queue("jobs")
        queue.put("job")
        raw.xgroup_create(STREAM, "workers", "0")
        proxy.lose_replies(True)
        with pytest.raises(redis.ConnectionError):
            queue._group.read(1, 0)
        proxy.lose_replies(False)
        wait_until(lambda: raw.xpending(STREAM, "workers")["pending"])
        let_leases_run_out(raw)
        with queue.receive(5) as message:
            assert (message.body, message.attempts) == (b"job", 2)


def test_waiting_for_ever_survives_a_restart(
    tmp_path: Path, make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    options = ["--appendonly", "yes"]
    with running_server("valkey", tmp_path, *options) as server:
        queue = make_client(server).durable_queue("jobs")
        got: list[bytes] = []
        thread = threading.Thread(target=lambda: got.append(queue.get()), daemon=True)
        with redis.Redis(port=server.port) as raw:
            thread.start()
            wait_until(lambda: raw.info("clients")["blocked_clients"])
            server.kill()
            wait_until(lambda: "waiting for the server" in caplog.text)
            server.restart()
            queue.put("job")
            thread.join(20)
    assert got == [b"job"]


def test_a_group_that_somebody_deleted_is_made_anew_and_nothing_is_lost(
    queue: DurableMessageQueue, raw: Any
) -> None:
    queue.put_many(["a", "b"])
    die_with_message(queue)
    raw.xgroup_destroy(STREAM, "workers")
    assert [queue.get(5), queue.get(5)] == [b"a", b"b"]


def test_a_message_is_acknowledged_though_its_group_was_deleted(
    queue: DurableMessageQueue, raw: Any
) -> None:
    queue.put("job")
    with queue.receive(5):
        raw.xgroup_destroy(STREAM, "workers")
    assert queue.stats().length == 0


def test_a_queue_that_is_removed_while_somebody_waits_is_made_anew(
    queue: DurableMessageQueue, other: DurableMessageQueue, raw: Any
) -> None:
    queue.put("a")
    queue.get(5)

    def remove() -> None:
        wait_until(lambda: raw.info("clients")["blocked_clients"])
        other.unlink()
        other.put("b")

    thread = threading.Thread(target=remove)
    thread.start()
    assert queue.get(10) == b"b"
    thread.join()


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
    monkeypatch.setattr(consumer_group, "CONSUMER_IDLE_SECONDS", 0)
    monkeypatch.setattr(consumer_group, "CONSUMER_IDLE_LEASES", 0)
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
    monkeypatch.setattr(consumer_group, "CONSUMER_IDLE_SECONDS", 0)
    monkeypatch.setattr(consumer_group, "CONSUMER_IDLE_LEASES", 0)
    transaction = queue._commands.transaction

    def wake_up_first(*args: Any) -> list[Any]:
        queue.put("b")
        die_with_message(other)
        return transaction(*args)

    wait_until(lambda: all(c["idle"] > 10 for c in raw.xinfo_consumers(STREAM, "workers")))
    monkeypatch.setattr(queue._commands, "transaction", wake_up_first)
    queue._group.remove_idle_consumers()
    monkeypatch.undo()
    assert raw.xpending(STREAM, "workers")["pending"] == 1
    let_leases_run_out(raw)
    assert queue.get(0) == b"b"


# Looking after it


def test_stats_of_a_queue_that_is_not_there_are_zeros(queue: DurableMessageQueue) -> None:
    stats = queue.stats()
    assert (stats.length, stats.in_flight, stats.oldest_age, stats.dead) == (0, 0, None, 0)


def test_stats_tell_what_is_in_the_queue(make_queue: MakeQueue, raw: Any) -> None:
    queue = make_queue(max_attempts=1)
    queue.put_many(["a", "b", "c"])
    fail(queue)
    with queue.receive(5):
        stats = queue.stats()
    assert (stats.length, stats.in_flight, stats.dead) == (2, 1, 1)
    assert stats.oldest_age is not None
    assert timedelta(0) <= stats.oldest_age < timedelta(seconds=30)


def test_unlink_removes_messages_and_dead_letters(make_queue: MakeQueue, raw: Any) -> None:
    queue = make_queue(max_attempts=1)
    queue.put_many(["a", "b"])
    fail(queue)
    queue.unlink()
    assert raw.keys() == []


def test_close_removes_nothing(queue: DurableMessageQueue) -> None:
    queue.put("job")
    queue.close()
    assert queue.get(5) == b"job"


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("jobs", ("{jobs}:messages", "{jobs}:dead")),
        ("{shop}jobs", ("{shop}jobs:messages", "{shop}jobs:dead")),
        ("shop:{a}", ("shop:{a}:messages", "shop:{a}:dead")),
        ("{}jobs", ("{{}jobs}:messages", "{{}jobs}:dead")),
    ],
)
def test_the_keys_of_a_queue_are_in_one_slot(name: str, keys: tuple[str, str]) -> None:
    assert keys_of(name) == keys
    first, second = (redis.crc.key_slot(key.encode()) for key in keys)
    assert first == second


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
    assert receiver.CLAIM_SECONDS <= 1


def test_a_pool_from_the_settings_does(server: Server) -> None:
    pool = pool_from_config({"foo.url": server.url}, "foo.")
    queue = DurableMessageQueue("jobs", pool)
    queue.put("job")
    assert queue.get(5) == b"job"
    pool.disconnect()
