"""Decide whether spans may be made past the SDK's tracer. Knows the SDK's private names.

A command's span is never current while the command runs. Nothing can see whether it was started at
the beginning or is made at the end, unless a processor of the application looks at it: the SDK's
own do not. A sampler is asked at the beginning in both cases.

A span that becomes the current one is an object of the SDK from its start; see
:mod:`.current_span`.

The first release of the SDK with such spans is 1.42. Those before it count each span that starts,
and do not mark random trace identifiers.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry import trace

#: Spans with more attributes are made by the SDK, since its limit may be lower.
MOST_ATTRIBUTES = 32
_SDK = "opentelemetry.sdk.trace"
_FIRST_RELEASE = (1, 42)
# The parameters of ReadableSpan; a release with other ones may know more of a span.
_FIELDS = [
    "name", "context", "parent", "resource", "attributes", "events", "links", "kind",
    "instrumentation_info", "status", "start_time", "end_time", "instrumentation_scope",
]  # fmt: skip
# The parameters of a span, in the order in which start_span() passes them.
_SPAN_FIELDS = [
    "self", "name", "context", "parent", "sampler", "trace_config", "resource", "attributes",
    "events", "links", "kind", "span_processor", "instrumentation_info", "record_exception",
    "set_status_on_exception", "limits", "instrumentation_scope", "record_end_metrics",
]  # fmt: skip
# What BatchSpanProcessor.on_end() does: it lets a sampled span be queued.
_BATCHING_STEPS = ("context", "trace_flags", "sampled", "_batch_processor", "emit")


class SdkTracer:
    """A tracer of the SDK, with what was known about it when it was looked at.

    :param tracer: the tracer, of any class.
    """

    def __init__(self, tracer: Any) -> None:
        self.tracer = tracer
        #: Whether its spans may be made at their end.
        self.qualifies = False
        #: Whether the current span may be made without asking it.
        self.makes_current_spans = False
        #: Whether it samples each child of a local parent that is sampled, and adds nothing.
        self.samples_children = False
        #: The same for parents in other processes.
        self.samples_remote_children = False
        #: Whether it samples each span without a parent, and adds nothing.
        self.samples_roots = False
        #: The processors of its spans.
        self.processors: tuple[Any, ...] = ()
        #: Call each of these with a sampled span that has ended.
        self.receivers: tuple[Callable[[Any], object], ...] = ()
        self.is_read = False
        try:
            self._read()
        except Exception:  # no tracer of the SDK, or another release of it
            return

    def _read(self) -> None:
        tracer, sdk = self.tracer, sys.modules[_SDK]
        self.processor = tracer.span_processor
        self.sampler = tracer.sampler
        self.limits = tracer._span_limits
        self.metrics = tracer._tracer_metrics
        #: Return whether it starts spans now.
        self.is_enabled = tracer._is_enabled
        self.id_generator = tracer.id_generator
        self.scope = tracer._instrumentation_scope
        self.info = tracer.instrumentation_info
        self.readable_span = sdk.ReadableSpan
        self.span_class = sdk._Span
        self.processors = tracer.span_processor._span_processors
        self.is_read = True
        # SDK 1.42 asks the generator about each trace identifier, even one from a parent.
        self.inherits_random = "random_trace_id" in sdk.Tracer.start_span.__code__.co_names
        if self.inherits_random:
            self.samples_children = _always_samples(
                tracer.sampler, lambda parent_based: parent_based._local_parent_sampled
            )
            self.samples_remote_children = _always_samples(
                tracer.sampler, lambda parent_based: parent_based._remote_parent_sampled
            )
        self.samples_roots = _always_samples(
            tracer.sampler, lambda parent_based: parent_based._root
        )
        self.qualifies = _qualifies(tracer)
        if self.qualifies:
            self.receivers = tuple(map(_receiver, self.processors))
            self._end_metrics = tracer._tracer_metrics.start_span(None, None)
            self.makes_current_spans = _makes_current_spans(tracer)

    def make_span(
        self, *, status: Any, start_time: int, end_time: int | None, **fields: Any
    ) -> Any:
        """Return a span of the SDK that started earlier. No processor is notified of its start.

        :param end_time: of a span that has ended, whose methods log warnings.
        :param fields: the other arguments of the SDK's class.
        """
        span = self.span_class(
            sampler=self.sampler,
            span_processor=self.processor,
            limits=self.limits,
            instrumentation_info=self.info,
            instrumentation_scope=self.scope,
            **fields,
        )
        span.set_status(status)
        span._start_time = start_time
        span._end_time = end_time
        return span

    def start_span(
        self,
        name: str,
        context: Any,
        parent: Any,
        attributes: dict[str, Any],
        kind: Any,
        links: Sequence[Any],
        parent_context: Any,
    ) -> trace.Span:
        """Start a span of the SDK that is sampled. Its processors are notified.

        :param attributes: need no conversion, and belong to this span alone.
        :param parent_context: the context that contains the parent, if there is one.
        """
        span: Any = self.span_class(  # by position, which is faster
            name, context, parent, self.sampler, None, self.tracer.resource, None, None, links,
            kind, self.processor, self.info, True, True, self.limits, self.scope,
            record_end_metrics=self._end_metrics,
        )  # fmt: skip
        span._attributes._dict = attributes
        span.start(None, parent_context)
        started: trace.Span = span
        return started


_known: SdkTracer | None = None


def qualified(tracer: Any) -> SdkTracer | None:
    """Return the SDK's tracer if its spans may be made at their end; else ``None``.

    :param tracer: the SDK's, or a proxy of OpenTelemetry's API for it.
    """
    global _known
    known = _known
    real = tracer
    if type(tracer) is trace.ProxyTracer:
        # The second name looks for a provider as long as there is none.
        real = getattr(tracer, "_real_tracer", None) or getattr(tracer, "_tracer", tracer)
    # The tracer's processors, its sampler and so on may have changed since.
    if (
        known is None
        or known.tracer is not real
        or (
            known.is_read
            and not (
                real.span_processor is known.processor
                and real.span_processor._span_processors is known.processors
                and real.sampler is known.sampler
                and real.id_generator is known.id_generator
                and real._span_limits is known.limits
                and real._tracer_metrics is known.metrics
            )
        )
    ):
        known = _known = SdkTracer(real)
    return known if known.qualifies else None


def _qualifies(tracer: Any) -> bool:
    sdk = sys.modules[_SDK]
    release = sys.modules["opentelemetry.sdk.version"].__version__.split(".")
    limits, processor = tracer._span_limits, tracer.span_processor
    return (
        tuple(int(part) for part in release[:2]) >= _FIRST_RELEASE
        and list(inspect.signature(sdk.ReadableSpan).parameters) == _FIELDS
        and type(tracer) is sdk.Tracer
        and "start_span" not in vars(tracer)
        and _is_of_module(vars(sdk.Tracer)["start_span"], sdk)
        and type(tracer._tracer_metrics).__name__ == "NoOpTracerMetrics"
        and (limits.max_span_attributes is None or limits.max_span_attributes >= MOST_ATTRIBUTES)
        and limits.max_span_attribute_length is None
        and type(processor) is sdk.SynchronousMultiSpanProcessor
        and not _is_wrapped(processor)
        and all(map(_is_of_the_sdk, processor._span_processors))
    )


def _is_of_the_sdk(processor: Any) -> bool:
    """Return whether a processor only looks at spans that have ended.

    A multi-processor inside another one does not count, since it may get processors unnoticed.
    """
    # An application whose processors are all its own need not have imported the SDK's.
    export = sys.modules.get(f"{_SDK}.export")
    return (
        export is not None
        and type(processor) in (export.BatchSpanProcessor, export.SimpleSpanProcessor)
        and not _is_wrapped(processor)
    )


def _receiver(processor: Any) -> Callable[[Any], object]:
    """Return what a processor of the SDK calls with a sampled span, past its own look at it."""
    received: Callable[[Any], object] = processor.on_end
    batching = sys.modules[f"{_SDK}.export"].BatchSpanProcessor
    if type(processor) is batching and batching.on_end.__code__.co_names == _BATCHING_STEPS:
        received = processor._batch_processor.emit
    return received


def _is_wrapped(processor: Any) -> bool:
    """Return whether an instrumentation has replaced a method of this processor."""
    return not vars(processor).keys().isdisjoint(("on_start", "_on_ending", "on_end"))


def _is_of_module(method: Any, module: Any) -> bool:
    """Return whether a method of a class is still the one that its module defines."""
    return inspect.isfunction(method) and method.__globals__ is vars(module)


def _makes_current_spans(tracer: Any) -> bool:
    """Return whether :meth:`SdkTracer.start_span` makes the same span as the SDK's."""
    sdk = sys.modules[_SDK]
    fields = list(inspect.signature(sdk._Span.__init__).parameters)
    return fields == _SPAN_FIELDS and _holds_attributes_in_a_dict(
        sdk.BoundedAttributes, tracer._span_limits
    )


