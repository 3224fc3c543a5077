"""DurableMessageQueue: expired leases are searched for rarely, and found in time."""

from __future__ import annotations

import time
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import DurableMessageQueue, TimedOutError

from .conftest import STREAM, MakeQueue, die_with_message, fail, let_leases_run_out, search_soon


def calls(raw: Any) -> dict[str, int]:
    return {
        name.removeprefix("cmdstat_"): stats["calls"]
        for name, stats in raw.info("commandstats").items()
        if name != "cmdstat_info" and not name.startswith("cmdstat_config")
    }


def receive_nothing(queue: DurableMessageQueue, timeout: float = 0) -> None:
    with pytest.raises(TimedOutError):
        queue.get(timeout)


def test_the_server_is_searched_once_while_no_lease_can_expire(
    queue: DurableMessageQueue, other: DurableMessageQueue, raw: Any
) -> None:
    queue.put_many(["job"] * 250)
    queue.receiver.wait(250, 5)
    receive_nothing(other)
    raw.config_resetstat()
    for _ in range(20):
        receive_nothing(other)
    found = calls(raw)
    assert (found["xreadgroup"], found["zrange"]) == (20, 40)
    assert "xpending" not in found
    assert "xautoclaim" not in found


def test_an_empty_wait_takes_at_most_three_commands_a_second(
    queue: DurableMessageQueue, raw: Any
) -> None:
    receive_nothing(queue)
    raw.config_resetstat()
    receive_nothing(queue, 2)
    found = calls(raw)
    assert (found["xreadgroup"], found["zrange"]) == (2, 4)
    assert sum(found.values()) <= 3 * 2


@pytest.mark.parametrize("pending", [0, 150])
def test_an_expired_lease_is_found_when_it_expires(make_queue: MakeQueue, pending: int) -> None:
    """Other leases in their second half, more than a page, do not hide it."""
    queue, other = make_queue("first", lease=1.2), make_queue("second", lease=1.2)
    queue.put_many(["job"] * (pending + 1))
    started = time.monotonic()
    if pending:
        held = queue.receiver.wait(pending, 5)
        queue.receiver.wait(1, 5)
        time.sleep(0.7)
        queue.receiver.leases.renew(held)
    else:
        die_with_message(queue)
    with other.receive(5) as message:
        assert 1.1 < time.monotonic() - started < 2.2
        assert (message.attempts, message.is_suspect) == (2, True)


def test_more_expired_leases_than_a_page_are_all_received(
    queue: DurableMessageQueue, other: DurableMessageQueue, raw: Any
) -> None:
    queue.put_many(str(number) for number in range(230))
    queue.receiver.wait(230, 5)
    let_leases_run_out(raw)
    got = [other.get(0) for _ in range(230)]
    assert got == [str(number).encode() for number in range(230)]
    receive_nothing(other)


def test_what_an_older_version_gave_back_is_found_within_half_a_lease(
    make_queue: MakeQueue, raw: Any
) -> None:
    queue, other = make_queue("first", lease=1), make_queue("second", lease=1)
    put = queue.put("job")
    die_with_message(queue)
    receive_nothing(other)
    raw.response_callbacks.pop("XCLAIM", None)
    raw.execute_command("XCLAIM", STREAM, "workers", "first", 0, put, "IDLE", 1000, "JUSTID")
    started = time.monotonic()
    assert other.get(5) == b"job"
    assert time.monotonic() - started < 0.8


def test_messages_that_are_held_are_not_received_again(
    queue: DurableMessageQueue, other: DurableMessageQueue, raw: Any
) -> None:
    first, second = queue.put_many(["a", "b"])
    held = queue.receiver.wait(1, 5)
    queue.receiver.wait(1, 5)
    let_leases_run_out(raw)
    (message,) = queue.receiver.wait(2, 0, frozenset({held[0].entry_id}))
    assert message.id == second
    search_soon(other)
    with other.receive(0) as message:
        assert (message.id, message.attempts) == (first, 2)


def test_a_lease_that_is_gone_from_the_stream_is_forgotten(
    queue: DurableMessageQueue, raw: Any
) -> None:
    put = queue.put("job")
    die_with_message(queue)
    raw.xdel(STREAM, put)
    let_leases_run_out(raw)
    receive_nothing(queue)
    assert raw.xpending(STREAM, "workers")["pending"] == 0


def test_a_dead_letter_does_not_hide_the_next_message(make_queue: MakeQueue, raw: Any) -> None:
    queue = make_queue(max_attempts=1)
    queue.put_many(["poison", "a"])
    die_with_message(queue)
    let_leases_run_out(raw)
    raw.xadd(STREAM, {"task": "of another program"})
    queue.put("b")
    assert [queue.get(0), queue.get(0)] == [b"a", b"b"]
    assert queue.stats().dead == 2


def test_a_dead_letter_that_waited_does_not_hide_the_next_message(make_queue: MakeQueue) -> None:
    queue = make_queue(max_attempts=1)
    queue.put_many(["a", "b"])
    messages = queue.receiver.wait(2, 5)
    messages[0].give_back()
    queue.receiver.leases.put_back(messages[1:])
    assert queue.get(0) == b"b"
    assert [letter.body for letter in queue.dead_letters()] == [b"a"]


def test_renewing_many_leases_returns_those_that_are_lost(
    queue: DurableMessageQueue, other: DurableMessageQueue, raw: Any
) -> None:
    queue.put_many(["a", "b", "c", "d"])
    messages = queue.receiver.wait(4, 5)
    let_leases_run_out(raw)
    other.get(0)  # a
    theirs = die_with_message(other)  # b
    messages[2].acknowledge()
    lost = queue.receiver.leases.renew(messages)
    assert lost == messages[:2]
    theirs_now, renewed = raw.xpending_range(STREAM, "workers", "-", "+", 10)
    assert (theirs_now["message_id"].decode(), theirs_now["consumer"]) == (theirs.id, b"second")
    assert (renewed["message_id"].decode(), renewed["times_delivered"]) == (messages[3].id, 1)
    assert renewed["time_since_delivered"] < 5000
    assert queue.receiver.leases.renew([messages[2]]) == []


def test_a_plain_client_sees_the_failed_message_until_it_is_received(
    queue: DurableMessageQueue, raw: redis.Redis
) -> None:
    queue.put("job")
    fail(queue, delay=3600)
    assert raw.xlen(STREAM) == 1
    receive_nothing(queue)


def test_a_wait_without_suspects_keeps_no_cpu_busy(queue: DurableMessageQueue) -> None:
    """Though a search is due, which it leaves to others."""
    search_soon(queue)
    used = time.thread_time()
    with pytest.raises(TimedOutError):
        queue.receiver.wait(1, 1, suspects=0)
    assert time.thread_time() - used < 0.3


def test_a_process_that_has_all_expired_messages_goes_on(
    queue: DurableMessageQueue, raw: Any
) -> None:
    queue.put_many(["job"] * 120)
    held = frozenset(message.entry_id for message in queue.receiver.wait(120, 5))
    let_leases_run_out(raw)
    used = time.thread_time()
    with pytest.raises(TimedOutError):
        queue.receiver.wait(1, 1, held)
    assert time.thread_time() - used < 0.3
    queue.put("another")
    assert queue.receiver.wait(1, 1, held)[0].body == b"another"
