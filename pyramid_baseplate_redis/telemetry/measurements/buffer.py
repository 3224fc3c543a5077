"""A buffer for measurements, from which a background thread records them in histograms.

Recording a measurement takes an SDK a third of the time of a span, and a command makes three. The
command therefore only appends them here. The thread records them every 0.1 seconds, and a
collection of metrics records what is left before it reads the histograms: it misses nothing, and
neither does the last one at the end of the process. Several measurements together cost the SDK
less; see :mod:`.sdk_recorder`.
"""

from __future__ import annotations

import functools
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from time import time_ns
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.context import Context, get_current
from opentelemetry.trace import INVALID_SPAN
from opentelemetry.util.types import AttributeValue

from ...runtime.background import start_thread
from ...runtime.process_local import ProcessLocal
from .measurement import Measurement, Recorder

if TYPE_CHECKING:
    from .sdk_recorder import SdkRecorder

logger = logging.getLogger(__package__)

MOST = 10_000  # buffer limit; above it callers record synchronously
ROUND_SECONDS = 0.1
_IDLE_ROUNDS = 100
# Measurements to record before other threads get a chance: in a batch, and one by one.
_SLICE = 500
_SLICE_ALONE = 50
# The SDK would replace a context that is empty by the one of the recording thread.
_EMPTY_CONTEXT = trace.set_span_in_context(INVALID_SPAN, Context())


class _Process:
    """The measurements of one process. A forked child must not use its parent's lock."""

    def __init__(self) -> None:
        self.pending: deque[Measurement] = deque()
        self.lock = threading.RLock()
        self.sdk: SdkRecorder | None = None
        self.is_running = False


class MeasurementBuffer:
    """Keeps measurements until they are recorded."""

    def __init__(self) -> None:
        self._process = ProcessLocal(_Process).own

    def add(
        self, histogram: Recorder, value: float, attributes: Mapping[str, AttributeValue]
    ) -> None:
        """Record a value soon, in the background.

        :param value: in the histogram's unit: seconds, for those of :mod:`.metrics`.
        :param attributes: do not modify them afterward.
        """
        process = self._process()
        # Exemplars show the trace and the time of a measurement.
        measurement = (histogram, value, attributes, get_current(), time_ns())
        if len(process.pending) >= MOST:
            _record(measurement)
            return
        process.pending.append(measurement)
        if not process.is_running:
            _start(process)

    @property
    def waiting(self) -> int:
        """The number of measurements that are not recorded yet."""
        return len(self._process().pending)

    def flush(self) -> None:
        """Record everything that was added before, in the calling thread."""
        process = self._process()
        while _flush_some(process):
            pass


def _flush_some(process: _Process) -> bool:
    """Record a slice of the measurements; return whether there may be more."""
    with process.lock:
        # It is taken away because a signal handler may interrupt this thread and flush, too.
        sdk, process.sdk = process.sdk or _sdk_recorder(), None
        if sdk is None:
            return _record_some(process.pending, None)
        try:
            sdk.begin()
            return _record_some(process.pending, sdk)
        finally:
            try:
                sdk.record()
            finally:
                process.sdk = sdk


def _record_some(pending: deque[Measurement], sdk: SdkRecorder | None) -> bool:
    alone = 0
    for _ in range(_SLICE):
        try:
            measurement = pending.popleft()
        except IndexError:
            return False
        if sdk is not None:
            if sdk.add(measurement):
                continue
            sdk.record()
        _record(measurement)
        alone += 1
        if alone == _SLICE_ALONE:
            break
    return True


def _sdk_recorder() -> SdkRecorder | None:
    """Return a recorder of batches; ``None`` if measurements are recorded one by one."""
    # As long as the SDK is not imported, no instrument is the SDK's.
    recorder_class = _recorder_class() if "opentelemetry.sdk.metrics" in sys.modules else None
    return None if recorder_class is None else recorder_class()


@functools.cache
def _recorder_class() -> type[SdkRecorder] | None:
    try:
        from .sdk_recorder import SdkRecorder
    except Exception:
        logger.debug("measurements are recorded one by one: an unknown SDK", exc_info=True)
        return None
    return SdkRecorder


def _start(process: _Process) -> None:
    # The thread does not import it: if a process is forked while a thread imports a module, the
    # lock of that module stays locked in the child.
    _sdk_recorder()
    if process.is_running:
        return
    process.is_running = True
    if not start_thread(_rounds(process)):
        process.is_running = False


def _rounds(process: _Process) -> Iterator[float]:
    idle = 0
    while idle < _IDLE_ROUNDS:
        yield ROUND_SECONDS
        idle = 0 if process.pending else idle + 1
        while _flush_some(process):
            time.sleep(0)
    process.is_running = False
    if process.pending and not process.is_running:  # added since the last look
        _start(process)


def _record(measurement: Measurement) -> None:
    histogram, value, attributes, context, _ = measurement
    try:
        histogram.record(value, attributes, context or _EMPTY_CONTEXT)
    except Exception:
        logger.debug("recording a metric failed", exc_info=True)


measurements = MeasurementBuffer()
