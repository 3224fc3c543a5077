"""Counts how much of ours the tests of a process use. A run that uses nothing proves nothing."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

used: Counter[str] = Counter()
"""Numbers by name. A direct request is a command or a pipeline sent past redis-py's layers."""


def counted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that counts its calls under ``name``."""

    @functools.wraps(method)
    def counting(*args: Any, **kwargs: Any) -> Any:
        used[name] += 1
        return method(*args, **kwargs)

    return counting


class SpanCounter(SpanExporter):
    """Counts the spans that it is given, and drops them."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        used["spans"] += len(spans)
        return SpanExportResult.SUCCESS
