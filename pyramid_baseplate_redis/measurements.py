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

logger = logging.getLogger(__name__)

MOST = 10_000  # beyond so many, a caller records his own
ROUND_SECONDS = 0.1
_IDLE_ROUNDS = 100
_SLICE = 50  # so many, before other threads have a chance

_Measurement = tuple[Histogram, float, Mapping[str, AttributeValue], Context]


class Measurements:
    """Keeps measurements until they are recorded."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew, as a forked process has to: what is here is the parent's to record."""
        self._pending: deque[_Measurement] = deque()
        self._lock = threading.RLock()
        self._is_running = False

    def add(
        self, histogram: Histogram, value: float, attributes: Mapping[str, AttributeValue]
    ) -> None:
        """Have a value recorded; the attributes aren't to be changed any more."""
        # With the context, since an exemplar tells which trace it is from.
        measurement = (histogram, value, attributes, otel_context.get_current())
        if len(self._pending) >= MOST:
            _record(measurement)
            return
        self._pending.append(measurement)
        if not self._is_running:
            self._start()

    def flush(self) -> None:
        """Record all that was added before."""
        while self._flush_some():
            pass

    def _flush_some(self) -> bool:
        with self._lock:
            for _ in range(_SLICE):
                try:
                    measurement = self._pending.popleft()
                except IndexError:
                    return False
                _record(measurement)
        return True

    def _start(self) -> None:
        self._is_running = True
        try:
            # Not threading.Thread, for the reason given in housekeeping.py.
            _thread.start_new_thread(self._run, ())
        except RuntimeError:  # the system has no thread left, or Python is about to end
            self._is_running = False

    def _run(self) -> None:
        pid, idle = os.getpid(), 0
        while idle < _IDLE_ROUNDS:
            time.sleep(ROUND_SECONDS)
            if os.getpid() != pid:  # a greenlet, in a forked process
                return
            idle = 0 if self._pending else idle + 1
            while self._flush_some():
                time.sleep(0)
        self._is_running = False
        if self._pending and not self._is_running:  # added just now
            self._start()


def _record(measurement: _Measurement) -> None:
    histogram, value, attributes, context = measurement
    try:
        histogram.record(value, attributes, context)
    except Exception:
        logger.debug("recording a metric failed", exc_info=True)


measurements = Measurements()
os.register_at_fork(after_in_child=measurements.forget)
