"""Deadline policies: which limit ends a call, what its error says, and pauses within a block."""

from __future__ import annotations

import math
import time
from datetime import timedelta
from typing import NoReturn

import pytest
import redis

from pyramid_baseplate_redis import CircuitOpenError, DeadlineExceededError, ForkedConnectionError
from pyramid_baseplate_redis.deadlines import DeadlinePolicy
from pyramid_baseplate_redis.runtime.deadline import SENDING, WAITING, current_deadline, enter_phase


def error_of(policy: DeadlinePolicy, *phases: str) -> DeadlineExceededError:
    """Return the error of a call that goes through these phases until its time is up."""

    def call() -> NoReturn:
        for phase in phases:
            enter_phase(phase)
        time.sleep(0.03)
        raise redis.TimeoutError

    with pytest.raises(DeadlineExceededError) as caught:
        policy.run(call)
    return caught.value


@pytest.mark.parametrize(
    ("setting", "block", "named"),
    [
        (0.02, 10, "foo.deadline: the 0.02 seconds"),
        (10, 0.02, "foo.within(): the 0.02 seconds"),
        (None, 0.02, "foo.within(): the 0.02 seconds"),
    ],
)
def test_the_error_names_the_limit_that_ended_the_call(
    setting: float | None, block: float, named: str
) -> None:
    error = error_of(DeadlinePolicy("foo", setting).within(block), SENDING)

    assert str(error).startswith(named)


def test_several_commands_of_one_call_share_the_clients_deadline() -> None:
    policy = DeadlinePolicy("foo", 0.02).for_one_call()
    time.sleep(0.03)

    with pytest.raises(DeadlineExceededError, match=r"foo\.deadline: .* before the call began"):
        policy.run(lambda: None)


def test_a_client_without_a_deadline_has_none_for_several_commands() -> None:
    policy = DeadlinePolicy("foo", None)

    assert policy.for_one_call() is policy


def test_a_call_that_waited_for_a_connection_may_need_more_of_them() -> None:
    assert "Raise foo.max_connections" in str(error_of(DeadlinePolicy("foo", 0.02), WAITING))
    assert "Raise foo.max_connections" not in str(error_of(DeadlinePolicy("foo", 0.02), SENDING))


def test_a_call_without_recorded_phases_is_not_said_to_be_unsent() -> None:
    error = error_of(DeadlinePolicy("foo", 0.02))

    assert "passed during the call." in str(error)
    assert (error.unsent, error.phase, error.spent) == (False, "", {})


def test_phases_shorter_than_a_millisecond_are_not_shown() -> None:
    error = error_of(DeadlinePolicy("foo", 0.02), WAITING, SENDING)

    assert f"seconds {SENDING}" in str(error)
    assert f"seconds {WAITING}" not in str(error)
    assert error.spent.keys() == {WAITING, SENDING}


def test_a_call_that_has_begun_to_send_may_have_been_executed() -> None:
    assert not error_of(DeadlinePolicy("foo", 0.02), SENDING).unsent
    assert error_of(DeadlinePolicy("foo", 0.02), WAITING).unsent


@pytest.mark.parametrize(
    "error", [CircuitOpenError("foo"), ForkedConnectionError("foo"), redis.AuthenticationError()]
)
def test_an_error_that_no_wait_causes_stays_as_it_is(error: Exception) -> None:
    def call() -> NoReturn:
        time.sleep(0.03)
        raise error

    with pytest.raises(type(error)) as caught:
        DeadlinePolicy("foo", 0.02).run(call)
    assert caught.value is error


def test_an_outer_call_that_ends_later_does_not_lengthen_an_inner_one() -> None:
    def outer() -> None:
        with pytest.raises(DeadlineExceededError):
            DeadlinePolicy("inner", 0.001).run(inner)

    def inner() -> NoReturn:
        time.sleep(0.01)
        raise redis.TimeoutError

    DeadlinePolicy("outer", 10).run(outer)


def test_a_call_inside_of_its_own_block_goes_on_with_the_same_deadline() -> None:
    block = DeadlinePolicy("foo", None).within(10)

    outer, inner = block.run(lambda: (current_deadline(), block.run(current_deadline)))

    assert outer is not None
    assert inner is outer


# Pauses


def test_the_last_pause_of_a_block_ends_with_it() -> None:
    policy = DeadlinePolicy("foo", None).within(timedelta(seconds=100))

    assert policy.pause(60) == pytest.approx(50, abs=0.5)
    assert policy.pause(30) == pytest.approx(25, abs=0.5)
    assert policy.pause(1000) == pytest.approx(100, abs=0.5)


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_no_pause_stays_no_pause(seconds: float) -> None:
    assert DeadlinePolicy("foo", None).within(100).pause(seconds) == seconds


def test_a_pause_of_a_second_is_shortened_too() -> None:
    assert DeadlinePolicy("foo", None).within(0.5).pause(1.0) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("left", [math.inf, -0.1, -math.inf])
def test_without_a_block_or_after_it_a_pause_stays_as_it_is(left: float) -> None:
    assert DeadlinePolicy("foo", 5, time.monotonic() + left).pause(3.0) == 3.0
