"""A queue's commands have spans and retries as those of a monitored client have."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY, Mock, call

import pytest
import redis

from pyramid_baseplate_redis import MessageQueueError
from pyramid_baseplate_redis.queues.stream_commands import StreamCommands, check_stream
from pyramid_baseplate_redis.telemetry.call_details import add_wait_time, pop_call_details
from pyramid_baseplate_redis.telemetry.operations import ClientTelemetry

from .fakes import Connection

GET, SET = ("GET", "a"), ("SET", "a", "b")
NO_GROUP = redis.ResponseError("NOGROUP No such key or consumer group")
UNBLOCKED = redis.ResponseError("UNBLOCKED client unblocked")
MOVED = redis.exceptions.MovedError("1 127.0.0.1:7000")
CONFLICT = (b"OK", b"OK", b"QUEUED", None)


class Parts:
    """The commands of a client whose connection has these replies."""

    def __init__(self, *replies: Any) -> None:
        self.connection = Connection(*replies)
        self.released = 0
        pool = SimpleNamespace(
            get_connection=lambda: self.connection, release=self._release, hot_keys=Mock()
        )
        self.telemetry = Mock(spec=ClientTelemetry, context_name="foo")
        self.children = self.telemetry.children_only.return_value
        client = SimpleNamespace(
            connection_pool=pool, connection=None, client_telemetry=self.telemetry,
            server_span="span",
        )  # fmt: skip
        self.hot_keys = pool.hot_keys
        self.commands = StreamCommands(client, "a")

    def _release(self, connection: Any) -> None:
        self.released += 1


# Sending


def test_one_command_has_the_span_of_a_command() -> None:
    parts = Parts(b"b")
    assert parts.commands.send(GET) == [b"b"]
    assert parts.telemetry.start_command.mock_calls[0] == call("span", GET)
    assert parts.hot_keys.sample.mock_calls == [call(GET)]


def test_several_commands_have_one_span_of_a_pipeline() -> None:
    parts = Parts(b"b", b"OK")
    assert parts.commands.send(GET, SET, name="both") == [b"b", b"OK"]
    assert parts.telemetry.start_batch.mock_calls[0] == call(
        "span", "foo.pipeline_both", False, [(GET, {}), (SET, {})]
    )
    assert parts.hot_keys.sample.mock_calls == [call(GET), call(SET)]


def test_a_transaction_has_the_span_of_one_even_for_one_command() -> None:
    parts = Parts(b"OK", b"QUEUED", [b"b"])
    assert parts.commands.transaction("one", GET) == [b"b"]
    assert parts.telemetry.start_batch.mock_calls[0] == call(
        "span", "foo.pipeline_one", True, [(GET, {})]
    )


def test_errors_are_raised_unless_they_are_wanted() -> None:
    error = redis.ResponseError("WRONGTYPE")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        Parts(error).commands.send(GET)
    assert Parts(error).commands.send(GET, errors=True) == [error]


def settled() -> Mock:
    settlement = Mock()
    settlement.run.side_effect = lambda operation, call: call()
    return settlement


@pytest.mark.parametrize(
    ("call", "replies"),
    [
        (lambda commands, by: commands.send(GET, settlement=by), [b"b"]),
        (lambda commands, by: commands.transaction("x", GET, settlement=by),
         [b"OK", b"QUEUED", [b"b"]]),
        (lambda commands, by: commands.watching("a", "x", [GET], lambda ask: ask(GET), by),
         [b"OK", b"b"]),
    ],
    ids=["send", "transaction", "watching"],
)  # fmt: skip
def test_commands_that_settle_messages_run_in_the_span_of_the_settlement(
    call: Callable[[Any, Any], Any], replies: list[Any]
) -> None:
    settlement = settled()
    assert call(Parts(*replies).commands, settlement) == [b"b"]
    assert settlement.run.call_count == 1


# Polling


@pytest.mark.parametrize("is_found", [True, False])
def test_only_a_poll_that_finds_something_is_recorded(is_found: bool) -> None:
    parts = Parts(b"b")
    before = time.time_ns()
    assert parts.commands.poll(GET, lambda reply: is_found) == b"b"
    assert parts.children.start_command.called is is_found
    assert parts.hot_keys.sample.called is is_found
    assert not parts.telemetry.start_command.called
    if is_found:
        (args,) = (each.args for each in parts.children.start_command.call_args_list)
        assert args[:2] == ("span", GET)
        assert before <= args[2] <= time.time_ns()
        assert parts.children.start_command.return_value.mock_calls == [call.end(b"b")]


def test_the_details_of_an_earlier_call_are_not_those_of_a_polls_span() -> None:
    add_wait_time(1.0)
    Parts(b"b").commands.poll(GET, bool)
    assert pop_call_details() is None


def test_a_poll_without_a_span_returns_its_reply_all_the_same() -> None:
    parts = Parts(b"b")
    parts.children.start_command.return_value = None
    assert parts.commands.poll(GET, bool) == b"b"


@pytest.mark.parametrize("error", [NO_GROUP, UNBLOCKED], ids=str)
def test_a_poll_that_the_caller_repeats_is_no_failure(error: Exception) -> None:
    parts = Parts(error)
    with pytest.raises(redis.ResponseError):
        parts.commands.poll(GET, bool)
    assert not parts.telemetry.start_command.called


def test_a_poll_that_fails_is_recorded() -> None:
    error = redis.ConnectionError("gone")
    parts = Parts(error)
    with pytest.raises(redis.ConnectionError):
        parts.commands.poll(GET, bool)
    assert parts.telemetry.start_command.mock_calls == [
        call("span", GET, ANY), call().fail(error),
    ]  # fmt: skip


def test_a_failed_poll_without_a_span_is_raised_all_the_same() -> None:
    parts = Parts(redis.ConnectionError("gone"))
    parts.telemetry.start_command.return_value = None
    with pytest.raises(redis.ConnectionError):
        parts.commands.poll(GET, bool)


def test_the_errors_of_the_other_commands_of_a_poll_are_returned() -> None:
    error = redis.ResponseError("WRONGTYPE")
    parts = Parts(b"b", error, MOVED)
    assert parts.commands.poll_with(GET, bool, SET, SET) == [b"b", error, MOVED]


@pytest.mark.parametrize(("block", "timeout"), [(0.0, "usual"), (2.0, 5.0)])
def test_a_poll_may_block_and_only_then_no_deadline_bounds_it(block: float, timeout: Any) -> None:
    parts = Parts(None)
    deadlines = Mock()
    deadlines.run.side_effect = lambda call: call()
    parts.commands._deadlines = deadlines
    parts.commands.poll(GET, bool, block=block)
    assert parts.connection.timeouts == [timeout]
    assert deadlines.run.called is (block == 0)


# Watching


def read(ask: Any) -> Any:
    return ask.transaction(GET)


def test_keys_are_watched_one_by_one_before_the_work() -> None:
    parts = Parts(b"OK", b"OK", b"OK", b"QUEUED", [b"b"])
    assert parts.commands.watching(("a", b"b"), "x", [GET], read) == [b"b"]
    assert parts.connection.sent == [("WATCH", "a"), ("WATCH", b"b"), ("MULTI",), GET, ("EXEC",)]
    assert parts.telemetry.start_batch.mock_calls[0] == call(
        "span", "foo.pipeline_x", True, [(GET, {})]
    )


@pytest.mark.parametrize("key", ["a", b"a"])
def test_one_key_need_not_be_a_tuple(key: str | bytes) -> None:
    parts = Parts(b"OK", b"OK", b"QUEUED", [b"b"])
    parts.commands.watching(key, "x", [GET], read)
    assert parts.connection.sent[0] == ("WATCH", key)


def test_the_work_is_repeated_after_a_growing_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    parts = Parts(*CONFLICT * 3, b"OK", b"OK", b"QUEUED", [b"b"])
    assert parts.commands.watching("a", "x", [GET], read) == [b"b"]
    assert pauses == pytest.approx([0, 0.0002, 0.0004])
    assert parts.connection.disconnected == 0
    assert parts.released == 4  # others may have the connection during the pauses


def test_a_key_that_changes_each_time_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    parts = Parts(*CONFLICT * 200)
    with pytest.raises(redis.WatchError, match="'a' changed in each of 100 attempts"):
        parts.commands.watching("a", "x", [GET], read)


def test_the_number_of_attempts_may_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    parts = Parts(*CONFLICT * 2)
    with pytest.raises(redis.WatchError, match="in each of 2 attempts"):
        parts.commands.watching("a", "x", [GET], read, attempts=2)


def test_a_refused_watch_is_raised_and_ended() -> None:
    parts = Parts(redis.ResponseError("NOPERM"), b"OK")
    with pytest.raises(redis.ResponseError, match="NOPERM"):
        parts.commands.watching("a", "x", [GET], read)
    assert parts.connection.sent == [("WATCH", "a"), ("UNWATCH",)]


def test_a_later_key_on_another_node_stays_unwatched() -> None:
    parts = Parts(b"OK", MOVED, b"OK", b"QUEUED", [b"b"])
    assert parts.commands.watching(("a", "b"), "x", [GET], read) == [b"b"]


@pytest.mark.parametrize(
    "error", [redis.ResponseError("WRONGTYPE"), MessageQueueError("full")], ids=repr
)
def test_an_error_of_the_work_ends_the_watch(error: Exception) -> None:
    def work(ask: Any) -> None:
        raise error

    parts = Parts(b"OK", b"OK")
    with pytest.raises(type(error)):
        parts.commands.watching("a", "x", [GET], work)
    assert parts.connection.sent[-1] == ("UNWATCH",)
    assert parts.connection.disconnected == 0


def test_an_interrupted_work_closes_the_connection() -> None:
    def work(ask: Any) -> None:
        raise KeyboardInterrupt

    parts = Parts(b"OK")
    with pytest.raises(KeyboardInterrupt):
        parts.commands.watching("a", "x", [GET], work)
    assert parts.connection.disconnected == 1


@pytest.mark.parametrize("is_poll", [True, False])
def test_the_span_of_a_poll_needs_a_current_one(is_poll: bool) -> None:
    parts = Parts(b"OK", b"OK", b"QUEUED", [b"b"])
    parts.commands.watching("a", "x", [GET], read, is_poll=is_poll)
    assert parts.children.start_batch.called is is_poll
    assert parts.telemetry.start_batch.called is not is_poll


def test_a_watch_is_no_poll_unless_it_says_so() -> None:
    parts = Parts(b"OK", b"OK", b"QUEUED", [b"b"])
    parts.commands.watching("a", "x", [GET], read)
    assert parts.telemetry.start_batch.called


# Types of keys


@pytest.mark.parametrize("kind", [b"stream", b"none"])
def test_a_stream_may_be_written_to(kind: bytes) -> None:
    asked: list[Any] = []

    def ask(*commands: Any) -> list[bytes]:
        asked.extend(commands)
        return [kind]

    connection: Any = ask
    check_stream(connection, "a")
    assert asked == [("TYPE", "a")]


def test_a_key_of_another_type_is_refused() -> None:
    connection: Any = lambda *commands: [b"list"]  # noqa: E731
    with pytest.raises(redis.ResponseError, match=r"^WRONGTYPE a is a list, but must be a stream"):
        check_stream(connection, "a")
