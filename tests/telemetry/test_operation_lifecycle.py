"""One operation from its start to its end: what is timed, counted, traced and reported."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from unittest.mock import ANY, Mock, call

import pytest
import redis
from opentelemetry import context as otel_context
from opentelemetry.trace import INVALID_SPAN

from pyramid_baseplate_redis.telemetry import (
    metrics,
    operations,
    otel,
    request_totals,
    span_outcomes,
)
from pyramid_baseplate_redis.telemetry.call_details import (
    add_wait_time,
    has_call_details,
    pop_call_details,
)
from pyramid_baseplate_redis.telemetry.command_spans import CommandTracer
from pyramid_baseplate_redis.telemetry.operation import (
    OBSERVER_KEY,
    Operation,
    current_observer,
    note_code,
    observer_of,
)
from pyramid_baseplate_redis.telemetry.operations import ClientTelemetry, run_operation

GET = ("GET", "key")
PAIR = [(GET, {}), (("SET", "key", "value"), {})]
NAMED = {"db.operation.name": "GET"}
CONTEXT = otel_context.Context()


@pytest.fixture(autouse=True)
def nothing_noted() -> Iterator[None]:
    pop_call_details()
    yield
    pop_call_details()


class Parts:
    """A client's telemetry without a provider of metrics, and its mocks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.tracer = Mock(spec=CommandTracer, context_name="foo")
        self.tracer.command_context.return_value = CONTEXT
        self.tracer.batch_context.return_value = CONTEXT
        self.tracer.command_attributes.return_value = NAMED
        self.tracer.batch_attributes.return_value = {"db.operation.name": "PIPELINE"}
        self.span = self.tracer.started_command.return_value
        self.observer = Mock()
        self.recorded = Mock()
        self.totals = Mock()
        self.has_metrics = options.pop("has_metrics", False)
        observers = [self.observer] if options.pop("is_observed", False) else []
        monkeypatch.setattr(operations, "has_meter_provider", lambda: self.has_metrics)
        monkeypatch.setattr(metrics, "record_operation", self.recorded)
        monkeypatch.setattr(otel, "_logged", set())
        self.telemetry = ClientTelemetry(self.tracer, observers, **options)

    def start(self, start_time: int | None = None) -> Operation:
        operation = self.telemetry.start_command(INVALID_SPAN, GET, start_time)
        assert operation is not None
        return operation

    def start_batch(self, commands: Any = PAIR, is_transaction: bool = False) -> Operation:
        operation = self.telemetry.start_batch(INVALID_SPAN, "foo.load", is_transaction, commands)
        assert operation is not None
        return operation


@pytest.fixture
def untraced(monkeypatch: pytest.MonkeyPatch) -> Parts:
    """Observed, but neither traced nor measured."""
    parts = Parts(monkeypatch, is_observed=True)
    parts.tracer.command_context.return_value = None
    parts.tracer.batch_context.return_value = None
    return parts


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Parts:
    """Operations of less than a second are counted in the totals of their request."""
    parts = Parts(monkeypatch, min_duration=1.0)
    monkeypatch.setattr(request_totals, "found", lambda context, span: parts.totals)
    parts.totals.add.return_value = True
    return parts


# Observers


def test_an_observer_alone_receives_a_commands_start_and_end(untraced: Parts) -> None:
    operation = untraced.start()
    assert untraced.observer.mock_calls == [call.started(operation)]
    operation.end(b"value")
    assert untraced.observer.mock_calls[1:] == [call.ended(operation, b"value")]
    assert (operation.is_transaction, operation.metered, operation.span) == (False, False, None)
    assert (operation.context, operation.start_time, operation.totals) == (None, None, None)


def test_an_observer_alone_receives_a_pipelines_start_and_end(untraced: Parts) -> None:
    operation = untraced.start_batch(is_transaction=True)
    operation.end([b"value"])
    assert untraced.observer.mock_calls == [
        call.started(operation), call.ended(operation, [b"value"]),
    ]  # fmt: skip
    assert (operation.is_transaction, operation.commands) == (True, PAIR)
    assert untraced.tracer.batch_attributes.mock_calls == []


def test_an_observer_receives_the_duration(untraced: Parts) -> None:
    before = time.perf_counter()
    operation = untraced.start()
    assert before <= operation.started <= time.perf_counter()
    time.sleep(0.01)
    operation.end()
    assert 0.01 <= operation.duration <= time.perf_counter() - before


def test_a_duration_may_begin_before_the_operation_is_known(untraced: Parts) -> None:
    operation = untraced.start(time.time_ns() - 5_000_000_000)
    operation.end()
    assert 4.9 < operation.duration < 10


