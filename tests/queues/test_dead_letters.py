"""DurableMessageQueue: attempts, dead letters, and entries of another format."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import DurableMessageQueue, TimedOutError

from .conftest import (
    DEAD,
    STREAM,
    HandlerError,
    MakeQueue,
    die_with_message,
    fail,
    let_leases_run_out,
)

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
    assert letter.error == f"{HandlerError.__module__}.HandlerError"
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
    queue.put_many(["first", "job"])
    queue.get(5)  # and makes the group
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


def test_a_message_of_another_program_with_a_body_is_a_message(
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
