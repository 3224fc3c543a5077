"""The grammar of setting values: what each parser accepts, and its exact message if it doesn't."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyramid_baseplate_redis import Timespan
from pyramid_baseplate_redis.settings import parsers

EXAMPLES = 'write a number and a unit, such as "3 seconds" or "200 milliseconds"'
UNITS = "the units are milliseconds, seconds, minutes, hours and days"
NAMES = 'write names with commas between them, such as "PING, PUBLISH"'


def refusal(parse: Any, value: Any) -> str:
    """The text with which a parser refuses a value."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the callers compare the whole text)
        parse(value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3 seconds", 3),
        ("1 second", 1),
        ("3s", 3),
        ("3 S", 3),
        ("200 milliseconds", 0.2),
        ("1 millisecond", 0.001),
        ("200ms", 0.2),
        ("0.5 seconds", 0.5),
        ("1 minute", 60),
        ("2 minutes", 120),
        ("2 min", 120),
        ("1 hour", 3600),
        ("2 hours", 7200),
        ("2h", 7200),
        ("1 day", 86400),
        ("365 days", 31_536_000),
        ("1d", 86400),
        ("  3   seconds  ", 3),
        ("3\tseconds", 3),
        ("3 Seconds", 3),
        ("0 seconds", 0),
        ("007 seconds", 7),
    ],
)
def test_a_time_span_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert Timespan(text) == timedelta(seconds=seconds)


def test_a_timedelta_is_a_time_span_already() -> None:
    assert Timespan(timedelta(seconds=7)) == timedelta(seconds=7)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param("3", f"'3' has no unit; {EXAMPLES}", id="no unit"),
        pytest.param("0.5", f"'0.5' has no unit; {EXAMPLES}", id="no unit, with a fraction"),
        pytest.param("0", f"'0' has no unit; {EXAMPLES}", id="zero without a unit"),
        pytest.param(3, f"3 has no unit; {EXAMPLES}", id="a whole number"),
        pytest.param(0.5, f"0.5 has no unit; {EXAMPLES}", id="a float"),
        pytest.param(None, f"None has no unit; {EXAMPLES}", id="None"),
        pytest.param("", f"'' is not a time span; {EXAMPLES}", id="empty"),
        pytest.param("   ", f"'' is not a time span; {EXAMPLES}", id="white space"),
        pytest.param("soon", f"'soon' is not a time span; {EXAMPLES}", id="no number"),
        pytest.param("seconds", f"'seconds' is not a time span; {EXAMPLES}", id="only a unit"),
        pytest.param(".5 seconds", f"'.5 seconds' is not a time span; {EXAMPLES}", id="no digit"),
        pytest.param("1. s", f"'1. s' is not a time span; {EXAMPLES}", id="no digit behind a dot"),
        pytest.param("1,5 s", f"'1,5 s' is not a time span; {EXAMPLES}", id="a decimal comma"),
        pytest.param("1e3 s", f"'1e3 s' is not a time span; {EXAMPLES}", id="an exponent"),
        pytest.param("+3 s", f"'+3 s' is not a time span; {EXAMPLES}", id="a plus sign"),
        pytest.param("3 s 4 ms", f"'3 s 4 ms' is not a time span; {EXAMPLES}", id="two spans"),
        pytest.param("٣ s", f"'٣ s' is not a time span; {EXAMPLES}", id="digits not in ASCII"),
        pytest.param("nan s", f"'nan s' is not a time span; {EXAMPLES}", id="not a number"),
        pytest.param("inf s", f"'inf s' is not a time span; {EXAMPLES}", id="infinite"),
        pytest.param("-3 seconds", f"'-3 seconds' is negative; {EXAMPLES}", id="negative"),
        pytest.param("-3", f"'-3' is negative; {EXAMPLES}", id="negative, no unit"),
        pytest.param("- 3 s", f"'- 3 s' is negative; {EXAMPLES}", id="negative, with a space"),
        pytest.param("3 fortnights", f"'3 fortnights' has an unknown unit; {UNITS}", id="unit"),
        pytest.param("3 m", f"'3 m' has an unknown unit; {UNITS}", id="m: minutes or milli?"),
        pytest.param("3 us", f"'3 us' has an unknown unit; {UNITS}", id="microseconds"),
        pytest.param("366 days", "is longer than a year", id="longer than a year"),
        pytest.param(f"{'9' * 400} s", "is longer than a year", id="more than a float holds"),
        pytest.param(
            timedelta(days=366), "is longer than a year", id="a timedelta longer than a year"
        ),
        pytest.param(
            timedelta(seconds=-1),
            f"-1 day, 23:59:59 is negative; {EXAMPLES}",
            id="a negative timedelta",
        ),
    ],
)
def test_what_is_not_a_time_span_is_refused(value: Any, message: str) -> None:
    assert refusal(Timespan, value) == message


