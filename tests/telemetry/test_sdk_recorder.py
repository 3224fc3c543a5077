"""Measurements that are recorded together: a reader collects what ``record()`` would have left.

Each case runs twice, with the SDK's own ``record()`` and with the package's buffer, and everything
that the readers collect is compared field by field.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import pytest
from opentelemetry.sdk.metrics import (
    AlignedHistogramBucketExemplarReservoir,
    AlwaysOffExemplarFilter,
    AlwaysOnExemplarFilter,
    Counter,
    Histogram,
    MeterProvider,
    SimpleFixedSizeExemplarReservoir,
    TraceBasedExemplarFilter,
)
from opentelemetry.sdk.metrics._internal import instrument as sdk_instrument
from opentelemetry.sdk.metrics._internal.exemplar import exemplar_reservoir
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import (
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    LastValueAggregation,
    SumAggregation,
    View,
)

from pyramid_baseplate_redis.telemetry.measurements import buffer as buffer_module
from pyramid_baseplate_redis.telemetry.measurements.buffer import MeasurementBuffer
from pyramid_baseplate_redis.telemetry.measurements.sdk_buckets import is_known
from pyramid_baseplate_redis.telemetry.messaging.metrics import _Count

from ..support.measurements import (
    GET,
    NO_SPAN,
    SERIES,
    Made,
    histogram_of,
    measurements,
    plain,
    with_buffer,
    with_sdk,
)

NOW = 1_700_000_000_000_000_000


DELTA = {Histogram: AggregationTemporality.DELTA, Counter: AggregationTemporality.DELTA}
ReadersOf = Callable[[], list[InMemoryMetricReader]]


def one_reader() -> list[InMemoryMetricReader]:
    return [InMemoryMetricReader()]


def several_readers() -> list[InMemoryMetricReader]:
    exponential = {Histogram: ExponentialBucketHistogramAggregation()}
    return [
        InMemoryMetricReader(),
        InMemoryMetricReader(preferred_temporality=DELTA),
        InMemoryMetricReader(DELTA, preferred_aggregation=exponential),
    ]


def aligned(**parameters: Any) -> Any:
    return AlignedHistogramBucketExemplarReservoir([0.01, 1])


def two_exemplars(**parameters: Any) -> Any:
    return SimpleFixedSizeExemplarReservoir(2)


@dataclass(frozen=True)
class Case:
    """A configuration of the SDK."""

    views: list[View] = field(default_factory=list)
    readers: ReadersOf = one_reader
    filter: Any = field(default_factory=TraceBasedExemplarFilter)
    #: The number of aggregations, each of which the SDK makes in ``record()``. Releases before
    #: 1.45 have one less, because 1 and true are the same attribute to them.
    aggregations: int = len(SERIES) - 1  # the order of attributes makes no difference


def view(**parameters: Any) -> View:
    return View(instrument_name="duration", **parameters)


def drop_reservoir(reservoir: Any) -> Any:
    return lambda aggregation: reservoir


CASES = {
    "default": Case(),
    "always on": Case(filter=AlwaysOnExemplarFilter()),
    "always off": Case(filter=AlwaysOffExemplarFilter()),
    "no reader": Case(readers=list, aggregations=0),
    "several readers": Case(readers=several_readers),
    "several readers, always on": Case(readers=several_readers, filter=AlwaysOnExemplarFilter()),
    "renamed": Case([view(name="other", description="another")]),
    "other buckets": Case([view(aggregation=ExplicitBucketHistogramAggregation((0, 0.5, 2)))]),
    "no buckets": Case([view(aggregation=ExplicitBucketHistogramAggregation(()))]),
    "without extremes": Case(
        [view(aggregation=ExplicitBucketHistogramAggregation((1,), record_min_max=False))]
    ),
    "exponential": Case([view(aggregation=ExponentialBucketHistogramAggregation(max_size=4))]),
    "dropped": Case([view(aggregation=DropAggregation())]),
    "sum": Case([view(aggregation=SumAggregation())]),
    "last value": Case([view(aggregation=LastValueAggregation())]),
    "fewer attributes": Case([view(attribute_keys={"server.port", "is"})], aggregations=5),
    "no attributes": Case([view(attribute_keys=set())], aggregations=1),
    "two views": Case([view(name="all"), view(name="few", attribute_keys={"server.port"})]),
    "two views, several readers": Case(
        [view(name="all"), view(name="few", attribute_keys={"operation"})], several_readers
    ),
    "exemplars of other buckets": Case([view(exemplar_reservoir_factory=drop_reservoir(aligned))]),
    "two exemplars": Case([view(exemplar_reservoir_factory=drop_reservoir(two_exemplars))]),
    "two exemplars, always on": Case(
        [view(exemplar_reservoir_factory=drop_reservoir(two_exemplars))],
        filter=AlwaysOnExemplarFilter(),
    ),
    "exemplars of buckets, exponential": Case(
        [
            view(
                aggregation=ExponentialBucketHistogramAggregation(),
                exemplar_reservoir_factory=drop_reservoir(aligned),
            )
        ]
    ),
}


class OtherFilter(TraceBasedExemplarFilter):
    """A filter that the application made."""


class OtherReservoir(AlignedHistogramBucketExemplarReservoir):
    """A reservoir that the application made."""


FOREIGN = {
    "a filter": Case(filter=OtherFilter()),
    "a reservoir": Case([view(exemplar_reservoir_factory=drop_reservoir(OtherReservoir))]),
}


@pytest.fixture(autouse=True)
def same_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take time and chance out of the comparison, and leave the background thread out of it."""
    monkeypatch.setattr(sdk_instrument, "time_ns", lambda: NOW)
    monkeypatch.setattr(buffer_module, "time_ns", lambda: NOW)
    monkeypatch.setattr(exemplar_reservoir, "randrange", lambda low, high: high // 3)
    monkeypatch.setattr(buffer_module, "ROUND_SECONDS", 60)


Record = Callable[[Any, list[Made]], None]


def collected(case: Case, record: Record, made: list[Made]) -> list[Any]:
    """Everything that the readers collect after the first half and after the second."""
    readers = case.readers()
    provider = MeterProvider(readers, exemplar_filter=case.filter, views=case.views)
    histogram = histogram_of(provider)
    found = []
    for part in (made[:150], made[150:], []):
        record(histogram, part)
        found += [plain(reader) for reader in readers]
    provider.shutdown()
    return found


@pytest.mark.parametrize("name", CASES)
def test_readers_collect_the_same(name: str, record_calls: Any) -> None:
    case, made = CASES[name], measurements()
    expected = collected(case, with_sdk, made)
    assert record_calls.call_count == len(made)
    record_calls.reset_mock()
    assert collected(case, with_buffer, made) == expected
    assert record_calls.call_count <= case.aggregations


@pytest.mark.parametrize("name", FOREIGN)
def test_the_sdk_records_what_meets_a_class_of_the_application(
    name: str, record_calls: Any
) -> None:
    case, made = FOREIGN[name], measurements()
    expected = collected(case, with_sdk, made)
    record_calls.reset_mock()
    assert collected(case, with_buffer, made) == expected
    assert record_calls.call_count == len(made)


@pytest.mark.parametrize("value", [-1, math.nan, math.inf], ids=str)
def test_the_sdk_decides_about_odd_amounts(value: float, record_calls: Any) -> None:
    made = [Made(each, GET, NO_SPAN) for each in (1, 2, value, 3)]
    expected = repr(collected(Case(), with_sdk, made))
    record_calls.reset_mock()
    assert repr(collected(Case(), with_buffer, made)) == expected
    assert record_calls.call_count == 2  # the first, and the odd one


def test_the_sdk_decides_about_attributes_of_other_types(record_calls: Any) -> None:
    made = [Made(1, {"names": ["a", "b"]}, NO_SPAN), Made(2, {"share": 0.5}, NO_SPAN)] * 3
    record_calls.reset_mock()
    with_buffer(histogram_of(MeterProvider(one_reader())), made)
    assert record_calls.call_count == 6


def test_counters_are_recorded_together_too() -> None:
    def counted(record: Callable[[Any], None]) -> Any:
        reader = InMemoryMetricReader()
        counter = MeterProvider([reader]).get_meter("test").create_counter("sent")
        record(counter)
        return plain(reader)

    def buffered(counter: Any) -> None:
        own, recorder = MeasurementBuffer(), _Count(counter)
        for each in measurements():
            own.add(recorder, each.value, each.attributes)
        with mock.patch.object(Counter, "add", autospec=True, side_effect=Counter.add) as add_calls:
            own.flush()
        assert add_calls.call_count <= len(SERIES)

    expected = counted(
        lambda counter: [counter.add(each.value, each.attributes) for each in measurements()]
    )
    assert counted(buffered) == expected


def test_buckets_are_counted_together() -> None:
    """A release that changes ``aggregate()`` is slower until :mod:`.sdk_buckets` follows."""
    assert is_known
