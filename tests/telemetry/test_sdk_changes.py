"""Measurements that are recorded together: changes of the SDK, exemplars, interruptions."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics._internal.instrument import _ProxyHistogram
from opentelemetry.sdk.metrics import (
    AlignedHistogramBucketExemplarReservoir,
    AlwaysOffExemplarFilter,
    AlwaysOnExemplarFilter,
    Histogram,
    MeterProvider,
)
from opentelemetry.sdk.metrics._internal.aggregation import _ExplicitBucketHistogramAggregation
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import LastValueAggregation, View
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from pyramid_baseplate_redis.telemetry.measurements import buffer as buffer_module
from pyramid_baseplate_redis.telemetry.measurements.buffer import MeasurementBuffer
from pyramid_baseplate_redis.telemetry.measurements.sdk_buckets import BucketStream
from pyramid_baseplate_redis.telemetry.measurements.sdk_streams import Sampling

from ..faults.helpers import in_threads
from ..support.measurements import (
    GET,
    NO_SPAN,
    SAMPLED,
    Made,
    add_to,
    count,
    exemplars,
    flushed,
    histogram_of,
    plain,
    with_sdk,
)


@pytest.fixture(autouse=True)
def without_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave recording to the tests."""
    monkeypatch.setattr(buffer_module, "ROUND_SECONDS", 60)


# When the SDK's state changes


def test_a_reader_that_was_added_gets_what_comes_next(record_calls: Any) -> None:
    first, second = InMemoryMetricReader(), InMemoryMetricReader()
    provider = MeterProvider([first])
    if not hasattr(provider, "add_metric_reader"):
        pytest.skip("this release takes readers at the beginning only")
    own, histogram = MeasurementBuffer(), histogram_of(provider)
    flushed(own, histogram, 1, 2)
    provider.add_metric_reader(second)
    flushed(own, histogram, 3, 4, 5)
    assert (count(first), count(second)) == (5, 3)
    provider.remove_metric_reader(first)
    flushed(own, histogram, 6)
    assert count(second) == 4
    assert record_calls.call_count == 2


def test_a_filter_that_was_replaced_is_asked_no_more() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], exemplar_filter=AlwaysOffExemplarFilter())
    own, histogram = MeasurementBuffer(), histogram_of(provider)
    flushed(own, histogram, 1, 2)
    provider._sdk_config.exemplar_filter = AlwaysOnExemplarFilter()
    flushed(own, histogram, 3)
    assert [each.value for each in exemplars(reader)] == [3]


def test_an_aggregation_that_the_sdk_forgot_is_made_again(record_calls: Any) -> None:
    reader = InMemoryMetricReader()
    own, histogram = MeasurementBuffer(), histogram_of(MeterProvider([reader]))
    flushed(own, histogram, 1, 2)
    (storage,) = histogram._measurement_consumer._reader_storages.values()
    (match,) = storage._instrument_view_instrument_matches[histogram]
    match._attributes_aggregation.clear()
    flushed(own, histogram, 3, 4)
    assert count(reader) == 2
    assert record_calls.call_count == 2


def test_a_view_that_keeps_other_attributes_meanwhile(record_calls: Any) -> None:
    kept = {"operation"}
    reader = InMemoryMetricReader()
    own = MeasurementBuffer()
    histogram = histogram_of(
        MeterProvider([reader], views=[View(instrument_name="duration", attribute_keys=kept)])
    )
    flushed(own, histogram, 1, 2)
    kept.add("server.port")
    flushed(own, histogram, 3, 4)
    ((*_, points),) = plain(reader)
    assert [(len(point["attributes"]), point["count"]) for _, point in points] == [(1, 2), (2, 2)]


def test_a_meter_that_was_disabled_records_nothing() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    meter: Any = provider.get_meter("test")
    if not hasattr(meter, "_set_meter_config"):
        pytest.skip("this release can't disable a meter")
    own, histogram = MeasurementBuffer(), histogram_of(provider)
    flushed(own, histogram, 1, 2)
    meter._set_meter_config(replace(meter._meter_config._config, is_enabled=False))
    flushed(own, histogram, 3, 4)
    meter._set_meter_config(replace(meter._meter_config._config, is_enabled=True))
    flushed(own, histogram, 5, 6, 7)
    assert count(reader) == 5


def test_a_proxy_follows_its_provider() -> None:
    """As in tests that replace OpenTelemetry's provider."""
    proxy = _ProxyHistogram("duration")
    own, readers = MeasurementBuffer(), [InMemoryMetricReader(), InMemoryMetricReader()]
    flushed(own, proxy, 1)  # there is no provider yet
    for number, reader in enumerate(readers, start=2):
        proxy.on_meter_set(MeterProvider([reader]).get_meter("test"))
        flushed(own, proxy, *[1] * number)
    assert [count(reader) for reader in readers] == [2, 3]


def test_a_provider_that_was_shut_down_still_takes_measurements() -> None:
    """The SDK does so, too."""
    provider = MeterProvider([InMemoryMetricReader()])
    own, histogram = MeasurementBuffer(), histogram_of(provider)
    flushed(own, histogram, 1, 2)
    provider.shutdown()
    flushed(own, histogram, 3, 4)
    (storage,) = histogram._measurement_consumer._reader_storages.values()
    assert "count=4" in str(storage.collect())