@given(st.integers(0, 3600_000))
def test_every_number_of_milliseconds_is_read_exactly(number: int) -> None:
    assert Timespan(f"{number} milliseconds") == timedelta(milliseconds=number)


@given(st.text())
def test_any_text_is_a_time_span_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert Timespan(text) >= timedelta(0)


@pytest.mark.parametrize("value", ["0 seconds", timedelta(0), "0.0001 ms"])
def test_zero_is_refused_where_it_means_nothing(value: Any) -> None:
    assert refusal(parsers.positive_timespan, value) == "must be longer than zero"


def test_a_positive_time_span_is_a_time_span() -> None:
    assert parsers.positive_timespan("200 ms") == timedelta(milliseconds=200)


@pytest.mark.parametrize(("value", "number"), [("7", 7), (" 7 ", 7), ("+7", 7), (7, 7), ("07", 7)])
def test_a_whole_number_is_text_or_a_number(value: Any, number: int) -> None:
    assert parsers.whole_number(1, 9)(value) == number


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param("0", "0 is out of range", id="below"),
        pytest.param("10", "10 is out of range", id="above"),
        pytest.param(10, "10 is out of range", id="a number above"),
        pytest.param("-1", "-1 is out of range", id="negative"),
        pytest.param("", "'' is not a whole number", id="empty"),
        pytest.param("5.0", "'5.0' is not a whole number", id="a fraction"),
        pytest.param("1e1", "'1e1' is not a whole number", id="an exponent"),
        pytest.param("1_0", "'1_0' is not a whole number", id="an underscore"),
        pytest.param("0x5", "'0x5' is not a whole number", id="hexadecimal"),
        pytest.param("٣", "'٣' is not a whole number", id="digits not in ASCII"),
        pytest.param("five", "'five' is not a whole number", id="a word"),
        pytest.param(5.0, "5.0 is not a whole number", id="a float"),
        pytest.param(True, "True is not a whole number", id="a bool"),
        pytest.param(None, "None is not a whole number", id="None"),
        pytest.param("9" * 5000, f"'{'9' * 5000}' is not a whole number", id="5000 digits"),
    ],
)
def test_what_is_not_a_whole_number_in_range_is_refused(value: Any, message: str) -> None:
    assert refusal(parsers.whole_number(1, 9), value) == (
        f"{message}; write a whole number from 1 to 9"
    )


@pytest.mark.parametrize("value", ["true", "True", " YES ", "on", "1", True, 1])
def test_true_is_written_in_any_usual_way(value: Any) -> None:
    assert parsers.boolean(value) is True


@pytest.mark.parametrize("value", ["false", "False", " NO ", "off", "0", False, 0])
def test_false_is_written_in_any_usual_way(value: Any) -> None:
    assert parsers.boolean(value) is False


@pytest.mark.parametrize(
    ("value", "shown"), [("", "''"), ("maybe", "'maybe'"), ("2", "'2'"), (None, "'None'")]
)
def test_what_is_neither_true_nor_false_is_refused(value: Any, shown: str) -> None:
    assert refusal(parsers.boolean, value) == (
        f"{shown} is neither true nor false; write true or false"
    )


def test_a_choice_is_read_without_regard_to_case() -> None:
    assert parsers.choice("all", "off")(" ALL ") == "all"


@pytest.mark.parametrize(("value", "shown"), [("some", "'some'"), ("", "''"), (None, "'None'")])
def test_an_unknown_choice_is_refused(value: Any, shown: str) -> None:
    assert refusal(parsers.choice("all", "children", "off"), value) == (
        f"{shown} is not one of all, children and off"
    )


def test_text_is_stripped() -> None:
    assert parsers.text("  a name ") == "a name"


@pytest.mark.parametrize("value", ["", "  "])
def test_empty_text_is_refused(value: str) -> None:
    assert refusal(parsers.text, value) == "is empty"


def test_a_secret_is_taken_as_it_is() -> None:
    assert parsers.secret("  a secret ") == "  a secret "


def test_an_empty_secret_is_refused() -> None:
    assert refusal(parsers.secret, "") == "is empty"


@pytest.mark.parametrize("parse", [parsers.text, parsers.secret])
@pytest.mark.parametrize("value", [5, True, b"bytes", ["a list"], None])
def test_what_is_not_text_is_not_called_empty(parse: Any, value: Any) -> None:
    assert refusal(parse, value) == "is not text"


