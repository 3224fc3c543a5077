"""A latch lets its waiters go on when it is set, and takes no lock."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from pyramid_baseplate_redis.runtime.latch import Latch

from ..support.servers import wait_until


def test_all_waiters_go_on_when_it_is_set() -> None:
    latch = Latch()
    with ThreadPoolExecutor(3) as threads:
        waits = [threads.submit(latch.wait, 10) for _ in range(3)]
        wait_until(lambda: len(latch._waiters) == 3)
        started = time.monotonic()
        latch.set()
        assert [wait.result() for wait in waits] == [True] * 3
    assert time.monotonic() - started < 5


def test_a_latch_that_is_set_is_not_waited_for() -> None:
    latch = Latch()
    latch.set()
    started = time.monotonic()
    assert latch.wait(10)
    assert time.monotonic() - started < 5


def test_a_wait_ends_with_its_time() -> None:
    latch = Latch()
    started = time.monotonic()
    assert not latch.wait(0.05)
    assert 0.045 < time.monotonic() - started < 5
    assert not latch.is_set
