"""The fields of a dead letter that describe an error are short."""

from __future__ import annotations

from typing import Any

import pytest

from pyramid_baseplate_redis.queues.settling.failing import error_fields


def fields_of(error: BaseException, *, keeps_text: bool = True) -> dict[bytes, Any]:
    fields = error_fields(error, keeps_text=keeps_text)
    return dict(zip(fields[::2], fields[1::2], strict=True))


def raised() -> Exception:
    try:
        raise KeyError("ééé")
    except KeyError as error:
        return error


def test_without_texts_only_the_class_is_kept() -> None:
    assert fields_of(KeyError("no"), keeps_text=False) == {b"dead.error": "KeyError"}


@pytest.mark.parametrize("text", ["no", "a" * 1024, "é" * 512])
def test_a_text_of_a_kilobyte_is_kept_as_it_is(text: str) -> None:
    assert fields_of(ValueError(text))[b"dead.message"] == text.encode()


@pytest.mark.parametrize("text", ["a" * 1025, "a" * 5000])
def test_the_beginning_of_a_longer_text_is_kept(text: str) -> None:
    assert fields_of(ValueError(text))[b"dead.message"] == b"a" * 1021 + b"..."


def test_a_text_that_is_longer_in_bytes_is_cut_between_two_characters() -> None:
    assert fields_of(ValueError("é" * 513))[b"dead.message"] == "é".encode() * 510 + b"..."


def test_a_text_that_utf_8_cannot_express_is_kept_in_part() -> None:
    assert fields_of(ValueError("a\ud800"))[b"dead.message"] == b"a?"


def test_a_short_traceback_is_kept_as_it_is() -> None:
    shown = fields_of(raised())[b"dead.traceback"].decode()
    assert shown.startswith("Traceback (most recent call last):\n")
    assert shown.endswith("KeyError: 'ééé'\n")


def test_the_end_of_a_longer_traceback_is_kept() -> None:
    class LongError(Exception):
        def __str__(self) -> str:
            return "b" * 4000

    shown = fields_of(LongError())[b"dead.traceback"]
    assert len(shown) == 3 * 1024
    assert shown == b"..." + b"b" * (3 * 1024 - 4) + b"\n"


@pytest.mark.parametrize("padding", ["", "x"])
def test_a_traceback_is_cut_between_two_characters(padding: str) -> None:
    shown = fields_of(ValueError("é" * 3000 + padding))[b"dead.traceback"]
    assert shown.startswith("...é".encode())
    assert 3 * 1024 - 1 <= len(shown) <= 3 * 1024
    assert shown.endswith(f"é{padding}\n".encode())


def test_a_traceback_of_exactly_three_kilobytes_is_kept_as_it_is() -> None:
    around = len(fields_of(ValueError(""))[b"dead.traceback"]) + len(": ")
    shown = fields_of(ValueError("a" * (3 * 1024 - around)))[b"dead.traceback"]
    assert (len(shown), shown.startswith(b"...")) == (3 * 1024, False)
    shown = fields_of(ValueError("a" * (3 * 1024 - around + 1)))[b"dead.traceback"]
    assert (len(shown), shown.startswith(b"...")) == (3 * 1024, True)
