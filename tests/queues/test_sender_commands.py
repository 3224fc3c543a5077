"""The commands that add messages to a durable queue."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from unittest.mock import ANY, Mock, call

import pytest
import redis

from pyramid_baseplate_redis import QueueFullError
from pyramid_baseplate_redis.queues.sender import PutOptions, Sender

from .fakes import ScriptedServer, spec_of

KEY, DELAYED, WAITING = "{jobs}:messages", "{jobs}:delayed", "{jobs}:waiting"
HELD = b"{jobs}:unique:a"
NOW = 1_000_000.5
TRACE = (b"traceparent", b"00-1-2-01")
COUNTED = (("XLEN", KEY), ("ZCARD", DELAYED), ("ZCOUNT", WAITING, "+inf", "+inf"))
MOVED = redis.exceptions.MovedError("1 127.0.0.1:7000")


class Parts:
    """The sender of a queue whose server has these replies and shows 1000 seconds."""

    def __init__(self, *replies: Any, **options: Any) -> None:
        self.server = ScriptedServer(*replies)
        self.tracer, self.delayed, self.unique = Mock(), Mock(), Mock()
        self.tracer.fields.return_value = TRACE
        self.delayed.commands.side_effect = lambda *args: [("delayed", *args)]
        self.unique.hold.side_effect = lambda *args: ("hold", *args)
        self.unique.holder.return_value = None
        commands: Any = self.server
        self.sender = Sender(
            spec_of(**options), commands, self.tracer,
            Mock(now=lambda: NOW), self.delayed, self.unique,
        )  # fmt: skip

    def send(self, *bodies: bytes, **options: Any) -> list[str]:
        return self.sender.send(bodies, PutOptions(**options))


def add(body: bytes, *fields: bytes) -> tuple[Any, ...]:
    return ("XADD", KEY, "*", b"body", body, *TRACE, *fields)


# The time and the key


@pytest.mark.parametrize(
    ("options", "due"),
    [
        ({}, None),
        ({"delay": 0}, None),
        ({"delay": 2.5}, NOW + 2500),
        ({"delay": timedelta(minutes=1)}, NOW + 60_000),
        ({"at": datetime.fromtimestamp(1002, timezone.utc)}, 1_002_000.0),
        ({"at": datetime.fromtimestamp(999, timezone.utc)}, None),
    ],
    ids=str,
)
def test_a_message_is_due_at_its_time_or_at_once(
    options: dict[str, Any], due: float | None
) -> None:
    made = PutOptions(**options)
    assert made.due(NOW) == due
    assert made.has_own_id is made.is_delayed is bool(options)


def test_a_message_with_a_key_has_an_identifier_of_its_own() -> None:
    options = PutOptions(unique="a")
    assert (options.has_own_id, options.is_delayed) == (True, False)


@pytest.mark.parametrize(
    ("seconds", "end"), [(None, 0), (0, 1_000_000), (timedelta(seconds=3), 1_003_000)]
)
def test_the_window_of_a_key_ends_in_milliseconds(seconds: Any, end: int) -> None:
    assert PutOptions(unique="a", unique_for=seconds).window_end(NOW) == end


# One message and several


def test_a_message_is_one_command() -> None:
    parts = Parts([b"1-0"])
    assert parts.send(b"job") == ["1-0"]
    assert parts.server.asked == [add(b"job")]
    assert parts.server.calls == [{}]


def test_several_messages_are_one_transaction() -> None:
    parts = Parts([b"1-0", b"1-1"])
    assert parts.send(b"a", b"b") == ["1-0", "1-1"]
    assert parts.server.asked == [add(b"a"), add(b"b")]
    assert parts.server.calls == [{"name": "put"}]


# Delayed messages


def test_a_delayed_message_has_an_identifier_with_the_servers_time() -> None:
    parts = Parts([1, 1, 1, 1])
    first, second = parts.send(b"a", b"b", delay=2)
    time, _, token = first.partition("-")
    assert (time, len(token)) == ("1000000", 16)
    assert first != second
    fields = (b"body", b"b", *TRACE, b"message.id", second.encode())
    assert parts.server.asked[1] == ("delayed", second.encode(), fields, NOW + 2000)
    assert parts.server.calls == [{"name": "put"}]


def test_a_delayed_message_that_is_due_is_added_to_the_stream() -> None:
    parts = Parts([b"1-0"])
    (put,) = parts.send(b"job", delay=0)
    assert parts.server.asked == [add(b"job", b"message.id", put.encode())]


# Unique messages


def test_a_unique_message_holds_its_key_in_its_transaction() -> None:
    parts = Parts([b"1-0", b"OK"])
    (put,) = parts.send(b"job", unique="a", unique_for=3)
    message_id = put.encode()
    commands = [
        add(b"job", b"message.id", message_id, b"message.unique", b"a"),
        ("hold", HELD, message_id, 1_003_000),
    ]
    assert parts.server.asked == [("MULTI",), *commands, ("EXEC",)]
    assert parts.server.watched == [
        {"keys": (HELD,), "name": "put", "commands": commands, "settlement": None}
    ]


def test_a_message_whose_key_is_held_is_not_added() -> None:
    parts = Parts([])
    parts.unique.holder.return_value = b"900-x"
    assert parts.send(b"job", unique="a") == ["900-x"]
    assert parts.server.asked == [("UNWATCH",)]


def test_a_delayed_unique_message_is_added_with_its_key() -> None:
    parts = Parts([1, 1, b"OK"])
    (put,) = parts.send(b"job", unique="a", delay=2)
    assert [command[0] for command in parts.server.asked] == ["MULTI", "delayed", "hold", "EXEC"]
    assert parts.server.asked[2] == ("hold", HELD, put.encode(), 0)


# A limited queue


@pytest.mark.parametrize(
    ("counts", "count", "fits"),
    [
        ([9, 0, 0], 1, True),
        ([10, 0, 0], 1, False),
        ([5, 4, 0], 1, True),
        ([5, 5, 0], 1, False),
        ([12, 0, 3], 1, True),
        ([12, 0, 2], 1, False),
        ([8, 0, 0], 2, True),
        ([9, 0, 0], 2, False),
        ([MOVED, 9, MOVED], 1, True),
        ([9, MOVED, MOVED], 1, True),
    ],
    ids=str,
)
def test_messages_are_added_as_long_as_they_fit(counts: list[Any], count: int, fits: bool) -> None:
    """A Cluster that moves the slot may count too few."""
    parts = Parts(counts, [b"1-0"] * count, max_length=10)
    if fits:
        assert parts.send(*[b"job"] * count) == ["1-0"] * count
    else:
        with pytest.raises(QueueFullError):
            parts.send(*[b"job"] * count)
    transaction = [("MULTI",), *[add(b"job")] * count, ("EXEC",)] if fits else []
    assert parts.server.asked == [*COUNTED, *transaction]


def test_the_limit_is_checked_while_both_keys_are_watched() -> None:
    parts = Parts([0, 0, 0], [b"1-0"], max_length=10)
    parts.send(b"job")
    assert parts.server.watched == [
        {"keys": (KEY, DELAYED), "name": "put", "commands": [add(b"job")], "settlement": None}
    ]
    assert parts.server.calls[0] == {"errors": True, "later_redirections": True}


def test_a_unique_message_of_a_limited_queue_watches_all_three_keys() -> None:
    parts = Parts([0, 0, 0], [b"1-0", b"OK"], max_length=10)
    (put,) = parts.send(b"job", unique="a")
    assert put.startswith("1000000-")
    assert parts.server.watched[0]["keys"] == (KEY, DELAYED, HELD)


def test_a_delayed_message_of_a_limited_queue_is_counted_first() -> None:
    parts = Parts([10, 0, 0], max_length=10)
    with pytest.raises(QueueFullError):
        parts.send(b"job", delay=2)


def test_an_error_of_a_count_is_raised() -> None:
    parts = Parts([0, redis.ResponseError("WRONGTYPE"), 0], max_length=10)
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        parts.send(b"job")


# Spans and metrics


def test_a_sent_message_is_counted_and_its_span_has_the_identifier() -> None:
    parts = Parts([b"1-0", b"1-1"])
    parts.send(b"a", b"b")
    assert parts.tracer.metrics.mock_calls == [call.sent(ANY, 2)]
    assert parts.tracer.start_send.return_value.mock_calls == [
        call.sent(["1-0", "1-1"]),
        call.end(),
    ]


def test_a_failed_message_is_counted_with_its_error() -> None:
    error = redis.ConnectionError("gone")
    parts = Parts(error)
    with pytest.raises(redis.ConnectionError):
        parts.send(b"a", b"b")
    assert parts.tracer.metrics.mock_calls == [call.sent(ANY, 2, error)]
    assert parts.tracer.start_send.return_value.mock_calls == [call.end(error)]


def test_a_full_queue_is_a_failure_of_no_message() -> None:
    """None was sent."""
    parts = Parts([10, 0, 0], max_length=10)
    with pytest.raises(QueueFullError) as caught:
        parts.send(b"job")
    assert parts.tracer.metrics.mock_calls == [call.sent(ANY, 0, caught.value)]


@pytest.mark.parametrize("error", [None, redis.ConnectionError("gone")], ids=repr)
def test_without_a_span_messages_are_sent_all_the_same(error: Exception | None) -> None:
    parts = Parts(error or [b"1-0"])
    parts.tracer.start_send.return_value = None
    if error is None:
        assert parts.send(b"job") == ["1-0"]
    else:
        with pytest.raises(redis.ConnectionError):
            parts.send(b"job")
