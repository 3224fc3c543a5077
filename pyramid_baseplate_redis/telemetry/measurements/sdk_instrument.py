"""The state of the SDK that decides where an instrument's measurements go.

Like :mod:`.sdk_recorder`, this module uses private names of the SDK.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.metrics._internal._view_instrument_match import _ViewInstrumentMatch
from opentelemetry.sdk.metrics._internal.instrument import _Counter, _Histogram
from opentelemetry.sdk.metrics._internal.measurement_consumer import SynchronousMeasurementConsumer
from opentelemetry.sdk.metrics._internal.metric_reader_storage import MetricReaderStorage

from .measurement import Recorder
from .sdk_streams import Sampling, UnqualifiedError

_INSTRUMENTS = (_Counter, _Histogram)
_SETS = (frozenset, list, set, tuple)


class InstrumentState:
    """A recorder's instrument, its exemplar filter, and its views at all readers.

    :param sampling: returns the object for an exemplar filter.
    :raises KeyError: a reader does not know the instrument yet.
    :raises UnqualifiedError: a class is not the SDK's own, or the instrument is disabled.
    """

    def __init__(self, recorder: Recorder, sampling: Callable[[object], Sampling]) -> None:
        self.recorder = recorder
        self.batch = 0  # the last one for which the state was compared
        self._instrument = _instrument_of(recorder)
        if type(self._instrument) not in _INSTRUMENTS or not _records(self._instrument):
            raise UnqualifiedError
        consumer = self._instrument._measurement_consumer
        if type(consumer) is not SynchronousMeasurementConsumer:
            raise UnqualifiedError
        self._filter = consumer._sdk_config.exemplar_filter
        self.sampling = sampling(self._filter)
        self._storages = list(consumer._reader_storages.values())
        self._found = []
        #: The storages of the views, and the names of the attributes that a view keeps; ``None``:
        #: all.
        self.matches: list[tuple[Any, frozenset[str] | None]] = []
        for storage in self._storages:
            if type(storage) is not MetricReaderStorage:
                raise UnqualifiedError
            found = storage._instrument_view_instrument_matches[self._instrument]
            self._found.append((storage, found))
            self.matches += [(match, _kept_attributes(match)) for match in found]
        self._partial = [each for each in self.matches if each[1] is not None]

    def is_current(self) -> bool:
        """Return whether everything is still the same."""
        instrument = _instrument_of(self.recorder)
        if instrument is not self._instrument or not _records(instrument):
            return False
        consumer = instrument._measurement_consumer
        if (
            consumer._sdk_config.exemplar_filter is not self._filter
            or list(consumer._reader_storages.values()) != self._storages
        ):
            return False
        for storage, found in self._found:
            if storage._instrument_view_instrument_matches.get(instrument) is not found:
                return False
        return all(_kept_attributes(match) == kept for match, kept in self._partial)


def _instrument_of(recorder: Any) -> Any:
    """Return the SDK's instrument of a recorder or of the API's proxy."""
    instrument = getattr(recorder, "instrument", recorder)
    return getattr(instrument, "_real_instrument", instrument)


def _records(instrument: Any) -> bool:
    is_enabled = getattr(instrument, "_is_enabled", None)  # releases before 1.41 have none
    return is_enabled is None or bool(is_enabled())


def _kept_attributes(match: Any) -> frozenset[str] | None:
    if type(match) is not _ViewInstrumentMatch:
        raise UnqualifiedError
    kept = match._view._attribute_keys
    if kept is None:
        return None
    if type(kept) not in _SETS:
        raise UnqualifiedError
    return frozenset(kept)