def _holds_attributes_in_a_dict(bounded: Any, limits: Any) -> bool:
    """Return whether attributes that need no conversion are just put into one dictionary."""
    most, plain = limits.max_span_attributes, {"text": "a", "number": 1, "flag": True, "half": 0.5}
    empty, filled = (vars(bounded(most, given, immutable=False)) for given in (None, plain))
    return (
        type(filled["_dict"]) is type(empty["_dict"]) is dict
        and list(filled["_dict"].items()) == list(plain.items())
        and filled.keys() == empty.keys()
        and all(filled[name] == empty[name] for name in filled if name not in ("_dict", "_lock"))
    )


def _always_samples(sampler: Any, delegate: Callable[[Any], Any]) -> bool:
    """Return whether a sampler is known to sample all spans of a kind, and to add nothing.

    The SDK's samplers that are named by ``OTEL_TRACES_SAMPLER`` are subclasses.

    :param delegate: returns the sampler that a ``ParentBased`` one has for these spans.
    """
    sampling = sys.modules[f"{_SDK}.sampling"]
    if _decides_as(sampler, sampling.ParentBased):
        sampler = delegate(sampler)
    return (
        _decides_as(sampler, sampling.StaticSampler)
        and sampler._decision is sampling.Decision.RECORD_AND_SAMPLE
    )


def _decides_as(sampler: Any, cls: Any) -> bool:
    return getattr(sampler.should_sample, "__func__", None) is cls.should_sample
