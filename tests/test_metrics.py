"""The metrics of pools, as a metric reader collects them."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from pyramid_baseplate_redis import PoolTimeoutError, RedisClient

from .support import Server

NAMES = [
    "db.client.connection.count",
    "db.client.connection.max",
    "db.client.connection.pending_requests",
    "db.client.connection.timeouts",
]
_reader = InMemoryMetricReader()
_providers: list[MeterProvider] = []


@pytest.fixture
def collect() -> Any:
    if not _providers:  # OpenTelemetry takes one provider per process, for good
        _providers.append(MeterProvider(metric_readers=[_reader]))
        metrics.set_meter_provider(_providers[0])

    def values(pool_name: str) -> dict[str, Any]:
        """Each metric's value for a pool, with its state behind its name if it has one."""
        found = {}
        data = _reader.get_metrics_data()
        for resource in data.resource_metrics if data is not None else []:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        attributes = dict(point.attributes or {})
                        if attributes.get("db.client.connection.pool.name") == pool_name:
                            state = attributes.get("db.client.connection.state")
                            found[f"{metric.name}{f' {state}' if state else ''}"] = point.value
        return found

    return values


def test_the_figures_of_a_clients_pool_are_collected(collect: Any, valkey: Server) -> None:
    settings = {"metered.url": valkey.url, "metered.max_connections": "2"}
    factory = RedisClient().parse("metered", {**settings, "metered.pool_timeout": "0 seconds"})
    pool = factory.connection_pool
    held, other = pool.get_connection(), pool.get_connection()
    with pytest.raises(PoolTimeoutError):
        pool.get_connection()
    pool.release(other)

    assert collect("metered") == {
        "db.client.connection.count idle": 1,
        "db.client.connection.count used": 1,
        "db.client.connection.max": 2,
        "db.client.connection.pending_requests": 0,
        "db.client.connection.timeouts": 1,
    }
    pool.release(held)
    pool.disconnect()


def test_a_pool_has_the_name_that_its_spans_have(collect: Any) -> None:
    factory = RedisClient("cache-pool").parse("foo", {"foo.url": "redis://localhost"})
    assert collect("cache-pool")["db.client.connection.max"] == 50
    del factory


def test_a_pool_that_is_gone_is_no_longer_collected(collect: Any) -> None:
    RedisClient().parse("gone", {"gone.url": "redis://localhost"})
    assert collect("gone") == {}
