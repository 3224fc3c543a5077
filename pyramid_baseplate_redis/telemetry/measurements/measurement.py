"""A measurement, and the object that records it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeAlias

from opentelemetry.context import Context
from opentelemetry.util.types import Attributes, AttributeValue


class Recorder(Protocol):
    """A histogram, or an object that adds the amounts to a counter, its ``instrument``."""

    def record(
        self, amount: float, attributes: Attributes = None, context: Context | None = None
    ) -> None:
        """Record an amount; see :meth:`opentelemetry.metrics.Histogram.record`."""


# The recorder, the value, its attributes, the context in which it was measured, and the time:
# nanoseconds since the epoch. It is a plain tuple because a command makes three of them.
Measurement: TypeAlias = tuple[Recorder, float, Mapping[str, AttributeValue], Context, int]