def test_an_observer_receives_a_failure_and_its_code(untraced: Parts) -> None:
    error = redis.ResponseError("WRONGTYPE not a list")
    operation = untraced.start()
    operation.fail(error, [error])
    assert untraced.observer.ended.mock_calls == [call(operation, [error])]
    assert (operation.error, operation.code) == (error, "WRONGTYPE")


def test_a_code_that_redis_py_hides_was_noted_before(untraced: Parts) -> None:
    error = redis.ResponseError("WRONGTYPE not a list")
    note_code(error)
    error.args = ("Command # 1 (GET key) of pipeline caused error: WRONGTYPE",)
    note_code(error)  # too late
    operation = untraced.start()
    operation.fail(error)
    assert operation.code == "WRONGTYPE"


def test_a_watch_error_is_no_failure(untraced: Parts) -> None:
    operation = untraced.start()
    operation.fail(redis.WatchError("changed"))
    assert (operation.error, operation.code) == (None, None)
    assert untraced.observer.ended.called


def test_an_unknown_script_is_reported_with_its_code(untraced: Parts) -> None:
    operation = untraced.start()
    operation.end_noscript()
    assert (operation.error, operation.code) == (None, "NOSCRIPT")
    assert untraced.observer.ended.mock_calls == [call(operation, None)]


def test_an_observer_that_fails_hides_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parts = Parts(monkeypatch)
    parts.telemetry.observers = [Mock(spec=[]), parts.observer]
    operation = parts.start()
    operation.end()
    assert [each[0] for each in parts.observer.mock_calls] == ["started", "ended"]
    assert len(caplog.records) == 1


def test_the_details_of_an_earlier_call_are_discarded(untraced: Parts) -> None:
    add_wait_time(1.0)
    untraced.start()
    assert has_call_details() is None


def test_the_details_of_a_call_that_began_earlier_are_kept(untraced: Parts) -> None:
    add_wait_time(1.0)
    operation = untraced.start(time.time_ns())
    operation.end()
    assert operation.notes is not None
    assert operation.notes.waited == 1.0


def test_the_observer_of_an_environ_comes_before_that_of_the_context() -> None:
    first, second = Mock(), Mock()
    token = current_observer.set(second)
    try:
        assert observer_of({OBSERVER_KEY: first}) is first
        assert observer_of({}) is second
    finally:
        current_observer.reset(token)
    assert observer_of({}) is None


# Nothing to record


def test_an_operation_that_nothing_records_is_none(untraced: Parts) -> None:
    untraced.telemetry.observers = []
    assert untraced.telemetry.start_command(INVALID_SPAN, GET) is None
    assert untraced.telemetry.start_batch(INVALID_SPAN, "foo.load", False, PAIR) is None


def test_a_command_without_arguments_is_not_recorded(untraced: Parts) -> None:
    assert untraced.telemetry.start_command(INVALID_SPAN, ()) is None


def test_without_an_operation_the_call_is_made() -> None:
    assert run_operation(None, lambda: 7) == 7


# Metrics


@pytest.mark.parametrize(
    ("has_metrics", "metered", "is_suppressed", "is_measured"),
    [
        (True, True, False, True),
        (False, True, False, False),
        (True, False, False, False),
        (True, True, True, False),
    ],
)
@pytest.mark.parametrize("is_batch", [False, True])
def test_an_operation_is_measured_if_metrics_are_on_and_not_suppressed(
    monkeypatch: pytest.MonkeyPatch, untraced: Parts, has_metrics: bool, metered: bool,
    is_suppressed: bool, is_measured: bool, is_batch: bool,
) -> None:  # fmt: skip
    untraced.has_metrics = has_metrics
    untraced.telemetry._metered = metered
    monkeypatch.setattr(otel, "is_suppressed", lambda: is_suppressed)
    operation = untraced.start_batch() if is_batch else untraced.start()
    assert operation.metered is is_measured
    operation.end()
    assert untraced.recorded.called is is_measured


@pytest.mark.parametrize(
    ("has_metrics", "metered", "is_suppressed", "expected"),
    [
        (True, True, False, True),
        (False, True, False, False),
        (True, False, False, False),
        (True, True, True, False),
    ],
)
def test_metrics_are_on_if_there_is_a_provider_and_nothing_suppresses_them(
    monkeypatch: pytest.MonkeyPatch, has_metrics: bool, metered: bool, is_suppressed: bool,
    expected: bool,
) -> None:  # fmt: skip
    parts = Parts(monkeypatch, has_metrics=has_metrics, metered=metered)
    monkeypatch.setattr(otel, "is_suppressed", lambda: is_suppressed)
    assert parts.telemetry.is_metered() is expected


@pytest.mark.parametrize("is_batch", [False, True])
def test_a_traced_operation_is_measured_whatever_is_suppressed_meanwhile(
    monkeypatch: pytest.MonkeyPatch, is_batch: bool
) -> None:
    parts = Parts(monkeypatch, has_metrics=True)
    monkeypatch.setattr(otel, "is_suppressed", lambda: True)
    operation = parts.start_batch() if is_batch else parts.start()
    assert operation.metered


