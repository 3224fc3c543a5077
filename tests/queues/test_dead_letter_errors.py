"""Dead letters keep the last error: its class, its text and its traceback."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import DEAD, MakeQueue


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def fail_with(queue: Any, error: BaseException) -> Any:
    queue.put("job")
    with pytest.raises(type(error)), queue.receive(5):
        raise error
    return queue.dead_letters()[-1]


def test_a_dead_letter_keeps_the_text_and_the_traceback(make_queue: MakeQueue) -> None:
    letter = fail_with(make_queue(max_attempts=1), KeyError("no such invoice: 17"))
    assert (letter.error, letter.message) == ("KeyError", "'no such invoice: 17'")
    assert letter.traceback.startswith("Traceback (most recent call last):\n")
    assert "in fail_with\n    raise error\n" in letter.traceback
    assert letter.body == b"job"
    assert not [name for name in letter.fields if name.startswith(b"dead.")]


def test_the_text_and_the_traceback_have_four_kilobytes_at_most(
    make_queue: MakeQueue, raw: Any
) -> None:
    letter = fail_with(make_queue(max_attempts=1), ValueError("é" * 10_000))
    assert letter.message.startswith("éé")
    assert letter.message.endswith("é...")
    assert letter.traceback.startswith("...")
    ((_, fields),) = raw.xrange(DEAD)
    assert 3000 < len(fields[b"dead.message"]) + len(fields[b"dead.traceback"]) <= 4096


def test_only_the_class_is_kept_if_the_settings_say_so(make_queue: MakeQueue, raw: Any) -> None:
    queue = make_queue(max_attempts=1, keep_errors="class")
    letter = fail_with(queue, ValueError("a secret"))
    assert (letter.error, letter.message, letter.traceback) == ("ValueError", "", "")
    assert b"secret" not in raw.dump(DEAD)


def test_an_error_without_a_text_is_no_hindrance(make_queue: MakeQueue) -> None:
    letter = fail_with(make_queue(max_attempts=1), UnprintableError())
    assert letter.error.endswith("UnprintableError")
    assert letter.message == ""


def test_a_replayed_message_has_no_fields_of_the_dead_letter(make_queue: MakeQueue) -> None:
    queue = make_queue(max_attempts=1)
    fail_with(queue, ValueError("no"))
    assert queue.replay() == 1
    with queue.receive(5) as message:
        assert message.body == b"job"
        assert not [name for name in message.fields if name.startswith(b"dead.")]


def test_another_value_is_refused(make_queue: MakeQueue) -> None:
    with pytest.raises(ValueError, match="keep_errors: 'none' is unknown"):
        make_queue(keep_errors="none")
