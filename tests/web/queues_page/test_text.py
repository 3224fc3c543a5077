"""Bodies, times and HTML as the queues page writes them."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyramid_baseplate_redis.web.queues_page.body_text import (
    MOST_SHOWN,
    BodyText,
    body_text,
    excerpt,
)
from pyramid_baseplate_redis.web.queues_page.html import document, element, visible
from pyramid_baseplate_redis.web.queues_page.wording import duration


@pytest.mark.parametrize(
    ("body", "formats"),
    [
        (b'{"a": 1}', ("json", "text", "hex")),
        (b"resize 17", ("text", "hex")),
        (b"\xff\xfe", ("text", "hex")),
        (b"NaN", ("text", "hex")),
        (b"", ("text", "hex")),
        (b"[" * 60_000, ("text", "hex")),
        (b"1" * 60_000, ("text", "hex")),
    ],
)
def test_body_has_the_format_json_if_it_is_json(body: bytes, formats: tuple[str, ...]) -> None:
    assert body_text(body).formats == formats


@pytest.mark.parametrize(
    ("body", "wanted", "shown"),
    [
        (b'{"a": [1]}', None, ("json", '{\n  "a": [\n    1\n  ]\n}')),
        (b'{"a": [1]}', "text", ("text", '{"a": [1]}')),
        ("grüße".encode(), None, ("text", "grüße")),
        ("grüße".encode(), "json", ("text", "grüße")),
        ("grüße".encode(), "other", ("text", "grüße")),
        (b"\xff\xfe", "text", ("text", "\ufffd\ufffd")),
        (b"a\0b", None, ("hex", "00000000  61 00 62".ljust(57) + "  a.b")),
        (b"\xff\xfe", None, ("hex", "00000000  ff fe".ljust(57) + "  ..")),
        ('"grüße"'.encode(), None, ("json", '"grüße"')),
    ],
)
def test_body_is_shown_in_a_format(body: bytes, wanted: str | None, shown: tuple[str, str]) -> None:
    found = body_text(body, wanted)
    assert (found.format, found.text, found.is_cut) == (*shown, False)


def test_long_body_is_cut_between_characters() -> None:
    body = b"a" + "ü".encode() * MOST_SHOWN
    found = body_text(body)
    assert found == BodyText("text", ("text", "hex"), "a" + "ü" * (MOST_SHOWN // 2 - 1), True)
    assert body_text(body, "hex").text.count("\n") == MOST_SHOWN // 16 - 1


def test_nested_json_is_cut_before_it_fills_the_memory() -> None:
    depth = 500
    body = b"[" * depth + b"0," * 30_000 + b"0" + b"]" * depth
    found = body_text(body)
    assert (found.format, found.is_cut) == ("json", True)
    assert len(found.text) == MOST_SHOWN


@given(st.binary(max_size=200), st.sampled_from(["json", "text", "hex", None]))
def test_any_body_can_be_shown(body: bytes, wanted: str | None) -> None:
    found = body_text(body, wanted)
    document(element("pre", found.text))
    if found.format == "json":
        assert json.loads(found.text) == json.loads(body)
    assert excerpt(body).count("\n") == 0


@given(st.text(), st.text())
def test_no_text_becomes_markup(inside: str, attribute: str) -> None:
    text = document(element("p", inside, element("b"), inside, title=attribute)).decode()
    assert text.count("<") - attribute.count("<") == 5
    assert text.count('"') - visible(inside).count('"') * 2 == 2


def test_lone_surrogate_of_json_can_be_sent() -> None:
    assert body_text(rb'"\ud800"').text == '"\ud800"'
    assert b'"?"' in document(element("pre", '"\ud800"'))


def test_invisible_characters_are_shown() -> None:
    assert visible("a\0b\x1b[1m\r\n\tc\u202etxt") == "a␀b␛[1m␍\n\tc\\u202etxt"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (3_605, "1 h"),
        (7_380, "2 h 3 min"),
        (100_000, "1 d 3 h"),
    ],
)
def test_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(timedelta(seconds=seconds)) == text


def test_excerpt_is_one_short_line() -> None:
    assert excerpt(b"one\n  two\t") == "one two"
    assert excerpt(b"x" * 81) == "x" * 80 + "…"
    assert excerpt(b"x" * 80) == "x" * 80
    assert excerpt(b" " * 1000) == "…"
    assert excerpt(b"a\0") == "61 00"
    assert excerpt(b"\xff" * 1000) == "ff " * 26 + "ff…"
    assert excerpt("ü".encode() * 1000) == "ü" * 80 + "…"