@pytest.mark.parametrize(
    "value",
    ["PING, PUBLISH", "ping,publish", "PING\nPUBLISH", ["ping", "Publish"], {"PING", "PUBLISH"}],
)
def test_command_names_are_text_or_a_collection(value: Any) -> None:
    assert parsers.command_names(value) == {"PING", "PUBLISH"}


def test_a_command_of_a_module_has_a_dot() -> None:
    assert parsers.command_names("JSON.GET") == {"JSON.GET"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param("", f"'' is not a command name; {NAMES}", id="empty"),
        pytest.param("PING,", f"'' is not a command name; {NAMES}", id="a comma at the end"),
        pytest.param("PING; SET", f"'PING; SET' is not a command name; {NAMES}", id="a semicolon"),
        pytest.param("*", f"'*' is not a command name; {NAMES}", id="a pattern"),
        pytest.param(["PING", 5], f"5 is not a command name; {NAMES}", id="a number in a list"),
        pytest.param(None, f"None is not a list of command names; {NAMES}", id="None"),
        pytest.param(5, f"5 is not a list of command names; {NAMES}", id="a number"),
        pytest.param(True, f"True is not a list of command names; {NAMES}", id="a bool"),
    ],
)
def test_what_is_not_a_command_name_is_refused(value: Any, message: str) -> None:
    assert refusal(parsers.command_names, value) == message


@pytest.mark.parametrize("value", ["foo bar", "foo, bar", "foo\n  bar\n", ["foo", "bar"]])
def test_words_are_separated_by_white_space_or_commas(value: Any) -> None:
    assert parsers.words(value) == ["foo", "bar"]


@pytest.mark.parametrize("value", [None, 5, True])
def test_what_is_not_a_list_of_names_is_refused(value: Any) -> None:
    assert refusal(parsers.words, value) == (
        f"{value!r} is not a list of names; write names with spaces or commas between them"
    )


@pytest.mark.parametrize(
    ("names", "text"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_names_are_listed_as_in_a_sentence(names: list[str], text: str) -> None:
    assert parsers.listed(names) == text


PERCENTAGES = 'write a percentage from 0% to 100%, such as "1%" or "0.5%"'


@pytest.mark.parametrize(
    ("text", "fraction"),
    [("1%", 0.01), ("0.5%", 0.005), ("100%", 1.0), ("0%", 0.0), (" 25 % ", 0.25)],
)
def test_a_percentage_is_read_as_a_fraction(text: str, fraction: float) -> None:
    assert parsers.percentage(text) == fraction


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param("1", f"'1' has no unit; {PERCENTAGES}", id="no unit"),
        pytest.param(0.01, f"0.01 has no unit; {PERCENTAGES}", id="a float"),
        pytest.param("101%", f"'101%' is out of range; {PERCENTAGES}", id="more than all"),
        pytest.param("-1%", f"'-1%' is negative; {PERCENTAGES}", id="negative"),
        pytest.param("1%%", f"'1%%' is not a percentage; {PERCENTAGES}", id="doubled"),
        pytest.param("", f"'' is not a percentage; {PERCENTAGES}", id="empty"),
        pytest.param(None, f"None is not a percentage; {PERCENTAGES}", id="None"),
    ],
)
def test_what_is_not_a_percentage_is_refused(value: Any, message: str) -> None:
    assert refusal(parsers.percentage, value) == message


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1 second, 5 seconds,2min", [1, 5, 120]),
        ("1 second 5 seconds", [1, 5]),
        ("\n    1s\n    5s\n", [1, 5]),
        ("10s", [10]),
        ([timedelta(seconds=1), "5 s"], [1, 5]),
    ],
)
def test_time_spans_are_read_in_their_order(value: Any, seconds: list[int]) -> None:
    assert parsers.timespans(value) == tuple(timedelta(seconds=each) for each in seconds)


def test_none_is_no_list_of_time_spans() -> None:
    assert parsers.timespans(" None ") is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param("1 s, 5", f"'5' has no unit; {EXAMPLES}", id="no unit"),
        pytest.param("1 s,", f"'' is not a time span; {EXAMPLES}", id="a comma too many"),
        pytest.param(
            5,
            "5 is not a list of time spans; write time spans with commas between them, such as "
            '"1 second, 5 seconds, 1 minute", or none',
            id="a number",
        ),
    ],
)
def test_a_malformed_list_of_time_spans_is_refused(value: Any, message: str) -> None:
    assert refusal(parsers.timespans, value) == message
