"""Recording of several measurements in the SDK's own aggregations.

Most of the time of the SDK's ``Histogram.record`` goes into finding the aggregation of one set of
attributes: it cleans, copies, sorts and hashes them for each measurement. Here the aggregations of
equal attributes are found once, and each measurement is passed to their ``aggregate()``. They then
hold what ``record()`` would have put there, because

- nothing but the search is left out, and the SDK's own functions clean and hash the attributes;
- only the SDK's own classes qualify, compared by ``type(x) is``, and only finite amounts that are
  not negative. The caller passes everything else to ``record()``;
- the SDK makes each aggregation itself, in ``record()`` of the first measurement that needs it;
- each batch of measurements compares the instrument, its readers, views and aggregations and the
  exemplar filter with those that were found before;
- the measurements of one aggregation keep their order.

One thing is better than with a deferred ``record()``: an exemplar has the time and the context of
its measurement.

The modules whose names start with ``sdk_`` use private names of the SDK and are imported after it.
``tests/telemetry/test_sdk_recorder.py`` compares them with ``record()``.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from opentelemetry.util.types import AttributeValue

from .measurement import Measurement, Recorder
from .sdk_attributes import known_attributes
from .sdk_buckets import BucketStream, has_known_buckets
from .sdk_instrument import InstrumentState
from .sdk_streams import Sampling, Stream, UnqualifiedError, aggregation_of

logger = logging.getLogger(__package__)

_MOST_ROUTES = 1000
_is_current = Stream.is_current


class SdkRecorder:
    """Records batches of measurements. Only one thread may use it at a time."""

    def __init__(self) -> None:
        self._batch = 0
        self._filled: list[Stream] = []
        self._forget()

    def begin(self) -> None:
        """Begin a batch, for which the SDK's state is compared again."""
        self._batch += 1

    def add(self, measurement: Measurement) -> bool:
        """Take a measurement, unless the SDK has to record it.

        :returns: whether it was taken. If not, call :meth:`record` before the SDK records it, to
            keep their order.
        """
        recorder, value, attributes, context, time_unix_nano = measurement
        route = self._routes.get((id(recorder), id(attributes)))
        if route is None or route.batch != self._batch:
            route = self._find(recorder, attributes, route)
        if route is None or not 0 <= value < math.inf:
            return False
        for stream in route.streams:
            if not stream.waiting:
                self._filled.append(stream)
            stream.waiting.append((value, time_unix_nano, route.cleaned, context))
        return True

    def record(self) -> None:
        """Record what was taken. After an interruption, the next call records what is left."""
        while self._filled:
            _record(self._filled[-1])
            self._filled.pop()
        for sampling in self._samplings.values():
            sampling.forget()

    def _find(
        self, recorder: Recorder, attributes: Mapping[str, AttributeValue], route: _Route | None
    ) -> _Route | None:
        """Return the route of a measurement; ``None`` if the SDK has to record it.

        :param route: the one of an earlier batch.
        """
        try:
            state = self._state(recorder)
            if route is None or route.state is not state or not route.is_current():
                route = self._new_route(state, attributes)
        except (KeyError, UnqualifiedError):  # KeyError: it is the first that needs an aggregation
            return None
        except Exception:
            logger.debug("finding the aggregation of a metric failed", exc_info=True)
            return None
        route.batch = self._batch
        return route

    def _state(self, recorder: Recorder) -> InstrumentState:
        state = self._states.get(id(recorder))
        if state is None or not (state.batch == self._batch or state.is_current()):
            if state is not None:
                self.record()
                self._forget()
            state = self._states[id(recorder)] = InstrumentState(recorder, self._sampling)
        state.batch = self._batch
        return state

    def _sampling(self, exemplar_filter: object) -> Sampling:
        sampling = self._samplings.get(id(exemplar_filter))
        if sampling is None:
            sampling = self._samplings[id(exemplar_filter)] = Sampling(exemplar_filter)
        return sampling

    def _new_route(
        self, state: InstrumentState, attributes: Mapping[str, AttributeValue]
    ) -> _Route:
        known = known_attributes(attributes)
        if known is None:
            raise UnqualifiedError
        streams = []
        for match, kept in state.matches:
            key = known.key(kept)
            aggregation = aggregation_of(match, key)
            stream = self._streams.get(id(aggregation))
            if stream is None:
                kind = BucketStream if has_known_buckets(aggregation) else Stream
                stream = self._streams[id(aggregation)] = kind(match, key, state.sampling)
            streams.append(stream)
        if len(self._routes) >= _MOST_ROUTES:
            self._routes.clear()
        route = _Route(state, attributes, known.cleaned, streams)
        self._routes[id(state.recorder), id(attributes)] = route
        return route

    def _forget(self) -> None:
        self._states: dict[int, InstrumentState] = {}  # by the recorder's id
        self._samplings: dict[int, Sampling] = {}  # by the filter's id
        self._routes: dict[tuple[int, int], _Route] = {}  # by those of recorder and attributes
        self._streams: dict[int, Stream] = {}  # by the aggregation's id


class _Route:
    """The streams for a recorder's measurements with certain attributes.

    It refers to both, so that their ids can't become those of other objects.
    """

    __slots__ = ("attributes", "batch", "cleaned", "state", "streams")

    def __init__(
        self,
        state: InstrumentState,
        attributes: Mapping[str, AttributeValue],
        cleaned: Mapping[str, AttributeValue],
        streams: list[Stream],
    ) -> None:
        self.state = state
        self.attributes = attributes
        self.cleaned = cleaned
        self.streams = streams
        self.batch = 0  # the last one for which the aggregations were compared

    def is_current(self) -> bool:
        """Return whether the SDK still uses the same aggregations."""
        return all(map(_is_current, self.streams))


def _record(stream: Stream) -> None:
    record = stream.record
    while stream.waiting:
        try:
            record()
        except Exception:
            logger.debug("recording a metric failed", exc_info=True)
            record = stream.record_singly  # each attempt takes one measurement at least
