"""Words that differ by one slip of the keyboard."""

from __future__ import annotations

import pytest

from pyramid_baseplate_redis.settings.fields import one_edit_apart


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("url", "ulr"),
        ("url", "rul"),
        ("url", "urls"),
        ("url", "curl"),
        ("url", "ur"),
        ("url", "rl"),
        ("url", "uri"),
        ("url", "arl"),
        ("", "a"),
    ],
)
def test_one_letter_is_missing_added_wrong_or_swapped(one: str, other: str) -> None:
    assert one_edit_apart(one, other)
    assert one_edit_apart(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [("url", "url"), ("", ""), ("url", "lru"), ("url", "u"), ("url", "urlss"), ("abcd", "badc")],
)
def test_other_words_are_not_one_edit_apart(one: str, other: str) -> None:
    assert not one_edit_apart(one, other)
    assert not one_edit_apart(other, one)
