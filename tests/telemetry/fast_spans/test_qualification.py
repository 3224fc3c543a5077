"""Only a tracer of the SDK whose processors are the SDK's makes spans at their end."""

from __future__ import annotations

import functools
import sys
from typing import Any
from unittest.mock import Mock

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk import trace as sdk_trace
from opentelemetry.sdk import version
from opentelemetry.sdk.trace import (
    ConcurrentMultiSpanProcessor,
    ReadableSpan,
    SpanLimits,
    SynchronousMultiSpanProcessor,
    TracerProvider,
    sampling,
)
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Span

from pyramid_baseplate_redis.telemetry import command_spans, span_outcomes
from pyramid_baseplate_redis.telemetry.fast_spans import span as fast_span
from pyramid_baseplate_redis.telemetry.fast_spans.qualification import SdkTracer
from pyramid_baseplate_redis.telemetry.fast_spans.span import FastSpan

from ...support.fast_spans import (
    IS_FAST,
    RELEASE,
    Foreign,
    Numbered,
    Recorder,
    context_of,
    local,
    only_fast,
    started,
    success,
)


def is_fast(monkeypatch: pytest.MonkeyPatch, tracer: Any) -> bool:
    """Return whether a tracer's span is made at its end. It is recorded in both cases."""
    monkeypatch.setattr(command_spans, "tracer", tracer)
    span = started(Context())
    assert span.is_recording()
    span.end()
    return type(span) is FastSpan


def test_the_release_and_the_processors_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_fast(monkeypatch, Recorder(True).tracer) is IS_FAST
    assert not is_fast(monkeypatch, Recorder(False).tracer)


@only_fast
def test_the_context_of_a_child_is_made_without_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """This takes less time; without it, the span would be the same."""
    monkeypatch.setattr(command_spans, "tracer", Recorder(True).tracer)
    monkeypatch.setattr(fast_span, "_sampled", Mock(side_effect=AssertionError))

    span = started(context_of(local()))
    span.end()
    assert type(span) is FastSpan


@only_fast
def test_a_processor_that_is_added_later_counts_from_the_next_span(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder, foreign = Recorder(True), Foreign()
    monkeypatch.setattr(command_spans, "tracer", recorder.tracer)
    success(Context())
    running = started(Context())
    recorder.provider.add_span_processor(foreign)
    span_outcomes.end(running)
    # As with the SDK's span.
    assert (foreign.started, foreign.ending, foreign.ended) == ([], ["foo.GET"], ["foo.GET"])
    span = started(Context())
    assert type(span) is not FastSpan
    span_outcomes.end(span)
    assert (foreign.started, foreign.ended) == (["foo.GET"], ["foo.GET", "foo.GET"])
    assert len(recorder.spans) == 3


@only_fast
def test_the_decision_is_taken_anew_when_a_processor_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder = Recorder(False)
    assert not is_fast(monkeypatch, recorder.tracer)
    processors: Any = recorder.tracer.span_processor  # type: ignore[attr-defined]
    processors._span_processors = processors._span_processors[:-1]
    assert is_fast(monkeypatch, recorder.tracer)


def test_a_multi_processor_in_another_one_gets_processors_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder, multi, foreign = Recorder(True), SynchronousMultiSpanProcessor(), Foreign()
    monkeypatch.setattr(command_spans, "tracer", recorder.tracer)
    recorder.provider.add_span_processor(multi)
    success(Context())
    multi.add_span_processor(foreign)
    success(Context())
    assert (foreign.started, foreign.ended) == (["foo.GET"], ["foo.GET"])


class Subclass(SimpleSpanProcessor):
    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        span.set_attribute("baggage", "value")


@pytest.mark.parametrize("changing", ["class", "instance", "all"])
def test_a_processor_that_changes_spans_gets_the_sdks(
    monkeypatch: pytest.MonkeyPatch, changing: str
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    processor: Any = SimpleSpanProcessor(exporter)
    if changing == "class":
        processor = Subclass(exporter)
    elif changing == "instance":  # as an instrumentation does
        processor.on_start = Subclass(exporter).on_start
    provider.add_span_processor(processor)
    tracer: Any = provider.get_tracer("package")
    if changing == "all":
        tracer.span_processor.on_start = Subclass(exporter).on_start
    monkeypatch.setattr(command_spans, "tracer", tracer)
    success(Context())
    (span,) = exporter.get_finished_spans()
    assert (span.attributes or {})["baggage"] == "value"


@only_fast
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("_span_limits", SpanLimits(max_span_attribute_length=3)),
        ("_tracer_metrics", Mock()),
        ("span_processor", ConcurrentMultiSpanProcessor()),
        ("start_span", Mock(side_effect=lambda *args, **kwargs: Mock(Span))),
    ],
)
def test_the_decision_is_taken_anew_when_the_tracer_changes(
    monkeypatch: pytest.MonkeyPatch, name: str, value: Any
) -> None:
    tracer = Recorder(True).tracer
    if name != "start_span":  # an instrumentation replaces it before the first span
        assert is_fast(monkeypatch, tracer)
    setattr(tracer, name, value)
    assert not is_fast(monkeypatch, tracer)


@only_fast
def test_a_tracers_new_sampler_and_generator_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    tracer: Any = Recorder(True).tracer
    assert is_fast(monkeypatch, tracer)
    tracer.id_generator = Numbered()
    tracer.id_generator.last = 1000
    span = started(context_of(local()))
    assert (type(span), span.get_span_context().span_id) == (FastSpan, 1001)
    tracer.sampler = sampling.ALWAYS_OFF
    assert started(context_of(local())) is None


