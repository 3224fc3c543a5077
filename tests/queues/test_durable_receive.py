"""DurableMessageQueue: waiting for messages, and acknowledging them."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import DurableMessageQueue, LeaseLostError, TimedOutError

from ..support.servers import MakeClient, Server, interrupt_when_blocked, running_server, wait_until
from .conftest import (
    DEAD,
    STREAM,
    WAITING,
    HandlerError,
    MakeQueue,
    die_with_message,
    fail,
    let_leases_run_out,
)

# Waiting


def test_an_empty_queue_is_a_timeout(queue: DurableMessageQueue) -> None:
    with pytest.raises(TimedOutError):
        queue.get(0)


def test_the_shortest_wait_is_not_endless(queue: DurableMessageQueue) -> None:
    """The server takes a BLOCK of 0 milliseconds for no limit."""
    assert queue._receiver._group.read(1, block=0.0001) == []


def test_waiting_longer_than_the_socket_timeout_is_fine(
    queue: DurableMessageQueue, other: DurableMessageQueue
) -> None:
    with pytest.raises(TimedOutError):  # which is 0.3 seconds
        queue.get(1.2)


def test_a_consumer_that_waits_gets_a_message_when_it_is_put(
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


def test_a_message_that_was_on_its_way_to_an_interrupted_consumer_comes_back(
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


def test_no_other_consumer_receives_it_meanwhile(
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


def test_a_consumer_that_waits_gets_what_another_gives_back(
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
    ((member, due),) = raw.zrange(WAITING, 0, -1, withscores=True)
    assert member.endswith(b"|1")
    assert 10 < due / 1000 - raw.time()[0] < 21


def test_what_failed_comes_back_when_its_delay_is_over(make_queue: MakeQueue) -> None:
    queue = make_queue(delay=timedelta(milliseconds=100), lease=5)
    queue.put("job")
    fail(queue)
    assert queue.get(10) == b"job"


def test_a_negative_delay_is_refused_before_anything_is_received(
    queue: DurableMessageQueue,
) -> None:
    with pytest.raises(ValueError, match="is out of range"):
        queue.receive(5, delay=-1)


def test_a_negative_delay_is_refused(queue: DurableMessageQueue) -> None:
    queue.put("job")
    with queue.receive(5) as message, pytest.raises(ValueError, match="is out of range"):
        message.give_back(-1)


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
    raw.zrem(WAITING, f"{first}|1")
    raw.zadd(WAITING, {f"{first}|2": 0})
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
