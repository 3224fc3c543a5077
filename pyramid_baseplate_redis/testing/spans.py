"""The spans that a test records: for assertions about their names, parents and attributes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, overload

from opentelemetry import trace

try:
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
except ImportError as error:
    raise ImportError(
        "recording spans needs the OpenTelemetry SDK: pip install "
        "'pyramid_baseplate_redis[testing]'"
    ) from error

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import Span


class RecordedSpans(Sequence[ReadableSpan]):
    """The spans that ended since the recording began, in the order in which they started.

    It is a sequence of the SDK's :class:`~opentelemetry.sdk.trace.ReadableSpan`;
    :func:`record_spans` makes it.
    """

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._processor = SimpleSpanProcessor(self._exporter)
        self._started: dict[int, ReadableSpan] = {}

    @property
    def all(self) -> list[ReadableSpan]:
        """Return all spans that ended."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    @property
    def names(self) -> list[str]:
        """Return the names of all spans."""
        return [span.name for span in self.all]

    def named(self, name: str) -> list[ReadableSpan]:
        """Return the spans with a name."""
        return [span for span in self.all if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        """Return the only span with a name.

        :raises AssertionError: there is not exactly one; the message lists the recorded spans.
        """
        found = self.named(name)
        if len(found) != 1:
            raise AssertionError(f"{len(found)} spans are named {name!r}; recorded: {self.names}")
        return found[0]

    def parent_of(self, span: ReadableSpan) -> ReadableSpan | None:
        """Return a span's parent, which may not have ended yet.

        ``None`` for a root span, and if the parent started before the recording.
        """
        return self._started.get(span.parent.span_id) if span.parent is not None else None

    def tree(self) -> list[tuple[str, str | None]]:
        """Return the name of each span and of its parent; ``None`` as for :meth:`parent_of`."""
        parents = [(span.name, self.parent_of(span)) for span in self.all]
        return [(name, parent.name if parent is not None else None) for name, parent in parents]

    def clear(self) -> None:
        """Forget the spans that have ended."""
        self._exporter.clear()

    @overload
    def __getitem__(self, index: int) -> ReadableSpan: ...

    @overload
    def __getitem__(self, index: slice) -> list[ReadableSpan]: ...

    def __getitem__(self, index: int | slice) -> ReadableSpan | list[ReadableSpan]:
        return self.all[index]

    def __len__(self) -> int:
        return len(self._exporter.get_finished_spans())

    def __repr__(self) -> str:
        return f"<RecordedSpans {self.tree()}>"


class _Relay(SpanProcessor):
    """Passes spans to the current recordings, since a provider's processors cannot be removed.

    It ignores the provider's shutdown: the next application under test uses the same provider.
    """

    def __init__(self) -> None:
        self.recordings: tuple[RecordedSpans, ...] = ()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        for recording in self.recordings:
            recording._started[span.context.span_id] = span

    def on_end(self, span: ReadableSpan) -> None:
        for recording in self.recordings:
            recording._processor.on_end(span)


_relays: dict[TracerProvider, _Relay] = {}
_lock = threading.Lock()


@contextmanager
def record_spans() -> Iterator[RecordedSpans]:
    """Record the spans that end inside the block.

    A process has one tracer provider of OpenTelemetry, which cannot be replaced. If there is one,
    it goes on exporting the spans. If there is none, one is set that exports nothing.

    :raises ImportError: when the module is imported: the OpenTelemetry SDK is not installed.
    :raises RuntimeError: the tracer provider is not the SDK's.
    """
    recording = RecordedSpans()
    with _lock:
        relay = _relay()
        relay.recordings += (recording,)
    try:
        yield recording
    finally:
        with _lock:
            others = [other for other in relay.recordings if other is not recording]
            relay.recordings = tuple(others)


def _relay() -> _Relay:
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider):
        trace.set_tracer_provider(TracerProvider())
        provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        raise RuntimeError(
            f"the tracer provider is a {type(provider).__name__}, not the OpenTelemetry SDK's; its "
            "spans can't be recorded"
        )
    if provider not in _relays:
        _relays[provider] = _Relay()
        provider.add_span_processor(_relays[provider])
    return _relays[provider]
