"""Measurements, OpenTelemetry's histograms that take them, and what a reader collects."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from pyramid_baseplate_redis.telemetry.measurements.buffer import MeasurementBuffer

BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)


def context_of(span_id: int, *, sampled: bool = True, remote: bool = False) -> Context:
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    span = NonRecordingSpan(SpanContext(7, span_id, remote, flags))
    return trace.set_span_in_context(span, Context())


NO_SPAN = Context()
SAMPLED = [context_of(number) for number in range(1, 4)]
CONTEXTS = [NO_SPAN, *SAMPLED, context_of(8, sampled=False), context_of(9, remote=True)]

GET = {"operation": "GET", "server.port": 6379, "server.address": "localhost"}
SET = {"operation": "SET", "server.port": 6379, "server.address": "localhost"}
SERIES: list[Mapping[str, Any]] = [
    GET,
    SET,
    dict(reversed(GET.items())),
    {**GET, "error.type": "WRONGTYPE"},
    {"is": True},
    {"is": 1},
    {"is": "1"},
    {},
]
VALUES = [0.0002, 0.001, 0.0010001, 0, 3, 0.3, 10, 11.5, 1e-9, 0.1, 0.2, 1e6]


@dataclass(frozen=True)
class Made:
    """A measurement."""

    value: float
    attributes: Mapping[str, Any]
    context: Context


def measurements() -> list[Made]:
    """Some of each series, of each context and of each size, mixed up."""
    sizes, contexts = itertools.cycle(VALUES), itertools.cycle(CONTEXTS)
    series = itertools.islice(itertools.cycle([*SERIES, GET, GET, SET]), 300)
    return [Made(next(sizes), each, next(contexts)) for each in series]


def with_sdk(histogram: Any, made: list[Made]) -> None:
    for each in made:
        # The SDK would replace an empty context by the current one, which is empty too.
        histogram.record(each.value, each.attributes, each.context)


def with_buffer(histogram: Any, made: list[Made]) -> None:
    own = MeasurementBuffer()
    add_to(own, histogram, made)
    own.flush()


def add_to(own: MeasurementBuffer, histogram: Any, made: list[Made]) -> None:
    for each in made:
        token = otel_context.attach(each.context)
        own.add(histogram, each.value, each.attributes)
        otel_context.detach(token)


def histogram_of(provider: MeterProvider) -> Any:
    return provider.get_meter("test").create_histogram(
        "duration", "s", "how long", explicit_bucket_boundaries_advisory=BUCKETS
    )


def plain(reader: InMemoryMetricReader) -> Any:
    """All fields of all metrics, but not the time of the collection."""
    data = reader.get_metrics_data()
    return [
        (metric.name, metric.unit, metric.description, type(metric.data).__name__,
         getattr(metric.data, "aggregation_temporality", None),
         [timeless(point) for point in metric.data.data_points])
        for resource in (data.resource_metrics if data is not None else [])
        for scope in resource.scope_metrics
        for metric in scope.metrics
    ]  # fmt: skip


def timeless(point: Any) -> Any:
    return type(point), vars(replace(point, start_time_unix_nano=0, time_unix_nano=0))


def flushed(own: MeasurementBuffer, histogram: Any, *values: float) -> None:
    add_to(own, histogram, [Made(value, GET, NO_SPAN) for value in values])
    own.flush()


def count(reader: InMemoryMetricReader) -> int:
    return sum(point["count"] for *_, points in plain(reader) for _, point in points)


def exemplars(reader: InMemoryMetricReader) -> list[Any]:
    return [each for *_, points in plain(reader) for _, point in points
            for each in point["exemplars"]]  # fmt: skip
