"""Measure a GET against plain redis-py and OpenTelemetry's instrumentation.

Run ``python benchmarks/overhead.py``. The documents explain how to read the tables.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import redis
from measuring import (
    TracingStates,
    Variant,
    arguments,
    instrumented_redis_class,
    measure,
    ratio,
    rows,
    running_valkey,
    show,
    stock_pool,
    verdict,
)
from opentelemetry.trace import SpanKind

from pyramid_baseplate_redis import RedisClient
from pyramid_baseplate_redis.pool.factory import BlockingConnectionPool
from pyramid_baseplate_redis.prometheus import observe_client
from pyramid_baseplate_redis.telemetry.measurements.buffer import measurements

ROUNDS = 1000
MEASUREMENTS = 3  # that a command makes: its duration, the connection's wait time and use time
KEY = "greeting"

PLAIN = "plain redis-py"
OUR_POOL = "plain redis-py, our pool"
NO_SDK = "ours, no SDK"
UNSAMPLED = "ours, unsampled parent"
RECORDED = "ours, recorded"
METERED = "ours, metrics"
RECORDED_AND_METERED = "ours, recorded, metrics"
PROMETHEUS = "ours, Prometheus"
ALL = "ours, recorded, metrics, Prometheus"
FLUSHED = "the same, histograms included"
BATCHED = "the same, histograms of 20 commands at once"
OTEL_UNSAMPLED = "OpenTelemetry's, unsampled parent"
OTEL_RECORDED = "OpenTelemetry's, recorded"
AROUND = "bare SDK span around a GET"
CONSTRUCTOR = "redis.Redis(connection_pool=pool)"
BIND = "bind request.foo"
STOCK_CHECKOUT = "redis-py's pool"
OUR_CHECKOUT = "our pool"

# In CPU time of the calling thread. Metrics are recorded later and by another thread: what that
# costs is included in the rows with histograms.
TARGETS: dict[str, float | None] = {
    PLAIN: None,
    OUR_POOL: None,
    NO_SDK: 0.70,
    UNSAMPLED: None,
    RECORDED: 0.85,
    METERED: None,
    PROMETHEUS: None,
    RECORDED_AND_METERED: None,
    BATCHED: 1.30,
    FLUSHED: None,
    ALL: None,
    AROUND: None,
    OTEL_UNSAMPLED: None,
    OTEL_RECORDED: None,
}
BY_CLOCK: dict[str, float | None] = {
    name: None for name in TARGETS if name not in (BATCHED, FLUSHED)
}
BINDING: dict[str, float | None] = {CONSTRUCTOR: None, BIND: 0.05}
CHECKOUT: dict[str, float | None] = {STOCK_CHECKOUT: None, OUR_CHECKOUT: 1.0}


def checkout(pool: redis.BlockingConnectionPool) -> None:
    pool.release(pool.get_connection())


def variants(url: str) -> list[Variant]:
    states = TracingStates.make()
    factory = RedisClient().parse("foo", {"foo.url": url})
    ours = factory.connection_pool
    assert isinstance(ours, BlockingConnectionPool)
    stock = stock_pool(ours)

    # Its name in the labels distinguishes it from the other client.
    counted = RedisClient("counted").parse("foo", {"foo.url": url})
    observe_client(counted)

    server_span = states.recording_provider.get_tracer("benchmark").start_span("GET /")
    unsampled_span = states.unsampling_provider.get_tracer("benchmark").start_span("GET /")
    plain = redis.Redis(connection_pool=stock)
    plain.set(KEY, "hello")
    instrumented = instrumented_redis_class(states.recording_provider)(connection_pool=stock)
    recorded = factory.make_object_for_context("foo", server_span)
    unsampled = factory.make_object_for_context("foo", unsampled_span)

    (example,) = states.recorded.example(partial(recorded.get, KEY), server_span)
    name, attributes = example.name, dict(example.attributes or {})
    tracer = states.recording_provider.get_tracer("benchmark")

    def span_around() -> None:
        span = tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
        plain.get(KEY)
        span.end()

    def get_and_flush() -> None:
        recorded.get(KEY)
        measurements.flush()

    def get_and_flush_batches() -> None:
        recorded.get(KEY)
        if measurements.waiting >= 20 * MEASUREMENTS:
            measurements.flush()

    def get(client: redis.Redis) -> Callable[[], object]:
        return partial(client.get, KEY)

    none, traced, silent = states.none, states.recorded, states.unsampled
    no_span = factory.make_object_for_context("foo", None)
    on_our_pool = redis.Redis(connection_pool=ours)
    return [
        Variant(PLAIN, get(plain), 20, none),
        Variant(OUR_POOL, get(on_our_pool), 20, none),
        Variant(NO_SDK, get(no_span), 20, none),
        Variant(UNSAMPLED, get(unsampled), 20, silent, current=unsampled_span),
        Variant(RECORDED, get(recorded), 20, traced, spans=1, current=server_span),
        Variant(METERED, get(no_span), 20, states.metered),
        Variant(PROMETHEUS, get(counted.make_object_for_context("foo", None)), 20, none),
        Variant(
            ALL,
            get(counted.make_object_for_context("foo", server_span)),
            20,
            states.recorded_and_metered,
            spans=1,
            current=server_span,
        ),
        Variant(
            RECORDED_AND_METERED,
            get(recorded),
            20,
            states.recorded_and_metered,
            spans=1,
            current=server_span,
        ),
        Variant(
            FLUSHED,
            get_and_flush,
            20,
            states.recorded_and_metered,
            spans=1,
            current=server_span,
        ),
        Variant(
            BATCHED,
            get_and_flush_batches,
            20,
            states.recorded_and_metered,
            spans=1,
            current=server_span,
        ),
        Variant(OTEL_UNSAMPLED, get(instrumented), 20, silent, current=unsampled_span),
        Variant(OTEL_RECORDED, get(instrumented), 20, traced, spans=1, current=server_span),
        Variant(AROUND, span_around, 20, traced, spans=1, current=server_span),
        Variant(STOCK_CHECKOUT, partial(checkout, stock), 40, none),
        Variant(OUR_CHECKOUT, partial(checkout, ours), 40, none),
        Variant(CONSTRUCTOR, partial(redis.Redis, connection_pool=stock), 20, none),
        Variant(BIND, partial(factory.make_object_for_context, "foo", server_span), 200, none),
    ]


def main() -> int:
    chosen = arguments(__doc__, ROUNDS)
    with running_valkey(chosen.placement) as url:
        samples = measure(variants(url), chosen.rounds)

    in_cpu = rows(samples.cpu, TARGETS, lambda name: ratio(samples.cpu, name, PLAIN))
    by_clock = rows(samples.clock, BY_CLOCK, lambda name: ratio(samples.clock, name, PLAIN))
    binding = rows(samples.cpu, BINDING, lambda name: ratio(samples.cpu, name, CONSTRUCTOR))
    checkouts = rows(samples.cpu, CHECKOUT, lambda name: ratio(samples.cpu, name, STOCK_CHECKOUT))
    show("A GET over TCP loopback, in CPU time", "times plain", in_cpu)
    show("The same by the clock", "times plain", by_clock)
    show("A request's client, in CPU time", "of constructor", binding)
    show("Taking a connection and giving it back, in CPU time", "times redis-py's", checkouts)
    return verdict([*in_cpu, *by_clock, *binding, *checkouts], chosen.check)


if __name__ == "__main__":
    sys.exit(main())
