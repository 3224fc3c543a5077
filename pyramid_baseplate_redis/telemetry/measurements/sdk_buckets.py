"""Histograms with explicit buckets: several measurements are aggregated at once.

The result is that of the SDK's ``aggregate()`` for one after the other. Like :mod:`.sdk_recorder`,
this module uses private names of the SDK.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Hashable
from typing import Any

from opentelemetry.sdk.metrics import AlignedHistogramBucketExemplarReservoir
from opentelemetry.sdk.metrics._internal.aggregation import _ExplicitBucketHistogramAggregation

from .sdk_streams import Sampling, Stream, Waiting

# The names in the SDK's function that this module repeats, the same since release 1.30. If a
# release changes the function, it is called for each measurement.
_NAMES = {
    "_boundaries", "_get_empty_bucket_counts", "_lock", "_max", "_min", "_record_min_max",
    "_sample_exemplar", "_sum", "_value", "bisect_left", "max", "min", "value",
}  # fmt: skip
_aggregate: Any = _ExplicitBucketHistogramAggregation.aggregate
is_known = set(_aggregate.__code__.co_names) == _NAMES


def has_known_buckets(aggregation: Any) -> bool:
    """Return whether a :class:`BucketStream` may serve an aggregation."""
    return (
        is_known
        and type(aggregation) is _ExplicitBucketHistogramAggregation
        and _ExplicitBucketHistogramAggregation.aggregate is _aggregate
        and list(aggregation._boundaries) == sorted(aggregation._boundaries)
    )


class BucketStream(Stream):
    """The measurements for a histogram with explicit buckets."""

    def __init__(self, match: Any, key: Hashable, sampling: Sampling) -> None:
        super().__init__(match, key, sampling)
        # This reservoir keeps the newest exemplar of each bucket. If each one that it is offered
        # has a span, the newest leaves nothing of those before it.
        self._keeps_newest = (
            sampling.is_by_trace
            and type(self.reservoir) is AlignedHistogramBucketExemplarReservoir
            and tuple(self.reservoir._boundaries) == self.aggregation._boundaries
        )

    def record(self) -> None:
        """Aggregate what is waiting. An interruption loses at most the exemplars."""
        if len(self.waiting) == 1:
            self.record_singly()
            return
        boundaries, includes = self.aggregation._boundaries, self.sampling.includes
        amounts = []
        counts = [0] * (len(boundaries) + 1)
        offers: dict[int, Waiting] = {}
        context, is_included = None, False
        for number, each in enumerate(self.waiting):
            amounts.append(each[0])
            bucket = bisect_left(boundaries, each[0])
            counts[bucket] += 1
            if each[3] is not context:
                context = each[3]
                is_included = includes(context)
            if is_included:
                offers[bucket if self._keeps_newest else number] = each
        self._add(amounts, counts)
        for offer in offers.values():
            self.reservoir.offer(*offer)

    def _add(self, amounts: list[float], counts: list[int]) -> None:
        empty: deque[Waiting] = deque()
        low, high = min(amounts), max(amounts)
        aggregation = self.aggregation
        with aggregation._lock:
            value = aggregation._value
            if value is None:
                value = aggregation._get_empty_bucket_counts()
            value = [known + new for known, new in zip(value, counts, strict=True)]
            total = aggregation._sum
            for amount in amounts:  # not sum(), which rounds differently
                total += amount
            if aggregation._record_min_max:
                low, high = min(aggregation._min, low), max(aggregation._max, high)
            else:
                low, high = aggregation._min, aggregation._max
            # No call is between these lines, so a signal handler interrupts before or after them.
            aggregation._value = value
            aggregation._sum = total
            aggregation._min = low
            aggregation._max = high
            self.waiting = empty
