"""Metrics as OpenTelemetry's reader collects them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

DURATION = "db.client.operation.duration"
WAIT_TIME = "db.client.connection.wait_time"
USE_TIME = "db.client.connection.use_time"
CREATE_TIME = "db.client.connection.create_time"
BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
reader = InMemoryMetricReader()
Connect = Callable[..., Any]


@functools.cache
def collect() -> None:
    """Have this process collect metrics with the reader.

    OpenTelemetry takes one provider per process, for good.
    """
    metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))


@dataclass
class Point:
    """What one metric says for one set of attributes."""

    attributes: dict[str, Any]
    value: Any  # a histogram's is how many there were
    seconds: float
    unit: str
    bounds: tuple[float, ...]


class Collected:
    """The points of one collection, without those of OpenTelemetry's own instrumentations."""

    def __init__(self) -> None:
        self.points: dict[str, list[Point]] = {}
        data = reader.get_metrics_data()
        for resource in data.resource_metrics if data is not None else []:
            for scope in resource.scope_metrics:
                if scope.scope.name.startswith("opentelemetry."):
                    continue  # a test before this one has used it
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        self.points.setdefault(metric.name, []).append(
                            Point(
                                dict(point.attributes or {}),
                                getattr(point, "value", getattr(point, "count", None)),
                                getattr(point, "sum", 0.0),
                                metric.unit or "",
                                tuple(getattr(point, "explicit_bounds", ())),
                            )
                        )

    def of(self, name: str, pool_name: str) -> list[Point]:
        """The points of one metric and one pool."""
        key = "db.client.connection.pool.name"
        return [each for each in self.points.get(name, []) if each.attributes.get(key) == pool_name]

    def one(self, name: str, pool_name: str) -> Point:
        (found,) = self.of(name, pool_name)
        return found

    def stats(self, pool_name: str) -> dict[str, Any]:
        """What is told of a pool beside its times, with the state behind the metric's name."""
        prefix = "db.client.connection."
        return {
            f"{name.removeprefix(prefix)} {point.attributes.get(f'{prefix}state', '')}".strip(): (
                point.value,
                point.unit,
            )
            for name in self.points
            if name.startswith(prefix) and not name.endswith("_time")
            for point in self.of(name, pool_name)
        }


numbers = iter(range(1_000_000))


def duration_of(client: Any) -> Point:
    return Collected().one(DURATION, client.context_name)


def told(point: Point) -> dict[str, Any]:
    """What differs from one operation to the next."""
    same = ("db.system.name", "db.namespace", "server.address", "server.port")
    kept = {key: value for key, value in point.attributes.items() if key not in same}
    del kept["db.client.connection.pool.name"]
    return kept
