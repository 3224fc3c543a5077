"""The deadline of a call: its phases, and that none is left behind in the thread."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import pyramid_baseplate_redis
from pyramid_baseplate_redis.deadlines import DeadlinePolicy
from pyramid_baseplate_redis.runtime.deadline import (
    DISCOVERING,
    LOOKING_UP,
    READING,
    SENDING,
    WAITING,
    Deadline,
    as_phase,
    called,
    current_deadline,
    ends_at,
    enter_phase,
    shortened,
)

_PACKAGE = str(Path(pyramid_baseplate_redis.__file__).parent)


class Interrupted(BaseException):
    """Raised by a signal handler."""


def is_interrupted(call: Callable[[], Any], step: int) -> bool:
    """Call something and interrupt it after so many steps; return whether it took that many.

    Python runs signal handlers at the start of its functions and after calls of those in C.
    """
    steps = 0

    def profile(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal steps
        if frame.f_code.co_filename.startswith(_PACKAGE) and event in ("call", "c_return"):
            steps += 1
            if steps == step:
                sys.setprofile(None)
                raise Interrupted

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        with suppress(Interrupted):
            call()
    finally:
        sys.setprofile(before)
    return steps == step


def test_a_call_that_is_interrupted_anywhere_leaves_no_deadline_behind() -> None:
    policy = DeadlinePolicy("foo", 60.0)
    step = 1

    while is_interrupted(lambda: policy.run(lambda: None), step):
        assert current_deadline() is None, f"the deadline is left behind at step {step}"
        step += 1

    assert step > 10  # or nothing was interrupted


# The phases of a call


def test_the_time_in_a_phase_is_added_up() -> None:
    deadline = Deadline(time.monotonic() + 10)
    for phase in (SENDING, READING, SENDING, READING):
        deadline.enter(phase)
        if phase == SENDING:
            time.sleep(0.02)

    assert deadline.phase == READING
    assert deadline.spent.keys() == {WAITING, SENDING, READING}
    assert 0.04 <= deadline.spent[SENDING] < 5
    assert sum(deadline.spent.values()) < 5


def test_a_block_is_recorded_as_one_phase() -> None:
    deadline = Deadline(time.monotonic() + 10)

    def call() -> None:
        with as_phase(LOOKING_UP):
            with as_phase(DISCOVERING):
                enter_phase(SENDING)
            enter_phase(READING)
            assert deadline.phase == LOOKING_UP
        assert deadline.phase == WAITING
        enter_phase(SENDING)

    called(deadline, call)

    assert (deadline.phase, [*deadline.spent]) == (SENDING, [WAITING, LOOKING_UP])


def test_the_phase_in_which_the_time_was_up_stays() -> None:
    deadline = Deadline(time.monotonic() + 0.01)

    def call() -> None:
        with as_phase(LOOKING_UP):
            time.sleep(0.02)

    called(deadline, call)

    assert deadline.phase == LOOKING_UP


def test_a_deadline_shortens_timeouts() -> None:
    deadline = Deadline(time.monotonic() + 10)

    assert deadline.shorten(2) == 2
    assert deadline.shorten(60) == pytest.approx(10, abs=1)
    assert deadline.shorten(None) == pytest.approx(10, abs=1)
    assert Deadline(time.monotonic() - 1).shorten(2) == 0.001


def test_a_timeout_that_ends_a_little_early_counts_as_the_deadline() -> None:
    now = time.monotonic()

    assert not Deadline(now + 10).has_run_out
    assert not Deadline(now + 10).has_passed
    assert Deadline(now - 0.001).has_run_out
    assert Deadline(now - 0.001).has_passed
    # At most 2 ms, and at most a tenth of the time.
    assert Deadline(now + 10)._tolerance == 0.002
    assert Deadline(now + 0.01)._tolerance == pytest.approx(0.001, rel=0.5)


def test_without_a_deadline_nothing_is_shortened_or_recorded() -> None:
    enter_phase(SENDING)
    with as_phase(LOOKING_UP):
        pass

    assert (shortened(5), shortened(None), ends_at()) == (5, None, math.inf)


def test_the_current_deadline_is_that_of_the_innermost_call() -> None:
    outer, inner = Deadline(time.monotonic() + 10), Deadline(time.monotonic() + 5)

    def call() -> float:
        assert called(inner, ends_at) == inner.ends_at
        assert shortened(60) == pytest.approx(10, abs=1)
        return ends_at()

    assert called(outer, call) == outer.ends_at
