"""Start a span that becomes the current one. It is the SDK's own from its start.

The application's code may read, change and end the current span. It is therefore an object of the
SDK's class, started and ended by the SDK's methods. ``Tracer.start_span()`` spends most of its time
on asking a sampler that samples every such span, and on converting attributes that need no
conversion. In these cases alone, the span is made without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, TraceFlags, Tracer, TraceState

from .qualification import MOST_ATTRIBUTES, SdkTracer, qualified
from .span import FLAGS, RANDOM, are_plain


def start_current(
    tracer: Tracer,
    name: str,
    context: Context,
    kind: SpanKind,
    attributes: Mapping[str, Any],
    links: Sequence[Link] = (),
) -> Span:
    """Start a span as the tracer's ``start_span()`` does.

    :param tracer: a tracer of any class, or a proxy of OpenTelemetry's API for it.
    :param context: contains the parent, if there is one.
    """
    sdk = qualified(tracer)
    if sdk is not None and sdk.makes_current_spans and are_plain(attributes, MOST_ATTRIBUTES):
        parent = trace.get_current_span(context).get_span_context()
        made = _sampled(sdk, parent)
        if made is not None:
            above = parent if parent.is_valid else None
            return sdk.start_span(name, made, above, dict(attributes), kind, links, context)
    return tracer.start_span(name, context, kind=kind, attributes=attributes, links=links)


def _sampled(sdk: SdkTracer, parent: SpanContext) -> SpanContext | None:
    """Return the identity of a new span that is sampled; ``None`` if the SDK has to decide."""
    if type(parent) is not SpanContext or not sdk.is_enabled():
        return None
    ids = sdk.id_generator
    state: TraceState | None = None
    if not parent.is_valid:
        if not sdk.samples_roots:
            return None
        trace_id = ids.generate_trace_id()
        random = RANDOM if ids.is_trace_id_random() else 0
    else:
        samples = sdk.samples_remote_children if parent.is_remote else sdk.samples_children
        if not samples or not parent.trace_flags & TraceFlags.SAMPLED:
            return None
        trace_id, state = parent.trace_id, parent.trace_state
        random = parent.trace_flags & RANDOM
    return SpanContext(
        trace_id, ids.generate_span_id(), False, FLAGS[TraceFlags.SAMPLED | random], state
    )
