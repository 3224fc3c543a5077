"""DurableMessageQueue: its figures, its keys, and its removal."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import DurableMessageQueue
from pyramid_baseplate_redis.queues.queue_spec import keys_of

from .conftest import MakeQueue, fail


def test_stats_of_a_queue_that_is_not_there_are_zeros(queue: DurableMessageQueue) -> None:
    stats = queue.stats()
    assert (stats.length, stats.in_flight, stats.oldest_age, stats.dead) == (0, 0, None, 0)


def test_stats_tell_what_is_in_the_queue(make_queue: MakeQueue, raw: Any) -> None:
    queue = make_queue(max_attempts=1)
    queue.put_many(["a", "b", "c"])
    fail(queue)
    with queue.receive(5):
        stats = queue.stats()
    assert (stats.length, stats.in_flight, stats.dead) == (2, 1, 1)
    assert stats.oldest_age is not None
    assert timedelta(0) <= stats.oldest_age < timedelta(seconds=30)


def test_unlink_removes_messages_and_dead_letters(make_queue: MakeQueue, raw: Any) -> None:
    queue = make_queue(max_attempts=1)
    queue.put_many(["a", "b"])
    fail(queue)
    queue.unlink()
    assert raw.keys() == []


def test_close_removes_nothing(queue: DurableMessageQueue) -> None:
    queue.put("job")
    queue.close()
    assert queue.get(5) == b"job"


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("jobs", ("{jobs}:messages", "{jobs}:dead")),
        ("{shop}jobs", ("{shop}jobs:messages", "{shop}jobs:dead")),
        ("shop:{a}", ("shop:{a}:messages", "shop:{a}:dead")),
        ("{}jobs", ("{{}jobs}:messages", "{{}jobs}:dead")),
    ],
)
def test_the_keys_of_a_queue_are_in_one_slot(name: str, keys: tuple[str, str]) -> None:
    assert keys_of(name) == keys
    first, second = (redis.crc.key_slot(key.encode()) for key in keys)
    assert first == second