def test_a_measurement_has_the_duration_the_attributes_and_the_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = Parts(monkeypatch, has_metrics=True)
    error = redis.ResponseError("WRONGTYPE not a list")
    operation = parts.start()
    operation.fail(error)
    assert parts.recorded.mock_calls == [call(operation.duration, NAMED, error, "WRONGTYPE")]
    assert operation.duration > 0


def test_a_measurement_that_fails_is_logged_and_reported_to_the_observers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parts = Parts(monkeypatch, has_metrics=True, is_observed=True)
    parts.recorded.side_effect = RuntimeError
    parts.start().end()
    assert "measuring an operation failed" in caplog.text
    assert parts.observer.ended.called


# Spans that start with the operation


def test_a_span_begins_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts(monkeypatch)
    operation = parts.start()
    assert parts.tracer.started_command.mock_calls[0] == call(CONTEXT, GET, None)
    operation.end()
    assert parts.span.mock_calls == [call.end()]


def test_a_span_that_measures_itself_discards_earlier_details(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_wait_time(1.0)
    operation = Parts(monkeypatch).start()
    assert has_call_details() is None
    operation.end()
    assert operation.notes is None


def test_the_details_of_a_call_become_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts(monkeypatch)
    operation = parts.start()
    add_wait_time(1.5)
    operation.end()
    assert parts.span.mock_calls == [
        call.set_attribute(span_outcomes.WAIT_TIME, 1.5), call.end(),
    ]  # fmt: skip


def test_the_details_of_a_span_that_began_earlier_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = Parts(monkeypatch)
    add_wait_time(1.5)
    parts.start(17).end()
    assert parts.tracer.started_command.mock_calls[0] == call(CONTEXT, GET, 17)
    assert call.set_attribute(span_outcomes.WAIT_TIME, 1.5) in parts.span.mock_calls


def test_a_span_that_cannot_be_ended_breaks_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parts = Parts(monkeypatch)
    parts.span.end.side_effect = RuntimeError
    parts.start().end()
    assert "ending a span failed" in caplog.text


def test_a_span_may_be_renamed_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts(monkeypatch)
    parts.start().describe_as("ack jobs", {"a": 1})
    assert parts.span.mock_calls == [call.update_name("ack jobs"), call.set_attributes({"a": 1})]


def test_a_pipelines_span_has_its_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts(monkeypatch)
    operation = parts.start_batch(is_transaction=True)
    attributes = {"db.operation.name": "PIPELINE"}
    assert parts.tracer.batch_attributes.mock_calls == [call(True, PAIR)]
    assert parts.tracer.started_batch.mock_calls == [call(CONTEXT, "foo.load", attributes, PAIR)]
    assert (operation.trace_name, operation.name) == ("foo.load", "PIPELINE")
    operation.end()
    assert parts.tracer.batch_attributes.call_count == 1  # once for each pipeline


def test_the_name_of_a_commands_span_is_known_without_a_span(untraced: Parts) -> None:
    assert untraced.start().trace_name == "foo.GET"


# Spans that start when the operation ends


def test_on_a_cluster_a_span_starts_when_the_node_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts(monkeypatch, in_cluster=True)
    before = time.time_ns()
    operation = parts.start()
    assert not parts.tracer.started_command.called
    add_wait_time(1.5)
    operation.describe_as("ack jobs", {})
    operation.end()
    ((context, args, started, notes), _) = parts.tracer.started_command.call_args
    assert (context, args) == (CONTEXT, GET)
    assert before <= started <= time.time_ns()
    assert notes.waited == 1.5
    assert parts.span.mock_calls[:2] == [call.update_name("ack jobs"), call.set_attributes({})]
    assert parts.span.mock_calls[-1] == call.end()


def test_on_a_cluster_a_span_may_have_begun_earlier(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts(monkeypatch, in_cluster=True)
    parts.start(17).end()
    assert parts.tracer.started_command.call_args.args[2] == 17


def test_without_totals_a_fast_operation_has_a_span(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no request that could count it."""
    parts = Parts(monkeypatch, in_cluster=True, min_duration=1.0)
    monkeypatch.setattr(request_totals, "found", lambda context, span: None)
    parts.start().end()
    assert parts.span.end.called


def test_a_fast_command_is_counted_and_has_no_span(counted: Parts) -> None:
    operation = counted.start()
    add_wait_time(0.0)
    operation.end()
    assert counted.totals.mock_calls == [call.add("foo", 1, operation.duration, 0.0)]
    assert 0 < operation.duration < 1
    assert not counted.tracer.started_command.called


def test_a_fast_pipeline_counts_its_commands(counted: Parts) -> None:
    operation = counted.start_batch()
    operation.end()
    assert counted.totals.mock_calls == [call.add("foo", 2, operation.duration, 0.0)]
    assert not counted.tracer.started_batch.called


def test_an_operation_that_waited_is_counted_and_has_a_span(counted: Parts) -> None:
    operation = counted.start()
    add_wait_time(0.25)
    operation.end()
    assert counted.totals.mock_calls == [call.add("foo", 1, operation.duration, 0.25)]
    assert counted.tracer.started_command.called


def test_a_failed_operation_is_counted_and_has_a_span(counted: Parts) -> None:
    counted.start().fail(redis.ConnectionError("gone"))
    assert counted.totals.add.called
    assert counted.tracer.started_command.called


def test_an_operation_of_exactly_the_limit_has_a_span(
    counted: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter([5.0, 6.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(moments))
    operation = counted.start()
    operation.end()
    assert operation.duration == 1.0
    assert counted.tracer.started_command.called


def test_a_request_that_has_ended_counts_nothing_so_that_there_is_a_span(counted: Parts) -> None:
    counted.totals.add.return_value = False
    counted.start().end()
    assert counted.tracer.started_command.called


def test_an_operation_that_cannot_be_counted_has_a_span(
    counted: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    counted.totals.add.side_effect = RuntimeError
    counted.start().end()
    assert counted.tracer.started_command.called
    assert "counting the operations of a request failed" in caplog.text


def test_a_slow_pipelines_span_has_its_attributes_and_start(
    counted: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter([5.0, 7.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(moments))
    before = time.time_ns()
    counted.start_batch().end()
    attributes = {"db.operation.name": "PIPELINE"}
    assert counted.tracer.started_batch.mock_calls[0] == call(
        CONTEXT, "foo.load", attributes, PAIR, ANY
    )
    assert before <= counted.tracer.started_batch.call_args.args[4] <= time.time_ns()


@pytest.mark.parametrize(("min_duration", "is_enabled"), [(0.0, False), (0.5, True)])
def test_requests_count_operations_only_if_a_client_needs_it(
    monkeypatch: pytest.MonkeyPatch, min_duration: float, is_enabled: bool
) -> None:
    enable = Mock()
    monkeypatch.setattr(request_totals, "enable", enable)
    ClientTelemetry(Mock(), min_duration=min_duration)
    assert enable.called is is_enabled


# Copies of a client's telemetry


def test_a_copy_has_the_same_settings_and_one_more_observer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = Parts(monkeypatch, metered=False, in_cluster=True, min_duration=1.0, is_observed=True)
    another = Mock()
    twin = parts.telemetry.observed_by(another)
    assert list(twin.observers) == [parts.observer, another]
    assert (twin._metered, twin._in_cluster, twin.min_duration) == (False, True, 1.0)
    assert twin.tracer is parts.tracer
    assert parts.telemetry.children_only().tracer is parts.tracer.children_only.return_value


def test_a_pool_of_redis_py_is_measured_and_in_no_cluster() -> None:
    telemetry = ClientTelemetry.for_pool(redis.ConnectionPool(), "redis")
    assert (telemetry._metered, telemetry._in_cluster, telemetry.min_duration) == (True, False, 0.0)
    assert list(telemetry.observers) == []


# Running a call


def test_the_end_of_a_call_is_recorded() -> None:
    operation = Mock()
    assert run_operation(operation, lambda: 7) == 7
    assert operation.mock_calls == [call.end(7)]


def test_the_failure_of_a_call_is_recorded_and_raised() -> None:
    operation, error = Mock(), KeyboardInterrupt()

    def fail() -> None:
        raise error

    with pytest.raises(KeyboardInterrupt):
        run_operation(operation, fail)
    assert operation.mock_calls == [call.fail(error)]


@pytest.mark.parametrize("may_contain_errors", [False, True])
def test_an_error_among_the_results_is_a_failure_if_there_may_be_some(
    may_contain_errors: bool,
) -> None:
    operation, results = Mock(), [1, KeyError("a"), KeyError("b")]
    call_of = lambda: results  # noqa: E731
    assert run_operation(operation, call_of, may_contain_errors=may_contain_errors) == results
    failed = [call.fail(results[1], results)] if may_contain_errors else [call.end(results)]
    assert operation.mock_calls == failed


def test_results_without_an_error_are_a_success() -> None:
    operation = Mock()
    run_operation(operation, lambda: [1, 2], may_contain_errors=True)
    assert operation.mock_calls == [call.end([1, 2])]


def test_errors_among_the_results_are_results_unless_it_is_said_otherwise() -> None:
    operation, results = Mock(), [KeyError("a")]
    run_operation(operation, lambda: results)
    assert operation.mock_calls == [call.end(results)]
