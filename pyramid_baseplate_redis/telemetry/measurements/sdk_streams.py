"""Streams: the measurements for one aggregation of the SDK, on their way there.

Like :mod:`.sdk_recorder`, this module uses private names of the SDK.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Hashable, Mapping
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import (
    AlignedHistogramBucketExemplarReservoir,
    AlwaysOffExemplarFilter,
    AlwaysOnExemplarFilter,
    SimpleFixedSizeExemplarReservoir,
    TraceBasedExemplarFilter,
)
from opentelemetry.sdk.metrics._internal.aggregation import (
    _DropAggregation,
    _ExplicitBucketHistogramAggregation,
    _ExponentialBucketHistogramAggregation,
    _LastValueAggregation,
    _SumAggregation,
)
from opentelemetry.sdk.metrics._internal.measurement import Measurement as SdkMeasurement
from opentelemetry.util.types import AttributeValue

_FILTERS = (AlwaysOffExemplarFilter, AlwaysOnExemplarFilter, TraceBasedExemplarFilter)
_RESERVOIRS = (AlignedHistogramBucketExemplarReservoir, SimpleFixedSizeExemplarReservoir)
_AGGREGATIONS = (
    _DropAggregation,
    _ExplicitBucketHistogramAggregation,
    _ExponentialBucketHistogramAggregation,
    _LastValueAggregation,
    _SumAggregation,
)
_FIELDS = ("value", "time_unix_nano", "instrument", "context", "attributes")
if tuple(field.name for field in dataclasses.fields(SdkMeasurement)) != _FIELDS:
    raise ImportError("the SDK's Measurement has other fields")
vars(object.__new__(SdkMeasurement))  # Stream.record() sets the fields in this way

# The amount, the time, the attributes and the context: the arguments of a reservoir's offer().
Waiting = tuple[float, int, Mapping[str, AttributeValue], Context]


class UnqualifiedError(Exception):
    """A class is not the SDK's own, so the SDK itself has to record the measurements."""


def aggregation_of(match: Any, key: Hashable) -> Any:
    """Return an aggregation of a view.

    :param match: the storage of a reader's view of an instrument.
    :raises KeyError: the SDK has not made it yet.
    """
    return match._attributes_aggregation[key]


class Sampling:
    """One of the SDK's exemplar filters, which is asked once for each context.

    :raises UnqualifiedError: the filter is of another class.
    """

    def __init__(self, exemplar_filter: Any) -> None:
        if type(exemplar_filter) not in _FILTERS:
            raise UnqualifiedError
        self._filter = exemplar_filter
        self.is_by_trace = type(exemplar_filter) is TraceBasedExemplarFilter
        self._by_context: dict[int, tuple[Context, bool]] = {}

    def includes(self, context: Context) -> bool:
        """Return whether a measurement in ``context`` is offered to the reservoirs."""
        known = self._by_context.get(id(context))
        if known is None:
            is_included = self._filter.should_sample(0, 0, None, context)
            # The context is kept with its answer, because another one could get its id.
            known = self._by_context[id(context)] = context, is_included
        return known[1]

    def forget(self) -> None:
        """Forget the contexts."""
        self._by_context.clear()


class Stream:
    """The measurements for one aggregation, in the order in which they were made.

    :param match: the storage of a reader's view of an instrument.
    :param key: the key of the aggregation in it.
    :raises KeyError: there is no aggregation yet.
    :raises UnqualifiedError: the aggregation or its reservoir is not the SDK's own.
    """

    def __init__(self, match: Any, key: Hashable, sampling: Sampling) -> None:
        self._match = match
        self._key = key
        self.sampling = sampling
        self.aggregation = aggregation_of(match, key)
        self.reservoir = self.aggregation._reservoir
        if type(self.aggregation) not in _AGGREGATIONS or type(self.reservoir) not in _RESERVOIRS:
            raise UnqualifiedError
        self.waiting: deque[Waiting] = deque()

    def is_current(self) -> bool:
        """Return whether the SDK still uses this aggregation."""
        return self._match._attributes_aggregation.get(self._key) is self.aggregation

    def record(self) -> None:
        """Aggregate what is waiting."""
        self.record_singly()

    def record_singly(self) -> None:
        """Aggregate one after the other. An interruption loses one measurement at most."""
        # One object serves for all: an aggregation reads its fields and does not keep it.
        measurement = object.__new__(SdkMeasurement)
        fields = vars(measurement)
        fields["instrument"] = self._match._instrument
        aggregate, includes = self.aggregation.aggregate, self.sampling.includes
        while self.waiting:
            value, time_unix_nano, attributes, context = self.waiting.popleft()
            fields["value"], fields["time_unix_nano"] = value, time_unix_nano
            fields["attributes"], fields["context"] = attributes, context
            aggregate(measurement, includes(context))