@only_fast
def test_a_subclass_of_the_sdks_tracer_makes_its_own_spans(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tracer = Recorder(True).tracer
    tracer.__class__ = type("Subclass", (sdk_trace.Tracer,), {})
    assert not is_fast(monkeypatch, tracer)


def test_an_application_without_the_sdks_exporters_gets_its_spans(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider, foreign = TracerProvider(shutdown_on_exit=False), Foreign()
    provider.add_span_processor(foreign)
    monkeypatch.delitem(sys.modules, "opentelemetry.sdk.trace.export")
    assert not is_fast(monkeypatch, provider.get_tracer("package"))
    assert foreign.started == foreign.ended == ["foo.GET"]


def test_parallel_processors_get_the_sdks_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(True, active_span_processor=ConcurrentMultiSpanProcessor())
    assert not is_fast(monkeypatch, recorder.tracer)
    assert len(recorder.spans) == 1


def test_a_tracer_that_wraps_the_sdks_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrapper(trace.NoOpTracer):
        def __init__(self) -> None:
            self._tracer = Recorder(True).tracer
            self.names: list[str] = []

        def start_span(self, name: str, *args: Any, **kwargs: Any) -> trace.Span:
            self.names.append(name)
            return self._tracer.start_span(name, *args, **kwargs)

    wrapper = Wrapper()
    assert not is_fast(monkeypatch, wrapper)
    assert wrapper.names == ["foo.GET"]


@only_fast
def test_a_proxy_finds_a_provider_that_is_set_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    proxy = trace.ProxyTracer("package")
    monkeypatch.setattr(command_spans, "tracer", proxy)
    assert command_spans.started("foo.GET", Context(), {}) is None
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", Recorder(True).provider)
    assert is_fast(monkeypatch, proxy)


@only_fast
def test_the_sdks_own_metrics_count_its_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    assert not is_fast(monkeypatch, Recorder(True).tracer)


@pytest.mark.parametrize("release", ["1.41.1", "unknown"])
def test_another_release_makes_its_own_spans(monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    monkeypatch.setattr(version, "__version__", release)
    assert not is_fast(monkeypatch, Recorder(True).tracer)


def test_a_release_whose_spans_have_more_fields_makes_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Other(ReadableSpan):
        def __init__(self, entities: object = None, **fields: Any) -> None:
            super().__init__(**fields)

    monkeypatch.setattr(sdk_trace, "ReadableSpan", Other)
    assert not is_fast(monkeypatch, Recorder(True).tracer)


ROOT, LOCAL, REMOTE = "roots", "local children", "remote children"


@only_fast
@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        (sampling.ALWAYS_ON, {ROOT, LOCAL, REMOTE}),
        (sampling.ALWAYS_OFF, set()),
        (sampling.DEFAULT_ON, {ROOT, LOCAL, REMOTE}),
        (sampling.DEFAULT_OFF, {LOCAL, REMOTE}),
        # As OTEL_TRACES_SAMPLER names it.
        (sampling.ParentBasedTraceIdRatio(0.1), {LOCAL, REMOTE}),
        (sampling.TraceIdRatioBased(0.1), set()),
        (
            sampling.ParentBased(sampling.ALWAYS_ON, local_parent_sampled=sampling.ALWAYS_OFF),
            {ROOT, REMOTE},
        ),
        (
            sampling.ParentBased(sampling.ALWAYS_ON, remote_parent_sampled=sampling.ALWAYS_OFF),
            {ROOT, LOCAL},
        ),
        (sampling.StaticSampler(sampling.Decision.RECORD_ONLY), set()),
    ],
)
def test_which_spans_need_not_be_decided_on(sampler: sampling.Sampler, expected: set[str]) -> None:
    sdk = SdkTracer(Recorder(True, sampler=sampler).tracer)
    # SDK 1.42 asks its generator about each span, so only roots are known.
    known = {ROOT, LOCAL, REMOTE} if RELEASE >= (1, 43) else {ROOT}
    found = {ROOT: sdk.samples_roots, LOCAL: sdk.samples_children,
             REMOTE: sdk.samples_remote_children}  # fmt: skip
    assert {name for name, samples in found.items() if samples} == expected & known


@only_fast
def test_a_class_whose_method_is_replaced_makes_its_own_spans(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original, names = sdk_trace.Tracer.start_span, []

    @functools.wraps(original)
    def start_span(self: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        names.append(name)
        return original(self, name, *args, **kwargs)

    monkeypatch.setattr(sdk_trace.Tracer, "start_span", start_span)
    assert not is_fast(monkeypatch, Recorder(True).tracer)
    assert names == ["foo.GET"]


def test_an_applications_sampler_decides_on_each_child(monkeypatch: pytest.MonkeyPatch) -> None:
    class Never(sampling.ParentBased):
        def should_sample(self, *args: Any, **kwargs: Any) -> sampling.SamplingResult:
            return sampling.SamplingResult(sampling.Decision.DROP)

    recorder = Recorder(True, sampler=Never(sampling.ALWAYS_ON))
    monkeypatch.setattr(command_spans, "tracer", recorder.tracer)
    assert started(context_of(local())) is None


def test_the_batch_processor_exports_the_span(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    monkeypatch.setattr(command_spans, "tracer", provider.get_tracer("package"))
    success(Context())
    provider.force_flush()
    assert [span.name for span in exporter.get_finished_spans()] == ["foo.GET"]
    provider.shutdown()
    success(Context())
    assert [span.name for span in exporter.get_finished_spans()] == ["foo.GET"]


@only_fast
def test_a_disabled_tracer_records_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(True)
    monkeypatch.setattr(command_spans, "tracer", recorder.tracer)
    success(Context())
    recorder.provider._set_tracer_configurator(
        tracer_configurator=sys.modules["opentelemetry.sdk.trace"]._disable_tracer_configurator
    )
    assert started(Context()) is None
    assert len(recorder.spans) == 1