def test_what_the_sdk_has_to_record_keeps_its_place() -> None:
    reader = InMemoryMetricReader()
    last = View(
        instrument_name="duration", attribute_keys={"operation"}, aggregation=LastValueAggregation()
    )
    own, histogram = MeasurementBuffer(), histogram_of(MeterProvider([reader], views=[last]))
    odd = {**GET, "share": 0.5}
    add_to(own, histogram, [Made(number, GET, NO_SPAN) for number in range(3)])
    add_to(own, histogram, [Made(3, odd, NO_SPAN)])
    own.flush()
    ((*_, ((_, point),)),) = plain(reader)
    assert point["value"] == 3


def test_the_extremes_of_earlier_flushes_remain() -> None:
    reader = InMemoryMetricReader()
    own, histogram = MeasurementBuffer(), histogram_of(MeterProvider([reader]))
    for values in ((5,), (1, 2), (3, 4)):
        flushed(own, histogram, *values)
    ((*_, ((_, point),)),) = plain(reader)
    assert (point["min"], point["max"]) == (1, 5)


def test_no_measurement_is_lost_between_threads_that_add_flush_and_collect() -> None:
    reader = InMemoryMetricReader({Histogram: AggregationTemporality.DELTA})
    own, histogram = MeasurementBuffer(), histogram_of(MeterProvider([reader]))

    def work() -> int:
        seen = 0
        for number in range(10):
            flushed(own, histogram, *[1] * 50)
            if number % 3 == 0:
                seen += count(reader)
        return seen

    seen = in_threads(*[work] * 8)
    assert sum(seen) + count(reader) == 8 * 10 * 50


# Exemplars


def test_an_exemplar_has_the_time_of_its_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = InMemoryMetricReader()
    own, histogram = MeasurementBuffer(), histogram_of(MeterProvider([reader]))
    with_sdk(histogram, [Made(20, GET, SAMPLED[0])])
    for number, value in enumerate((0.0001, 0.3)):
        monkeypatch.setattr(buffer_module, "time_ns", lambda number=number: number)
        add_to(own, histogram, [Made(value, GET, SAMPLED[number])])
    own.flush()
    found = [(each.value, each.time_unix_nano, each.span_id) for each in exemplars(reader)]
    assert found[:2] == [(0.0001, 0, 1), (0.3, 1, 2)]


def test_a_measurement_without_a_span_does_not_get_that_of_the_flush() -> None:
    reader = InMemoryMetricReader()
    own, histogram = MeasurementBuffer(), histogram_of(MeterProvider([reader]))
    add_to(own, histogram, [Made(1, GET, NO_SPAN), Made(2, GET, NO_SPAN)])
    token = otel_context.attach(SAMPLED[0])
    own.flush()
    otel_context.detach(token)
    ((*_, ((_, point),)),) = plain(reader)
    assert (point["count"], point["exemplars"]) == (2, [])


def test_spans_are_not_kept_after_a_flush() -> None:
    own, histogram = MeasurementBuffer(), histogram_of(MeterProvider([InMemoryMetricReader()]))
    for _ in range(2):
        span = NonRecordingSpan(SpanContext(1, 2, False, TraceFlags(TraceFlags.SAMPLED)))
        context = trace.set_span_in_context(span, Context())
        add_to(own, histogram, [Made(1, GET, context)] * 3)
        own.flush()
    seen = weakref.ref(span)
    del span, context
    assert seen() is None


# Interruptions


class InterruptionError(BaseException):
    """Raised by a signal handler."""


def interrupted(cls: type, name: str, at_call: int, handler: Callable[[], None]) -> Any:
    """Run a signal handler before one of the calls of a method."""
    original, calls = getattr(cls, name), itertools.count(1)

    def method(self: Any, *args: Any) -> Any:
        if next(calls) == at_call:
            handler()
        return original(self, *args)

    return mock.patch.object(cls, name, method)


def interrupt() -> None:
    raise InterruptionError


@pytest.mark.parametrize(
    ("method", "at_call", "lost"),
    [
        ((Sampling, "includes"), 1, 0),
        ((_ExplicitBucketHistogramAggregation, "_get_empty_bucket_counts"), 1, 0),
        ((AlignedHistogramBucketExemplarReservoir, "offer"), 1, 0),
        ((_ExplicitBucketHistogramAggregation, "aggregate"), 3, 1),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_an_interruption_loses_one_measurement_at_most(
    method: tuple[type, str], at_call: int, lost: int
) -> None:
    reader = InMemoryMetricReader({Histogram: AggregationTemporality.DELTA})
    own, histogram = MeasurementBuffer(), histogram_of(MeterProvider([reader]))
    flushed(own, histogram, 1)
    assert count(reader) == 1
    add_to(own, histogram, [Made(1, GET, SAMPLED[0])] * 20)
    with interrupted(*method, at_call, interrupt), pytest.raises(InterruptionError):
        own.flush()
    own.flush()
    assert count(reader) == 20 - lost


def test_a_signal_handler_may_flush_during_a_flush() -> None:
    reader = InMemoryMetricReader()
    own, histogram = MeasurementBuffer(), histogram_of(MeterProvider([reader]))
    flushed(own, histogram, *[1] * 10)
    add_to(own, histogram, [Made(1, GET, NO_SPAN)] * 20)
    with interrupted(Sampling, "includes", 1, lambda: flushed(own, histogram, *[1] * 5)):
        own.flush()
    assert count(reader) == 35


def test_an_error_of_the_fast_way_loses_nothing() -> None:
    reader = InMemoryMetricReader()
    own, histogram = MeasurementBuffer(), histogram_of(MeterProvider([reader]))

    def fail() -> None:
        raise ValueError

    flushed(own, histogram, 1)
    with interrupted(BucketStream, "_add", 1, fail):
        flushed(own, histogram, *[1] * 10)
    assert count(reader) == 11
