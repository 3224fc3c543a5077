"""The background thread of a pool."""

from __future__ import annotations

import gc
import logging
import threading
from unittest import mock

import pytest

from pyramid_baseplate_redis.runtime.background import start_background

from ..support.servers import wait_until


def test_it_keeps_its_pace_while_time_sleep_is_replaced() -> None:
    class House:
        rounds = 0

        def keep_house(self) -> bool:
            self.rounds += 1
            return self.rounds < 1000

    house = House()
    with mock.patch("time.sleep"):  # which replaces it in every thread
        start_background(house, 60)
        threading.Event().wait(0.1)
    assert house.rounds == 0


class House:
    """Has work for some rounds, and ends the thread's round with an error if there is one."""

    def __init__(self, rounds: int, error: Exception | None = None) -> None:
        self.left = rounds
        self.error = error

    def keep_house(self) -> bool:
        self.left -= 1
        error, self.error = self.error, None
        if error is not None:
            raise error
        return self.left > 0


def test_the_work_is_repeated_until_none_is_left() -> None:
    house = House(rounds=3)

    assert start_background(house, 0.001)

    wait_until(lambda: house.left == 0)
    threading.Event().wait(0.02)
    assert house.left == 0


def test_the_work_goes_on_after_an_error_that_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    house = House(rounds=2, error=ValueError("broken"))

    with caplog.at_level(logging.ERROR):
        start_background(house, 0.001)
        wait_until(lambda: house.left == 0)

    assert [record.message for record in caplog.records] == [
        "the housekeeping of a connection pool failed"
    ]


def test_the_work_ends_with_the_pool() -> None:
    rounds = []

    class Endless:
        def keep_house(self) -> bool:
            rounds.append(1)
            return True

    house = Endless()
    start_background(house, 0.001)
    wait_until(lambda: rounds)
    del house
    gc.collect()
    before = len(rounds)
    threading.Event().wait(0.02)

    assert len(rounds) <= before + 1  # it may have been in the middle of a round
