"""The length of a queue is asked for in the background, with short timeouts."""

from __future__ import annotations

import logging
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import redis

from pyramid_baseplate_redis.queues import length_metric
from pyramid_baseplate_redis.queues.length_metric import QueueLength, observed_length
from pyramid_baseplate_redis.telemetry.otel import is_suppressed
from pyramid_baseplate_redis.telemetry.stats import QueueStats

STATS = QueueStats(7, 1, None, 2, 3, 4)


@pytest.fixture
def observed(monkeypatch: pytest.MonkeyPatch) -> list[QueueLength]:
    made: list[QueueLength] = []
    monkeypatch.setattr(length_metric, "observe_queue", made.append)
    return made


def pool_of(timeout: float = 5.0, connect: float = 5.0, metrics: bool = True) -> Any:
    settings = SimpleNamespace(
        metrics=metrics,
        socket_timeout=timedelta(seconds=timeout),
        socket_connect_timeout=timedelta(seconds=connect),
    )
    return SimpleNamespace(client_settings=settings, make_background_client=Mock())


def test_the_length_of_a_list_is_asked_for() -> None:
    client = Mock()
    client.llen.return_value = 3
    length = QueueLength("jobs", lambda: client)
    assert (length.length(), length.stats) == (3, None)
    client.llen.assert_called_once_with("jobs")


def test_the_client_is_made_once() -> None:
    make = Mock()
    length = QueueLength("jobs", make)
    length.length()
    length.length()
    assert make.call_count == 1


def test_a_durable_queue_keeps_its_other_numbers() -> None:
    client = Mock()
    stats = Mock(return_value=STATS)
    length = QueueLength("jobs", lambda: client, stats)
    assert (length.length(), length.stats) == (7, STATS)
    stats.assert_called_once_with(client)


def test_asking_makes_neither_spans_nor_measurements() -> None:
    seen: list[bool] = []
    client = Mock()
    client.llen.side_effect = lambda name: seen.append(is_suppressed())
    QueueLength("jobs", lambda: client).length()
    assert seen == [True]


@pytest.mark.parametrize(
    "error", [redis.ConnectionError("gone"), redis.exceptions.RedisClusterException("gone")]
)
def test_a_failing_server_has_no_length_and_no_other_numbers(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    length = QueueLength("jobs", Mock, Mock(side_effect=[STATS, error]))
    length.length()
    assert (length.length(), length.stats) == (None, None)
    assert caplog.messages == ["queue jobs: the length is unknown: gone"]


@pytest.mark.parametrize(("configured", "used"), [(5.0, 1.0), (0.3, 0.3)])
def test_a_hung_server_delays_the_collection_for_a_second_at_most(
    observed: list[QueueLength], configured: float, used: float
) -> None:
    pool = pool_of(timeout=configured)
    length = observed_length("jobs", pool)
    assert observed == [length]
    observed[0].length()
    pool.make_background_client.assert_called_once_with(
        socket_timeout=used, socket_connect_timeout=1.0
    )


def test_connecting_takes_no_longer_than_configured(observed: list[QueueLength]) -> None:
    pool = pool_of(connect=0.2)
    observed_length("jobs", pool)
    observed[0].length()
    pool.make_background_client.assert_called_once_with(
        socket_timeout=1.0, socket_connect_timeout=0.2
    )


@pytest.mark.parametrize(
    "pool",
    [
        pool_of(metrics=False),
        redis.ConnectionPool(),
        SimpleNamespace(make_background_client=Mock()),
    ],
    ids=["without metrics", "of redis-py", "without settings"],
)
def test_the_queue_of_another_pool_is_not_observed(observed: list[QueueLength], pool: Any) -> None:
    assert observed_length("jobs", pool) is None
    assert observed == []
