"""A call leaves no deadline behind in its thread, wherever a signal handler interrupts it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pyramid_baseplate_redis
from pyramid_baseplate_redis.deadlines import DeadlinePolicy
from pyramid_baseplate_redis.runtime.deadline import current_deadline

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
