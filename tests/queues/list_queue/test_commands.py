"""MessageQueue: its commands, their timeouts, and what is measured and counted."""

from __future__ import annotations

import time
from typing import Any
from unittest.mock import ANY, Mock, call

import pytest
import redis

from pyramid_baseplate_redis import MessageQueue, TimedOutError
from pyramid_baseplate_redis.queues import outage
from pyramid_baseplate_redis.telemetry.call_details import add_wait_time, pop_call_details

from ..fakes import Clock

GONE = redis.ConnectionError("gone")
UNBLOCKED = redis.ResponseError("UNBLOCKED client unblocked")


class Parts:
    """A queue whose server has these replies. Each BLPOP takes ``took`` seconds."""

    def __init__(self, *replies: Any, clock: Clock | None = None, took: float = 0.0) -> None:
        self.queue = MessageQueue("jobs", redis.Redis())
        self.replies = list(replies)
        self.asked: list[Any] = []
        self.raw, self.metrics = Mock(in_cluster=False, server_span="span"), Mock()
        self.raw.run.side_effect = lambda work, blocks=False: work(self._ask)
        self.queue._raw, self.queue._metrics = self.raw, self.metrics
        self.clock, self.took = clock, took

    def _ask(self, command: Any, block: float = 0.0) -> Any:
        self.asked.append((command, block))
        if self.clock is not None:
            self.clock.now += self.took
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return [reply]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(monkeypatch)
    clock.now = 100.0
    return clock


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    made: list[float] = []
    # Not in the module itself, from which other threads of this process get their events.
    threading = Mock(Event=lambda: Mock(wait=made.append))
    monkeypatch.setattr(outage, "threading", threading)
    return made


def test_without_a_timeout_it_pops_once() -> None:
    parts = Parts(b"job")
    assert parts.queue.get(0) == b"job"
    assert parts.asked == [(("LPOP", "jobs"), 0.0)]
    assert parts.raw.sample.mock_calls == [call(("LPOP", "jobs"))]
    assert parts.raw.run.call_args == call(ANY)


def test_a_wait_is_a_blocking_pop(clock: Clock) -> None:
    parts = Parts([b"jobs", b"job"])
    assert parts.queue.get(3) == b"job"
    assert parts.asked == [(("BLPOP", "jobs", 3.0), 3.0)]
    assert parts.raw.sample.mock_calls == [call(("BLPOP", "jobs", 0))]
    assert parts.raw.run.call_args == call(ANY, blocks=True)


def test_the_shortest_timeout_waits_for_a_second(clock: Clock) -> None:
    parts = Parts([b"jobs", b"job"])
    parts.queue.get(1)
    assert parts.asked == [(("BLPOP", "jobs", 1.0), 1.0)]


def test_a_long_wait_is_made_of_polls_of_ten_seconds(clock: Clock) -> None:
    parts = Parts(None, None, None, clock=clock, took=10.0)
    with pytest.raises(TimedOutError):
        parts.queue.get(25)
    assert [block for _, block in parts.asked] == [10.0, 10.0, 5.0]


def test_a_wait_that_ends_exactly_in_time_is_over(clock: Clock) -> None:
    parts = Parts(None, clock=clock, took=3.0)
    with pytest.raises(TimedOutError):
        parts.queue.get(3)
    assert len(parts.asked) == 1


def test_a_wait_is_never_endless(clock: Clock) -> None:
    """BLPOP takes 0 as forever; here, a node has waited before it redirected."""
    parts = Parts([b"jobs", b"job"])

    def run(work: Any, blocks: bool) -> Any:
        clock.now += 7.0
        return work(parts._ask)

    parts.raw.run.side_effect = run
    parts.queue.get(3)
    assert parts.asked == [(("BLPOP", "jobs", 0.001), 0.001)]


def test_a_wait_that_an_administrator_ends_goes_on(clock: Clock) -> None:
    parts = Parts(UNBLOCKED, [b"jobs", b"job"])
    assert parts.queue.get(3) == b"job"


