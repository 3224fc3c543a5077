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

    A sequence of the SDK's :class:`~opentelemetry.sdk.trace.ReadableSpan`. Made by
    :func:`record_spans`.
    """

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._processor = SimpleSpanProcessor(self._exporter)
        self._started: dict[int, ReadableSpan] = {}

    @property
    def all(self) -> list[ReadableSpan]:
        """All of them."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    @property
    def names(self) -> list[str]:
        """Their names."""
        return [span.name for span in self.all]

    def named(self, name: str) -> list[ReadableSpan]:
        """Those of that name."""
        return [span for span in self.all if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        """The only one of that name.

        :raises AssertionError: there is not exactly one; the message lists the recorded spans.
        """
        found = self.named(name)
        if len(found) != 1:
            raise AssertionError(f"{len(found)} spans are named {name!r}; recorded: {self.names}")
        return found[0]

    def parent_of(self, span: ReadableSpan) -> ReadableSpan | None:
        """A span's parent, which may not have ended yet.

        ``None`` for a root, and where the parent isn't of this recording.
        """
        return self._started.get(span.parent.span_id) if span.parent is not None else None

    def tree(self) -> list[tuple[str, str | None]]:
        """Each span's name with its parent's; ``None`` as :meth:`parent_of` has it."""
        parents = [(span.name, self.parent_of(span)) for span in self.all]
        return [(name, parent.name if parent is not None else None) for name, parent in parents]

    def clear(self) -> None:
        """Forget those that have ended."""
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
    """Pass spans to the current recorder: a provider's processors cannot be removed.

    Nothing ends it: an application that shuts its provider down isn't the last one under test.
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

    OpenTelemetry takes one tracer provider per process, for good. Where there is one, of the
    SDK's, spans go to where it sends them as well; where there is none, one is set that sends
    them nowhere else.

    :raises ImportError: on import, without the OpenTelemetry SDK.
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
