"""A buffer for measurements, from which a background thread records them in histograms.

Recording a measurement takes an SDK a third of the time of a span, and a command makes three. The
command therefore only appends them here. The thread records them every 0.1 seconds, and a
collection of metrics records what is left before it reads the histograms: it misses nothing, and
neither does the last one at the end of the process.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Protocol

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.util.types import Attributes, AttributeValue

from ..runtime.background import start_thread
from ..runtime.process_local import ProcessLocal

logger = logging.getLogger(__package__)

MOST = 10_000  # buffer limit; above it callers record synchronously
ROUND_SECONDS = 0.1
_IDLE_ROUNDS = 100
_SLICE = 50  # measurements to record before other threads get a chance


class Recorder(Protocol):
    """A histogram, or an object that adds the amounts to a counter."""

    def record(
        self, amount: float, attributes: Attributes = None, context: Context | None = None
    ) -> None:
        """Record an amount; see :meth:`opentelemetry.metrics.Histogram.record`."""


_Measurement = tuple[Recorder, float, Mapping[str, AttributeValue], Context]


class _Process:
    """The measurements of one process. A forked child must not use its parent's lock."""

    def __init__(self) -> None:
        self.pending: deque[_Measurement] = deque()
        self.lock = threading.RLock()
        self.is_running = False


class MeasurementBuffer:
    """Keeps measurements until they are recorded."""

    def __init__(self) -> None:
        self._processes = ProcessLocal(_Process)

    def add(
        self, histogram: Recorder, value: float, attributes: Mapping[str, AttributeValue]
    ) -> None:
        """Record a value soon, in the background.

        :param value: in the histogram's unit: seconds, for those of :mod:`.metrics`.
        :param attributes: do not modify them afterward.
        """
        process = self._process()
        # The context is kept for exemplars, which name the trace of a measurement.
        measurement = (histogram, value, attributes, otel_context.get_current())
        if len(process.pending) >= MOST:
            _record(measurement)
            return
        process.pending.append(measurement)
        if not process.is_running:
            _start(process)

    def flush(self) -> None:
        """Record everything that was added before, in the calling thread."""
        process = self._process()
        while _flush_some(process):
            pass

    def _process(self) -> _Process:
        return self._processes.own()


def _flush_some(process: _Process) -> bool:
    with process.lock:
        for _ in range(_SLICE):
            try:
                measurement = process.pending.popleft()
            except IndexError:
                return False
            _record(measurement)
    return True


def _start(process: _Process) -> None:
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


def _record(measurement: _Measurement) -> None:
    histogram, value, attributes, context = measurement
    try:
        histogram.record(value, attributes, context)
    except Exception:
        logger.debug("recording a metric failed", exc_info=True)


measurements = MeasurementBuffer()
