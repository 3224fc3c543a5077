"""Measurements on their way to OpenTelemetry's histograms, which take them in the background.

To record one takes an SDK as long as a third of a span, and a command has three of them. So it
only appends them here. A thread hands them on soon, and so does whoever collects metrics, first of
all: nothing is missing from what is collected, nor at the end of the process.
"""

from __future__ import annotations

import _thread
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Mapping

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram
from opentelemetry.util.types import AttributeValue

from ..runtime.process_local import ProcessLocal

logger = logging.getLogger(__package__)

MOST = 10_000  # beyond so many, a caller records his own
ROUND_SECONDS = 0.1
_IDLE_ROUNDS = 100
_SLICE = 50  # so many, before other threads have a chance

_Measurement = tuple[Histogram, float, Mapping[str, AttributeValue], Context]


class _Process:
    """What one process has to record. A fork's parent has its own, and perhaps its lock."""

    def __init__(self) -> None:
        self.pending: deque[_Measurement] = deque()
        self.lock = threading.RLock()
        self.is_running = False


class MeasurementBuffer:
    """Keeps measurements until they are recorded."""

    def __init__(self) -> None:
        self._processes = ProcessLocal(_Process)

    def add(
        self, histogram: Histogram, value: float, attributes: Mapping[str, AttributeValue]
    ) -> None:
        """Have a value recorded; the attributes aren't to be changed any more."""
        process = self._process()
        # With the context, since an exemplar tells which trace it is from.
        measurement = (histogram, value, attributes, otel_context.get_current())
        if len(process.pending) >= MOST:
            _record(measurement)
            return
        process.pending.append(measurement)
        if not process.is_running:
            _start(process)

    def flush(self) -> None:
        """Record all that was added before."""
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
    try:
        # Not threading.Thread, for the reason given in housekeeping.py.
        _thread.start_new_thread(_run, (process,))
    except RuntimeError:  # the system has no thread left, or Python is about to end
        process.is_running = False


def _run(process: _Process) -> None:
    pid, idle = os.getpid(), 0
    while idle < _IDLE_ROUNDS:
        threading.Event().wait(ROUND_SECONDS)  # for the reason given in background.py, too
        if os.getpid() != pid:  # a greenlet, in a forked process
            return
        idle = 0 if process.pending else idle + 1
        while _flush_some(process):
            time.sleep(0)
    process.is_running = False
    if process.pending and not process.is_running:  # added just now
        _start(process)


def _record(measurement: _Measurement) -> None:
    histogram, value, attributes, context = measurement
    try:
        histogram.record(value, attributes, context)
    except Exception:
        logger.debug("recording a metric failed", exc_info=True)


measurements = MeasurementBuffer()
