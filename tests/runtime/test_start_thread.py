"""The one way to start a background thread."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Iterator

import pytest

from pyramid_baseplate_redis.runtime import background
from pyramid_baseplate_redis.runtime.background import start_thread

from ..support.servers import wait_until


class Steps:
    """A generator with a pause of a minute after each step, and the number of its steps."""

    def __init__(self) -> None:
        self.done = 0
        self.is_closed = False

    def __call__(self) -> Iterator[float]:
        try:
            while True:
                self.done += 1
                yield 60
        finally:
            self.is_closed = True


def test_an_event_ends_each_pause_once() -> None:
    steps, wake = Steps(), threading.Event()
    assert start_thread(steps(), wake)
    for number in (1, 2, 3):
        wait_until(lambda number=number: steps.done == number)
        threading.Event().wait(0.02)
        assert steps.done == number
        wake.set()


def test_a_copy_in_another_process_ends_after_its_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    steps, wake = Steps(), threading.Event()
    start_thread(steps(), wake)
    wait_until(lambda: steps.done == 1)
    monkeypatch.setattr(background.os, "getpid", lambda: 0)
    wake.set()
    wait_until(lambda: steps.is_closed)
    assert steps.done == 1


def test_where_no_thread_can_be_started_the_caller_is_not_disturbed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*args: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    steps = Steps()
    assert not start_thread(steps())
    assert steps.done == 0


def test_a_copy_that_has_not_begun_does_nothing() -> None:
    steps, wake = Steps(), threading.Event()
    wake.set()
    background._run(steps(), wake, 0)
    assert steps.done == 0
