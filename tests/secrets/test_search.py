"""The search finds a password that was planted, in each encoding."""

from __future__ import annotations

import string

import pytest

from .search import HEAD, PASSWORD, TAIL, assert_hidden, encodings, found_in


@pytest.mark.parametrize("encoding", encodings(PASSWORD))
def test_the_search_finds_a_planted_password(encoding: str) -> None:
    text = f"before{encodings(PASSWORD)[encoding]}after"
    assert encoding in found_in(text)
    with pytest.raises(pytest.fail.Exception):
        assert_hidden(text)


@pytest.mark.parametrize("piece", [HEAD, TAIL, PASSWORD[:20], PASSWORD[-20:], HEAD.upper()])
def test_the_search_finds_a_piece(piece: str) -> None:
    assert found_in(f"before{piece}after")


def test_the_password_has_every_special_character() -> None:
    assert set(string.punctuation) <= set(PASSWORD)
    assert {" ", "€", "🔑"} <= set(PASSWORD)


def test_the_search_finds_nothing_in_other_text() -> None:
    assert found_in(f"redis://:***@localhost {string.printable}") == []
