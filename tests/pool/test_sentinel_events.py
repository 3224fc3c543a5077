"""The threads that listen to Sentinels."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import Any
from unittest import mock

import redis

from pyramid_baseplate_redis.pool.sentinel.events import start_listening


class _UnreachableSentinel:
    attempts = 0

    def pubsub(self, **options: Any) -> Any:
        self.attempts += 1
        raise redis.ConnectionError("Connection refused")


class _Pool:
    service_name = "mymaster"
    sentinel_manager = None

    def __init__(self, sentinel: Any) -> None:
        self.pid = os.getpid()
        self.unsubscribed = deque([sentinel])


def test_a_sentinel_is_tried_again_after_a_pause_while_time_sleep_is_replaced() -> None:
    sentinel = _UnreachableSentinel()
    pool: Any = _Pool(sentinel)
    with mock.patch("time.sleep"):  # which replaces it in every thread
        start_listening(pool)
        threading.Event().wait(0.2)
    assert 0 < sentinel.attempts < 100
