"""Fields of messages and dead letters in entries of a stream."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from pyramid_baseplate_redis import MessageFormatError
from pyramid_baseplate_redis.queues.messages import (
    DeadLetter,
    DurableMessage,
    QueuedMessage,
    dead_fields,
    encoded,
    json_text,
    pairs,
    time_of,
    without_dead,
)

LEASES: Any = None
OWN = [b"dead.id", b"5-1", b"dead.error", b"KeyError", b"dead.attempts", b"3"]


def message(*fields: bytes, attempts: int = 2) -> DurableMessage:
    return DurableMessage(LEASES, b"5-1", [b"body", b"job", *fields], attempts, 1.0)


def test_a_new_message_is_neither_settled_nor_suspect() -> None:
    assert (message().is_settled, message().is_suspect) == (False, False)


def test_a_message_shows_its_identifier_and_attempt_only() -> None:
    assert repr(message()) == "<DurableMessage 5-1, attempt 2>"


def test_a_message_that_has_an_identifier_was_put_at_its_time() -> None:
    made = message(b"message.id", b"2000-abc")
    assert made.id == "2000-abc"
    assert made.enqueued_at == datetime(1970, 1, 1, 0, 0, 2, tzinfo=timezone.utc)


def test_a_message_without_one_was_put_at_the_time_of_its_entry() -> None:
    assert message().enqueued_at == datetime(1970, 1, 1, 0, 0, 0, 5000, timezone.utc)


def test_a_body_that_is_not_json_is_an_error_without_the_body() -> None:
    with pytest.raises(MessageFormatError, match=r"^5-1: its body is not JSON: JSONDecodeError$"):
        _ = message().json


def test_the_first_of_two_fields_with_the_same_name_is_read() -> None:
    assert pairs([b"a", b"1", b"b", b"2", b"a", b"3"]) == {b"a": b"1", b"b": b"2"}


def test_the_fields_of_a_dead_letter_are_those_before_the_messages_own() -> None:
    entry = [*OWN, b"body", b"job"]
    assert dead_fields(entry) == pairs(OWN)
    assert without_dead(entry) == [b"body", b"job"]


def test_a_dead_letter_may_have_no_other_fields() -> None:
    assert dead_fields(OWN) == pairs(OWN)
    assert without_dead(OWN) == []


def test_fields_of_the_message_with_the_names_of_a_dead_letters_stay_the_messages() -> None:
    theirs = [b"dead.error", b"theirs", b"body", b"job"]
    assert without_dead([*OWN, *theirs]) == theirs
    assert dead_fields([*OWN, *theirs])[b"dead.error"] == b"KeyError"


def test_a_dead_letter_has_what_was_recorded() -> None:
    letter = DeadLetter.of((b"9000-0", [*OWN, b"body", b"job"]))
    assert letter == DeadLetter(
        id="9000-0", message_id="5-1", error="KeyError", attempts=3,
        died_at=datetime(1970, 1, 1, 0, 0, 9, tzinfo=timezone.utc), fields={b"body": b"job"},
    )  # fmt: skip
    assert (letter.message, letter.traceback, letter.ref) == ("", "", "")


def test_a_dead_letter_keeps_the_messages_identifier() -> None:
    letter = DeadLetter.of((b"9000-0", [*OWN, b"body", b"job", b"message.id", b"2000-abc"]))
    assert letter.message_id == "2000-abc"


def test_a_dead_letter_of_another_program_has_no_attempts() -> None:
    letter = DeadLetter.of((b"9-0", [b"dead.attempts", b"many"]))
    assert (letter.attempts, letter.error, letter.body) == (0, "", b"")


def test_neither_bodies_nor_texts_are_shown() -> None:
    letter = DeadLetter(
        "9-0", "5-1", "KeyError", 3, time_of(b"9-0"), {b"body": b"secret"}, "secret", "secret"
    )
    queued = QueuedMessage("5-1", b"secret", time_of(b"5-1"), 0, None)
    assert "secret" not in repr(letter) + repr(queued)


@pytest.mark.parametrize("entry_id", [b"", b"abc-1", b"18446744073709551614-1", b"9" * 400])
def test_an_identifier_without_a_time_is_the_latest_time(entry_id: bytes) -> None:
    assert time_of(entry_id) == datetime.max.replace(tzinfo=timezone.utc)


def test_the_time_of_an_entry_has_milliseconds() -> None:
    assert time_of(b"1500-7") == datetime(1970, 1, 1, 0, 0, 1, 500_000, timezone.utc)


@pytest.mark.parametrize("given", [b"job", "job", bytearray(b"job"), memoryview(b"job")])
def test_bytes_and_text_become_bytes(given: Any) -> None:
    made = encoded("jobs", given)
    assert (type(made), made) == (bytes, b"job")


@pytest.mark.parametrize(
    ("value", "error"), [({1, 2}, TypeError), (float("nan"), ValueError)], ids=str
)
def test_an_object_that_json_does_not_have_is_an_error_of_the_same_class(
    value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"^queue jobs: .* Put what JSON can express") as caught:
        json_text("jobs", value)
    assert caught.value.__suppress_context__


def test_json_is_written_without_spaces() -> None:
    assert json_text("jobs", {"a": [1, 2]}) == b'{"a":[1,2]}'
