"""Decide whether a tracer's spans may be made at their end. Knows the SDK's private names.

A command's span is never current while the command runs. Nothing can see whether it was started at
the beginning or is made at the end, unless a processor of the application looks at it: the SDK's
own do not. A sampler is asked at the beginning in both cases.

The SDK's releases before 1.43 always make their own spans: they count the spans that they start, or
mark random trace identifiers in another way.
"""

from __future__ import annotations

import sys
from typing import Any

_SDK = "opentelemetry.sdk.trace"
_FIRST_RELEASE = (1, 43)
_MOST_ATTRIBUTES = 32  # more than any span of this package has


class SdkTracer:
    """A tracer of the SDK, with what was known about it when it was looked at.

    :param tracer: the tracer, of any class.
    """

    def __init__(self, tracer: Any) -> None:
        self.tracer = tracer
        #: Whether its spans may be made at their end.
        self.qualifies = False
        #: Whether it samples each child of a local parent that is sampled, and adds nothing.
        self.samples_children = False
        #: Whether its identifiers are random and valid.
        self.has_random_ids = False
        #: The processors of its spans.
        self.processors: tuple[Any, ...] = ()
        if type(tracer).__module__ != _SDK:
            return
        try:
            self._read()
        except AttributeError:  # another release of the SDK
            return

    def _read(self) -> None:
        tracer, sdk = self.tracer, sys.modules[_SDK]
        self._processor = tracer.span_processor
        self._sampler = tracer.sampler
        self._limits = tracer._span_limits
        self._metrics = tracer._tracer_metrics
        #: Return whether it starts spans now.
        self.is_enabled = tracer._is_enabled
        self.id_generator = tracer.id_generator
        self.scope = tracer._instrumentation_scope
        self.info = tracer.instrumentation_info
        self.readable_span = sdk.ReadableSpan
        self.processors = tracer.span_processor._span_processors
        self.samples_children = _samples_children(tracer.sampler)
        self.has_random_ids = type(tracer.id_generator) is sdk.RandomIdGenerator
        self.qualifies = _qualifies(tracer)

    @property
    def is_current(self) -> bool:
        """Return whether it has the same processors, sampler and so on as it had then."""
        tracer = self.tracer
        return (
            tracer.span_processor is self._processor
            and self._processor._span_processors is self.processors
            and tracer.sampler is self._sampler
            and tracer.id_generator is self.id_generator
            and tracer._span_limits is self._limits
            and tracer._tracer_metrics is self._metrics
        )

    @property
    def has_new_processors(self) -> bool:
        """Return whether a processor was added since."""
        return self._processor._span_processors is not self.processors

    def make_span(
        self, name: str, context: Any, parent: Any, resource: Any, kind: Any, start_time: int
    ) -> Any:
        """Return a span of the SDK that started earlier. No processor is notified of its start."""
        tracer = self.tracer
        span = sys.modules[_SDK]._Span(
            name=name, context=context, parent=parent, sampler=tracer.sampler, resource=resource,
            span_processor=self._processor, kind=kind, limits=self._limits,
            instrumentation_info=self.info, instrumentation_scope=self.scope,
        )  # fmt: skip
        span._start_time = start_time
        return span


_known: SdkTracer | None = None


def qualified(tracer: Any) -> SdkTracer | None:
    """Return the SDK's tracer if its spans may be made at their end; else ``None``.

    :param tracer: the SDK's, or a proxy of OpenTelemetry's API for it.
    """
    global _known
    known = _known
    # A proxy has both names; the second one looks for a provider as long as there is none.
    real = getattr(tracer, "_real_tracer", None) or getattr(tracer, "_tracer", tracer)
    if known is None or known.tracer is not real or (known.qualifies and not known.is_current):
        known = _known = SdkTracer(real)
    return known if known.qualifies else None


def _qualifies(tracer: Any) -> bool:
    sdk = sys.modules[_SDK]
    release = sys.modules["opentelemetry.sdk.version"].__version__.split(".")
    limits = tracer._span_limits
    return (
        tuple(int(part) for part in release[:2]) >= _FIRST_RELEASE
        and type(tracer) is sdk.Tracer
        and "start_span" not in vars(tracer)
        and type(tracer._tracer_metrics).__name__ == "NoOpTracerMetrics"
        and (limits.max_span_attributes is None or limits.max_span_attributes >= _MOST_ATTRIBUTES)
        and limits.max_span_attribute_length is None
        and type(tracer.span_processor) is sdk.SynchronousMultiSpanProcessor
        and _is_of_the_sdk(tracer.span_processor)
    )


def _is_of_the_sdk(processor: Any) -> bool:
    """Return whether a processor, and each one in it, only looks at spans that have ended."""
    sdk = sys.modules[_SDK]
    if not vars(processor).keys().isdisjoint(("on_start", "_on_ending", "on_end")):
        return False
    if type(processor) is sdk.SynchronousMultiSpanProcessor:
        return all(map(_is_of_the_sdk, processor._span_processors))
    # It is not imported if the application has only processors of its own.
    export = sys.modules.get(f"{_SDK}.export")
    return export is not None and type(processor) in (
        export.BatchSpanProcessor,
        export.SimpleSpanProcessor,
    )


def _samples_children(sampler: Any) -> bool:
    """Return whether a sampler is known to sample the children of sampled local spans."""
    sampling = sys.modules[f"{_SDK}.sampling"]
    if type(sampler) is sampling.ParentBased:
        sampler = sampler._local_parent_sampled
    return (
        type(sampler) is sampling.StaticSampler
        and sampler._decision is sampling.Decision.RECORD_AND_SAMPLE
    )
