"""Measurements on their way: none is lost, none is recorded twice, and commands don't wait."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any
from unittest import mock

import pytest
from opentelemetry import trace
from opentelemetry.context import Context

from pyramid_baseplate_redis.telemetry.measurements import buffer as measurements_module
from pyramid_baseplate_redis.telemetry.measurements.buffer import (
    MOST,
    MeasurementBuffer,
    measurements,
)

from ..faults.helpers import in_child, in_threads
from ..support.servers import wait_until


class Histogram:
    """Writes down what is recorded, and with which span being current."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.attributes: list[Any] = []
        self.spans: list[Any] = []

    def record(self, value: float, attributes: Any, context: Context) -> None:
        self.values.append(value)
        self.attributes.append(attributes)
        self.spans.append(trace.get_current_span(context).get_span_context().span_id)


@pytest.fixture
def histogram() -> Any:
    return Histogram()


NONE: Mapping[str, str] = {}


def test_what_is_added_is_recorded_in_the_background(histogram: Any) -> None:
    MeasurementBuffer().add(histogram, 0.5, {"key": "value"})
    wait_until(lambda: histogram.values)
    assert (histogram.values, histogram.attributes) == ([0.5], [{"key": "value"}])


def test_a_caller_leaves_it_to_the_background(
    histogram: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurements_module, "ROUND_SECONDS", 60)
    own = MeasurementBuffer()
    own.add(histogram, 1, NONE)
    assert (histogram.values, own.waiting) == ([], 1)


def test_the_caller_imports_what_the_background_needs(
    histogram: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    importers: list[int] = []
    monkeypatch.setattr(measurements_module, "ROUND_SECONDS", 60)
    monkeypatch.setattr(
        measurements_module, "_recorder_class", lambda: importers.append(threading.get_ident())
    )
    MeasurementBuffer().add(histogram, 1, NONE)
    assert importers == [threading.get_ident()]


def test_the_background_keeps_its_pace_while_time_sleep_is_replaced(
    histogram: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurements_module, "ROUND_SECONDS", 60)
    own = MeasurementBuffer()
    with mock.patch("time.sleep"):  # which replaces it in every thread
        own.add(histogram, 1, NONE)
        threading.Event().wait(0.1)
    assert histogram.values == []


def test_a_flush_records_all_that_was_added(
    histogram: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurements_module, "ROUND_SECONDS", 60)
    own = MeasurementBuffer()
    for number in range(200):
        own.add(histogram, number, NONE)
    own.flush()
    assert histogram.values == list(range(200))


def test_nothing_is_recorded_twice_and_nothing_is_lost_under_threads(histogram: Any) -> None:
    own = MeasurementBuffer()

    def work() -> None:
        for number in range(500):
            own.add(histogram, 1, NONE)
            if number % 50 == 0:
                own.flush()

    in_threads(*[work] * 8)
    own.flush()
    assert len(histogram.values) == 4000


def test_beyond_a_number_a_caller_records_his_own(
    histogram: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurements_module, "ROUND_SECONDS", 60)
    own = MeasurementBuffer()
    for number in range(MOST + 2):
        own.add(histogram, number, NONE)
    assert histogram.values == [MOST, MOST + 1]


def test_the_background_comes_back_after_a_rest(
    histogram: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurements_module, "ROUND_SECONDS", 0.001)
    own = MeasurementBuffer()
    own.add(histogram, 1, NONE)
    wait_until(lambda: not own._process().is_running)
    own.add(histogram, 2, NONE)
    wait_until(lambda: histogram.values == [1, 2])


def test_a_measurement_belongs_to_the_span_in_which_it_was_made(histogram: Any) -> None:
    own = MeasurementBuffer()
    with trace.get_tracer(__name__).start_as_current_span("request") as span:
        own.add(histogram, 1, NONE)
    own.flush()
    wait_until(lambda: histogram.spans == [span.get_span_context().span_id])


def test_a_forked_process_doesnt_record_what_is_its_parents(
    histogram: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurements_module, "ROUND_SECONDS", 60)
    measurements.flush()
    measurements.add(histogram, 1, NONE)

    def record_another() -> list[float]:
        measurements.add(histogram, 2, NONE)
        measurements.flush()
        return list(histogram.values)

    assert in_child(record_another) == [2]
    measurements.flush()
    assert histogram.values == [1]


def test_a_process_that_was_forked_during_a_flush_isnt_stuck(histogram: Any) -> None:
    with measurements._process().lock:
        seen = in_threads(lambda: in_child(lambda: measurements.flush() or "done"))
    assert seen == ["done"]
