"""DurableMessageQueue: of messages with the same key there is one."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from pyramid_baseplate_redis import DurableMessageQueue, TimedOutError

from .conftest import STREAM, HandlerError, MakeQueue, die_with_message, let_leases_run_out

KEY = "{jobs}:unique:invoice 17"


def test_a_second_put_adds_nothing_and_returns_the_first_ones_identifier(
    queue: DurableMessageQueue,
) -> None:
    first = queue.put("a", unique="invoice 17")
    assert queue.put("b", unique="invoice 17") == first
    assert queue.put("c", unique="invoice 18") != first
    with queue.receive_many(5, 1) as messages:
        assert [message.body for message in messages] == [b"a", b"c"]
        assert messages[0].id == first


def test_while_it_is_processed_too(queue: DurableMessageQueue) -> None:
    first = queue.put("a", unique="invoice 17")
    with queue.receive(1):
        assert queue.put("b", unique="invoice 17") == first
    assert queue.put("c", unique="invoice 17") != first


def test_while_it_is_delayed_and_when_it_was_moved(queue: DurableMessageQueue, raw: Any) -> None:
    first = queue.put("a", unique="invoice 17", delay=60)
    assert queue.put("b", unique="invoice 17") == first
    raw.zadd("{jobs}:delayed", {first: 1})
    with queue.receive(1) as message:
        assert (message.body, message.id) == (b"a", first)
        assert queue.put("b", unique="invoice 17", delay=60) == first
    assert queue.stats().delayed == 0
    assert queue.put("c", unique="invoice 17") != first


def test_while_it_waits_after_a_failure(make_queue: MakeQueue) -> None:
    queue = make_queue("first", delay=60)
    first = queue.put("a", unique="invoice 17")
    with pytest.raises(HandlerError), queue.receive(1):
        raise HandlerError
    assert queue.put("b", unique="invoice 17") == first


def test_within_its_window_even_if_it_is_processed(queue: DurableMessageQueue, raw: Any) -> None:
    first = queue.put("a", unique="invoice 17", unique_for=0.5)
    queue.get(1)
    assert queue.put("b", unique="invoice 17", unique_for=0.5) == first
    assert 0 < raw.pttl(KEY) <= 500  # the server removes it
    time.sleep(0.6)
    assert queue.put("c", unique="invoice 17", unique_for=0.5) != first


def test_the_window_does_not_end_while_the_message_is_there(queue: DurableMessageQueue) -> None:
    first = queue.put("a", unique="invoice 17", unique_for=0.01)
    time.sleep(0.05)
    assert queue.put("b", unique="invoice 17") == first


def test_an_acknowledged_message_frees_its_key(queue: DurableMessageQueue, raw: Any) -> None:
    queue.put("a", unique="invoice 17")
    queue.get(1)
    assert not raw.exists(KEY)


def test_a_dead_letter_holds_no_key(make_queue: MakeQueue, raw: Any) -> None:
    queue = make_queue("first", max_attempts=1)
    first = queue.put("a", unique="invoice 17")
    with pytest.raises(HandlerError), queue.receive(1):
        raise HandlerError
    assert not raw.exists(KEY)
    assert queue.dead_letters()[0].message_id == first
    assert queue.put("b", unique="invoice 17") != first
    assert queue.replay() == 1  # which does not ask
    assert queue.stats().length == 2


@pytest.mark.parametrize("is_delayed", [False, True])
def test_a_stale_key_swallows_no_put(
    queue: DurableMessageQueue, raw: Any, is_delayed: bool
) -> None:
    first = queue.put("a", unique="invoice 17", delay=60 if is_delayed else None)
    # Its consumer dies after XDEL, or an administrator deletes it.
    raw.delete(STREAM, "{jobs}:delayed", f"{{jobs}}:later:{first}")
    second = queue.put("b", unique="invoice 17")
    assert second != first
    assert queue.get(1) == b"b"


def test_a_stale_key_of_a_message_that_was_found_once_swallows_no_put(
    queue: DurableMessageQueue, raw: Any
) -> None:
    first = queue.put("a", unique="invoice 17")
    assert queue.put("a", unique="invoice 17") == first
    raw.xtrim(STREAM, maxlen=0)
    assert queue.put("b", unique="invoice 17") != first


def test_a_second_put_does_not_search_again(queue: DurableMessageQueue, raw: Any) -> None:
    queue.put_many(["x"] * 300)
    queue.put("a", unique="invoice 17")
    queue.put("a", unique="invoice 17")
    raw.config_resetstat()
    queue.put("a", unique="invoice 17")
    assert raw.info("commandstats")["cmdstat_xrange"]["calls"] == 1


def test_of_an_entry_that_a_dead_letter_points_at_the_key_is_free(
    make_queue: MakeQueue, raw: Any
) -> None:
    queue, other = make_queue("first", max_attempts=1), make_queue("second", max_attempts=1)
    first = queue.put("a", unique="invoice 17")
    die_with_message(queue)
    let_leases_run_out(raw)
    with pytest.raises(TimedOutError):
        other.get(0)
    assert other.dead_letters()[0].ref
    assert other.put("b", unique="invoice 17") != first


def test_a_dead_letter_ends_the_window_of_its_key(make_queue: MakeQueue) -> None:
    queue = make_queue("first", max_attempts=1)
    first = queue.put("a", unique="invoice 17", unique_for=60)
    with pytest.raises(HandlerError), queue.receive(1):
        raise HandlerError
    assert queue.put("b", unique="invoice 17", unique_for=60) != first


@pytest.mark.parametrize("value", ["", "text", "a|b|c", "a|b"])
def test_a_key_of_another_program_is_taken_over(
    queue: DurableMessageQueue, raw: Any, value: str
) -> None:
    raw.set(KEY, value)
    queue.put("a", unique="invoice 17")
    assert queue.get(1) == b"a"


@pytest.mark.parametrize("key", ["a|b", "{c}d", "é ☃", "*?[x]"])
def test_any_text_is_a_key(queue: DurableMessageQueue, raw: Any, key: str) -> None:
    first = queue.put("a", unique=key)
    assert queue.put("b", unique=key) == first
    assert queue.put("c", unique=key + "2") != first
    queue.unlink()
    assert raw.keys("*") == []


def test_a_key_that_is_no_text_is_refused(queue: DurableMessageQueue) -> None:
    with pytest.raises(ValueError, match="unique: the key has characters") as raised:
        queue.put("a", unique="secret \ud800")
    assert "secret" not in str(raised.value)


def test_an_entry_of_another_program_with_an_odd_key_is_acknowledged(
    queue: DurableMessageQueue, raw: Any
) -> None:
    raw.xadd(STREAM, {"body": "a", "message.unique": b"\xff"})
    assert queue.get(1) == b"a"


def test_another_messages_key_is_not_freed(queue: DurableMessageQueue, raw: Any) -> None:
    queue.put("a", unique="invoice 17")
    with queue.receive(1):
        raw.set(KEY, "1-another|0|")
    assert raw.exists(KEY)


def test_many_puts_at_the_same_time_add_one(make_queue: MakeQueue) -> None:
    queues = [make_queue(f"{number}") for number in range(8)]
    barrier = threading.Barrier(8)

    def put(queue: DurableMessageQueue) -> list[str]:
        barrier.wait()
        return [queue.put("a", unique=f"key {number}") for number in range(30)]

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(put, queues))
    assert all(each == ids[0] for each in ids)
    assert queues[0].stats().length == 30


def test_putting_and_processing_at_the_same_time_lets_each_key_in_once(
    make_queue: MakeQueue,
) -> None:
    """At no time there are two messages of a key."""
    stop = threading.Event()
    under_way: set[bytes] = set()
    twice: list[bytes] = []

    def process(queue: DurableMessageQueue) -> None:
        while not stop.is_set():
            with suppress(TimedOutError), queue.receive(0.05) as message:
                if message.body in under_way:
                    twice.append(message.body)
                under_way.add(message.body)
                time.sleep(0.001)
                under_way.discard(message.body)

    def put(queue: DurableMessageQueue) -> None:
        for number in range(150):
            key = f"key {number % 3}"
            queue.put(key, unique=key)

    workers = [threading.Thread(target=process, args=(make_queue(f"w{n}"),)) for n in range(3)]
    putters = [threading.Thread(target=put, args=(make_queue(f"p{n}"),)) for n in range(4)]
    for thread in (*workers, *putters):
        thread.start()
    for thread in putters:
        thread.join()
    stop.set()
    for thread in workers:
        thread.join()
    assert not twice
