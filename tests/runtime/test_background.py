"""The background thread of a pool."""

from __future__ import annotations

import threading
from unittest import mock

from pyramid_baseplate_redis.runtime.background import start_background


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
