"""The totals of a request: its operations per client, as attributes of its server span.

With ``foo.trace_min_duration``, a fast operation has no span of its own. It is only counted here.

A command finds the totals in its context, or by the server span that its client belongs to. The
context leads there from below the spans that an application makes itself, the server span from a
thread that has no context. Both lead nowhere once the span has ended.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import MutableMapping
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span

from . import otel

_PREFIX = "pyramid_baseplate_redis"
_KEY = otel_context.create_key("pyramid_baseplate_redis-request-totals")


class _Sums:
    """The sums of one client."""

    __slots__ = ("commands", "duration", "operations", "waited")

    def __init__(self) -> None:
        self.operations = 0
        self.commands = 0
        self.duration = 0.0  # seconds
        self.waited = 0.0  # seconds

    def attributes(self, client: str) -> dict[str, int | float]:
        """Return the sums as attributes of a span."""
        named: dict[str, int | float] = {
            f"{_PREFIX}.{client}.operations": self.operations,
            f"{_PREFIX}.{client}.commands": self.commands,
            f"{_PREFIX}.{client}.duration": self.duration,
        }
        if self.waited:
            named[f"{_PREFIX}.{client}.connection.wait_time"] = self.waited
        return named


class RequestTotals:
    """Counts the operations of one request, for its server span.

    All threads of the request use it at the same time.

    :param span: gets the totals. It is referenced weakly.
    """

    def __init__(self, span: Span) -> None:
        self._span = weakref.ref(span)
        # A forked process has a copy of the span, which only the parent exports. It may also have
        # a copy of a locked lock.
        self._process = os.getpid()
        # A signal handler may send a command while this thread holds the lock.
        self._lock = threading.RLock()
        self._is_busy = False
        self._is_closed = False
        self._is_written = True
        self._clients: dict[str, _Sums] = {}

    def open_span(self) -> Span | None:
        """Return the span if it is still going to get the totals, otherwise ``None``."""
        if self._is_closed or self._process != os.getpid():
            return None
        span = self._span()
        return span if span is not None and span.is_recording() else None

    def add(self, client: str, commands: int, duration: float, waited: float) -> bool:
        """Count an operation and return whether that was possible.

        It is not if the span has ended, or if a signal handler has interrupted this object.

        :param client: the client's name.
        :param commands: how many commands the operation consists of.
        :param duration: seconds.
        :param waited: seconds of ``duration`` in which the operation waited for a connection.
        """
        if self.open_span() is None:
            return False
        with self._lock:
            if self._is_closed or self._is_busy:
                return False
            self._is_busy = True
            try:
                sums = self._clients.get(client)
                if sums is None:
                    sums = self._clients[client] = _Sums()
                sums.operations += 1
                sums.commands += commands
                sums.duration += duration
                sums.waited += waited
                self._is_written = False
            finally:
                self._is_busy = False
        return True

    def write(self, *, closing: bool) -> None:
        """Set the attributes of the span, unless it has them already.

        :param closing: whether to count no further operations, because the span is about to end.
        """
        span = self.open_span()
        if span is None:
            return
        with self._lock:
            self._is_closed = self._is_closed or closing
            if self._is_written:
                return
            self._is_busy = True
            try:
                for client, sums in self._clients.items():
                    span.set_attributes(sums.attributes(client))
                self._is_written = True
            finally:
                self._is_busy = False


_is_enabled = False
_by_span: MutableMapping[Span, RequestTotals] = weakref.WeakKeyDictionary()


def enable() -> None:
    """Let spans take totals from now on, since a client of this process needs them."""
    global _is_enabled
    _is_enabled = True


def is_enabled() -> bool:
    """Return whether a client of this process needs totals."""
    return _is_enabled


def opened(span: Span, context: Context) -> Context:
    """Let a span take totals until :func:`close`; return the context with them.

    The caller must call :func:`close` before the span ends. The context is returned unchanged if no
    client needs totals or the span is not recorded.
    """
    if not _is_enabled:
        return context
    try:
        if not span.is_recording():
            return context
        totals = _by_span[span] = RequestTotals(span)
        return otel_context.set_value(_KEY, totals, context)
    except Exception:  # the span is another SDK's, and cannot be a key or referenced weakly
        otel.log_once("counting the operations of a request failed")
        return context


def found(context: Context, server_span: Span) -> RequestTotals | None:
    """Return the totals that count a command; ``None`` if no span takes them.

    :param context: the one in which the command's span would be started.
    :param server_span: the span that the command's client belongs to.
    """
    try:
        held: Any = context.get(_KEY)
        totals: RequestTotals | None = held
        if totals is not None and totals.open_span() is not None:
            return totals
        totals = _by_span.get(server_span) or _by_span.get(trace.get_current_span(context))
        return totals if totals is not None and totals.open_span() is not None else None
    except Exception:
        otel.log_once("counting the operations of a request failed")
        return None


def write(span: Span) -> None:
    """Write what was counted so far; the counting goes on."""
    _write(span, closing=False)


def close(span: Span) -> None:
    """Write the totals of a span that is about to end, if it takes any."""
    _write(span, closing=True)


def _write(span: Span, *, closing: bool) -> None:
    if not _is_enabled:
        return
    try:
        totals = _by_span.pop(span, None) if closing else _by_span.get(span)
        if totals is not None:
            totals.write(closing=closing)
    except Exception:
        otel.log_once("writing the totals of a request failed")
