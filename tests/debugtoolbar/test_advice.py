"""What the debug toolbar advises: what is asked too often, slow, waiting or large."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pyramid_baseplate_redis.debugtoolbar.advice import Advice, advice
from pyramid_baseplate_redis.debugtoolbar.quantities import milliseconds, size_text
from pyramid_baseplate_redis.debugtoolbar.records import (
    Group,
    RecordedOperation,
    Recording,
    ReplySize,
)

from .operations import LINE, recorded


def advised(operations: Sequence[RecordedOperation], is_blocking: bool = False) -> list[Advice]:
    """The advice on operations that one line issued."""
    group = Group(operations[0], is_blocking)
    for operation in operations:
        group.add(operation)
    return advice(Recording(tuple(operations), 0, {}, (group,), None))


def told(operations: Sequence[RecordedOperation], is_blocking: bool = False) -> list[str]:
    return [f"{found.seen}: {found.remedy}" for found in advised(operations, is_blocking)]


def different(command: str, count: int = 12) -> list[RecordedOperation]:
    return [recorded(f"{command} key:{number}") for number in range(count)]


@pytest.mark.parametrize(
    ("command", "told_of_12"),
    [
        ("GET", "12 GETs: use MGET or a named pipeline"),
        ("SET", "12 SETs: use MSET or a named pipeline"),
        ("HGET", "12 HGETs: use HMGET or a named pipeline"),
        ("EXISTS", "12 EXISTS: use one EXISTS with all keys or a named pipeline"),
        ("LPUSH", "12 LPUSHs: use a named pipeline"),
        ("SCAN", "12 SCANs: raise COUNT"),
    ],
)
def test_command_that_one_line_issued_many_times(command: str, told_of_12: str) -> None:
    assert told(different(command)) == [told_of_12]


def test_many_are_five() -> None:
    assert told(different("GET", 4)) == []
    assert told(different("GET", 5)) == ["5 GETs: use MGET or a named pipeline"]


def test_advice_names_the_client_and_the_lines() -> None:
    (found,) = advised(different("GET"))

    assert (found.mark, found.client, found.lines) == ("many", "foo", (LINE,))


def test_same_question_is_to_be_asked_once() -> None:
    assert told([recorded("GET user:1")] * 12) == [
        "GET user:1, 12 times: ask once and keep the reply"
    ]


def test_same_write_is_not_to_be_done_once() -> None:
    assert told([recorded("INCR visits")] * 12) == ["12 INCRs: use a named pipeline"]


def test_waiting_for_a_lock_needs_no_advice() -> None:
    assert told([recorded("SET lock token NX PX 1000")] * 12) == []


def test_pipeline_that_one_line_executed_many_times() -> None:
    pipelines = [
        recorded(
            "GET a", name="pipeline_load_user", is_pipeline=True, commands=("GET a", f"GET {n}")
        )
        for n in range(12)
    ]

    assert told(pipelines) == ["pipeline_load_user, 12 times: combine them into one pipeline"]


def test_command_that_is_slow() -> None:
    assert told([recorded("KEYS *", duration=0.1)]) == [
        "KEYS * took 100 ms: ask for less data at once, or check whether the server is busy or "
        "far away"
    ]


def test_command_below_a_tenth_of_a_second_is_not_slow() -> None:
    assert told([recorded("KEYS *", duration=0.0999)]) == []


def test_slowest_of_several_is_reported() -> None:
    found = told([recorded("KEYS a", duration=seconds) for seconds in (0.2, 0.3, 0.2)])

    assert found[0].startswith("KEYS took up to 300 ms: ")


def test_wait_for_a_connection_is_distinguished_from_a_slow_command() -> None:
    assert told([recorded("GET a", duration=0.25, waited=0.2)]) == [
        "GET a waited 200 ms for a connection: raise foo.max_connections, or set foo.leak_warning "
        "to find out what keeps connections"
    ]


def test_command_that_is_meant_to_wait_is_neither_slow_nor_issued_too_often() -> None:
    assert told([recorded("BLPOP a 5", duration=5.0)] * 12, is_blocking=True) == []


@pytest.mark.parametrize(
    ("size", "text"),
    [(ReplySize(100_000), "100.0 kB"), (ReplySize(20_000, True), "more than 20.0 kB")],
)
def test_reply_that_is_large_in_bytes_or_in_values(size: ReplySize, text: str) -> None:
    assert told([recorded("LRANGE a 0 -1", size=size)]) == [
        f"reply of {text} to LRANGE a 0 -1: ask for a part: a range, or some fields"
    ]


def test_reply_below_100_kb_is_not_large() -> None:
    assert told([recorded("GET a", size=ReplySize(99_999))]) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.00 ms"),
        (0.000044, "0.044 ms"),
        (0.00021, "0.21 ms"),
        (0.0034, "3.4 ms"),
        (0.3123, "312 ms"),
    ],
)
def test_times_have_the_digits_that_matter(seconds: float, text: str) -> None:
    assert milliseconds(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1_200, "1.2 kB"),
        (3_400_000, "3.4 MB"),
        (5_600_000_000_000, "5600.0 GB"),
    ],
)
def test_sizes_have_a_unit(size: int, text: str) -> None:
    assert size_text(ReplySize(size)) == text
