"""Measure a whole request of a Pyramid application that is called in this process.

Run ``python benchmarks/request.py``. The documents explain how to read the table.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from typing import Any
from wsgiref.util import setup_testing_defaults

import redis
from measuring import (
    Samples,
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
from opentelemetry import context as otel_context
from opentelemetry.instrumentation.pyramid import PyramidInstrumentor
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Span, SpanKind, Tracer, set_span_in_context
from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response

from pyramid_baseplate_redis import pool_from_config
from pyramid_baseplate_redis.pool.factory import BlockingConnectionPool

ROUNDS = 400

PLAIN = "hand-made client, no telemetry"
NO_SDK = "ours, no SDK"
UNSAMPLED = "ours, unsampled"
RECORDED = "ours, recorded"
FEW_SPANS = "ours, recorded, trace_min_duration"
BARE_SPANS = "hand-made client in bare SDK spans"
OTEL_UNSAMPLED = "OpenTelemetry's, unsampled"
OTEL_RECORDED = "OpenTelemetry's, recorded"

TARGETS: dict[str, float | None] = {
    PLAIN: None,
    NO_SDK: None,
    UNSAMPLED: None,
    BARE_SPANS: None,
    RECORDED: 0.95,
    FEW_SPANS: None,
    OTEL_UNSAMPLED: None,
    OTEL_RECORDED: None,
}
SPANS = 7  # of the request, five commands and a pipeline


def view(request: Request) -> Response:
    """Send five commands, then a pipeline of ten."""
    client = request.foo
    client.set("greeting", "hello")
    greeting = client.get("greeting")
    client.hset("visitor", "name", "Alice")
    visitor = client.hget("visitor", "name")
    client.expire("visitor", 60)
    with client.pipeline() as pipeline:
        for number in range(5):
            pipeline.incr(f"counter:{number}")
            pipeline.expire(f"counter:{number}", 60)
        results = pipeline.execute()
    return Response(b"%s %s %d" % (greeting, visitor, len(results)), content_type="text/plain")


def application(configure: Callable[[Configurator], object], **settings: str) -> Any:
    """Create the WSGI application; ``configure`` adds ``request.foo``."""
    config = Configurator(settings=settings)
    configure(config)
    config.add_route("visitor", "/visitors/{name}")
    config.add_view(view, route_name="visitor")
    return config.make_wsgi_app()


def requester(app: Any) -> Callable[[], object]:
    """Return a function that makes a request as a WSGI server does."""
    template: dict[str, Any] = {
        "PATH_INFO": "/visitors/alice",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_USER_AGENT": "benchmark",
        "wsgi.input": BytesIO(),
    }
    setup_testing_defaults(template)

    def start_response(status: str, headers: object, exc_info: object = None) -> None:
        if status != "200 OK":
            raise AssertionError(status)

    def request() -> bytes:
        body = app(dict(template), start_response)
        try:
            return b"".join(body)
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()

    return request


class BareSpans:
    """The same spans with the same attributes, made by the SDK alone: a lower bound of the cost.

    :param recorded: the spans of a request that this package makes.
    """

    def __init__(self, tracer: Tracer, recorded: Sequence[ReadableSpan]) -> None:
        attributes = {span.name: dict(span.attributes or {}) for span in recorded}

        def started(name: str, kind: SpanKind = SpanKind.CLIENT) -> Span:
            return tracer.start_span(name, kind=kind, attributes=attributes[name])

        class Pipeline(redis.client.Pipeline):
            def execute(self, raise_on_error: bool = True) -> list[Any]:
                span = started("foo.pipeline")
                results: list[Any] = super().execute(raise_on_error)
                span.end()
                return results

        class Client(redis.Redis):
            def execute_command(self, *args: Any, **options: Any) -> Any:
                span = started(f"foo.{args[0]}")
                result = super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
                span.end()
                return result

            def pipeline(self, transaction: Any = True, shard_hint: Any = None) -> Any:
                return Pipeline(
                    self.connection_pool, self.response_callbacks, transaction, shard_hint
                )

        self.client = Client
        self._started = started
        (self._request_name,) = [s.name for s in recorded if s.kind is SpanKind.SERVER]

    def around(self, request: Callable[[], object]) -> Callable[[], object]:
        """Return ``request`` in a server span."""

        def in_span() -> object:
            span = self._started(self._request_name, SpanKind.SERVER)
            token = otel_context.attach(set_span_in_context(span))
            result = request()
            otel_context.detach(token)
            span.end()
            return result

        return in_span


def variants(url: str) -> list[Variant]:
    states = TracingStates.make()
    ours = pool_from_config({"foo.url": url}, "foo.")
    assert isinstance(ours, BlockingConnectionPool)
    stock = stock_pool(ours)
    instrumented = instrumented_redis_class(states.recording_provider)

    def hand_made(client: type[redis.Redis], config: Configurator) -> None:
        config.add_request_method(lambda request: client(connection_pool=stock), "foo", reify=True)

    def with_opentelemetry(config: Configurator) -> None:
        hand_made(instrumented, config)
        PyramidInstrumentor.instrument_config(config)  # type: ignore[no-untyped-call]

    def with_ours(config: Configurator) -> None:
        config.include("pyramid_baseplate_redis")

    plain = requester(application(partial(hand_made, redis.Redis)))
    mine = requester(application(with_ours, **{"foo.url": url}))
    few_spans = {"foo.url": url, "foo.trace_min_duration": "2 milliseconds"}
    mine_with_few = requester(application(with_ours, **few_spans))
    theirs = requester(application(with_opentelemetry))
    tracer = states.recording_provider.get_tracer("benchmark")
    bare = BareSpans(tracer, states.recorded.example(mine))
    in_bare_spans = bare.around(requester(application(partial(hand_made, bare.client))))
    calls = 4
    return [
        Variant(PLAIN, plain, calls, states.none),
        Variant(NO_SDK, mine, calls, states.none),
        Variant(UNSAMPLED, mine, calls, states.unsampled),
        Variant(RECORDED, mine, calls, states.recorded, spans=SPANS),
        Variant(FEW_SPANS, mine_with_few, calls, states.recorded, spans=None),
        Variant(BARE_SPANS, in_bare_spans, calls, states.recorded, spans=SPANS),
        Variant(OTEL_UNSAMPLED, theirs, calls, states.unsampled),
        Variant(OTEL_RECORDED, theirs, calls, states.recorded, spans=SPANS),
    ]


def main() -> int:
    chosen = arguments(__doc__, ROUNDS)
    with running_valkey(chosen.placement) as url:
        samples: Samples = measure(variants(url), chosen.rounds)
    in_cpu = rows(samples.cpu, TARGETS, lambda name: ratio(samples.cpu, name, PLAIN))
    by_clock = rows(
        samples.clock, dict.fromkeys(TARGETS), lambda name: ratio(samples.clock, name, PLAIN)
    )
    show("A request with five commands and a pipeline of ten, in CPU time", "times plain", in_cpu)
    show("The same by the clock", "times plain", by_clock)
    return verdict(in_cpu, chosen.check)


if __name__ == "__main__":
    sys.exit(main())