def test_a_failure_ends_a_wait_with_a_timeout(clock: Clock, pauses: list[float]) -> None:
    with pytest.raises(redis.ConnectionError):
        Parts(GONE).queue.get(3)
    assert pauses == []


def test_a_wait_without_a_timeout_goes_on_after_a_failure(
    pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    assert Parts(GONE, GONE, [b"jobs", b"job"]).queue.get(None) == b"job"
    assert len(pauses) == 2
    assert caplog.messages == [
        "queue jobs: waiting for the server: gone", "queue jobs: the server is back",
    ]  # fmt: skip


def test_an_error_in_a_reply_ends_a_wait_without_a_timeout(pauses: list[float]) -> None:
    with pytest.raises(redis.ResponseError, match="LOADING"):
        Parts(redis.ResponseError("LOADING")).queue.get(None)
    assert pauses == []


def test_the_details_of_an_earlier_call_are_not_those_of_the_span() -> None:
    parts = Parts(b"job")
    add_wait_time(1.0)
    parts.queue.get(0)
    assert pop_call_details() is None


# What is measured


def test_a_message_is_one_received_message() -> None:
    parts = Parts(b"job")
    parts.queue.get(0)
    assert parts.metrics.mock_calls == [call.received(ANY, 1)]


def test_a_failure_has_received_no_message() -> None:
    parts = Parts(GONE)
    with pytest.raises(redis.ConnectionError):
        parts.queue.get(0)
    assert parts.metrics.mock_calls == [call.received(ANY, 0, GONE)]


def test_a_wait_without_a_message_is_not_measured() -> None:
    parts = Parts(None)
    with pytest.raises(TimedOutError):
        parts.queue.get(0)
    assert parts.metrics.mock_calls == []


@pytest.mark.parametrize("error", [None, GONE], ids=repr)
def test_a_put_is_one_sent_message(error: Exception | None) -> None:
    parts = Parts()
    parts.raw.telemetry.run.side_effect = error
    if error is None:
        parts.queue.put("job")
    else:
        with pytest.raises(redis.ConnectionError):
            parts.queue.put("job")
    failed = () if error is None else (error,)
    assert parts.metrics.mock_calls == [call.sent(ANY, 1, *failed)]


@pytest.mark.parametrize(("timeout", "name"), [(0, "LPOP"), (1, "BLPOP"), (None, "BLPOP")])
def test_a_span_begins_with_the_wait(timeout: float | None, name: str) -> None:
    parts = Parts(b"job" if name == "LPOP" else [b"jobs", b"job"])
    before = time.time_ns()
    parts.queue.get(timeout)
    ((span, command, started), _) = parts.raw.telemetry.start_command.call_args
    assert (span, command) == ("span", (name, "jobs", 0))
    assert before <= started <= time.time_ns()
    operation = parts.raw.telemetry.start_command.return_value
    assert operation.mock_calls == [call.end(b"job")]


def test_a_failed_wait_has_a_failed_span() -> None:
    parts = Parts(GONE)
    with pytest.raises(redis.ConnectionError):
        parts.queue.get(0)
    assert parts.raw.telemetry.start_command.return_value.mock_calls == [call.fail(GONE)]


@pytest.mark.parametrize("reply", [b"job", GONE], ids=repr)
def test_without_a_span_it_behaves_the_same(reply: Any) -> None:
    parts = Parts(reply)
    parts.raw.telemetry.start_command.return_value = None
    if reply == b"job":
        assert parts.queue.get(0) == b"job"
    else:
        with pytest.raises(redis.ConnectionError):
            parts.queue.get(0)


@pytest.mark.parametrize(
    ("method", "command"),
    [("put", ("RPUSH", "jobs", "job")), ("unlink", ("UNLINK", "jobs")), ("close", ("DEL", "jobs"))],
)
def test_a_command_on_a_plain_client_is_counted_and_has_a_span(
    method: str, command: tuple[str, ...]
) -> None:
    parts = Parts()
    getattr(parts.queue, method)(*command[2:])
    assert parts.raw.sample.mock_calls == [call(command)]
    assert parts.raw.telemetry.run.call_args == call("span", command, ANY)
