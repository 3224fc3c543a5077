"""The application of request.py as a gunicorn worker of deployed.py loads it.

It has an SDK, instrumentation and exporters as in production. The exporters find the collector with
``OTEL_EXPORTER_OTLP_ENDPOINT``.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any

import redis
from measuring import stock_pool
from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.pyramid import PyramidInstrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from pyramid.config import Configurator
from request import NO_SDK, OTEL_RECORDED, PLAIN, application

from pyramid_baseplate_redis import pool_from_config
from pyramid_baseplate_redis.pool.factory import BlockingConnectionPool
from pyramid_baseplate_redis.settings.client import ClientSettings

SLOW_RECORDED = "ours, recorded from 2 ms"
RECORDED_AND_METERED = "ours, recorded, metrics"
WITHOUT_SDK = (PLAIN, NO_SDK)
MIN_DURATION = "trace_min_duration"
HAS_MIN_DURATION = MIN_DURATION in {field.name for field in dataclasses.fields(ClientSettings)}

FLUSH = "/flush"
Flush = Callable[[], object]


def exporting_providers(metered: bool) -> list[Flush]:
    """Set the global providers up, and return the functions that export what they still have."""
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(tracer_provider)
    if not metered:
        return [tracer_provider.force_flush]
    meter_provider = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())])
    metrics.set_meter_provider(meter_provider)
    return [tracer_provider.force_flush, meter_provider.force_flush]


def hand_made(config: Configurator, url: str) -> None:
    ours = pool_from_config({"foo.url": url}, "foo.")
    assert isinstance(ours, BlockingConnectionPool)
    stock = stock_pool(ours)
    config.add_request_method(lambda request: redis.Redis(connection_pool=stock), "foo", reify=True)


def make_application(variant: str, url: str) -> Any:
    """Return the WSGI application of a variant, with its SDK in this process."""
    flushes = [] if variant in WITHOUT_SDK else exporting_providers(variant == RECORDED_AND_METERED)
    settings = {"foo.url": url}
    if variant == SLOW_RECORDED:
        settings[f"foo.{MIN_DURATION}"] = "2 milliseconds"

    def configure(config: Configurator) -> None:
        if variant == OTEL_RECORDED:
            RedisInstrumentor().instrument()
            PyramidInstrumentor.instrument_config(config)  # type: ignore[no-untyped-call]
        if variant in (PLAIN, OTEL_RECORDED):
            hand_made(config, url)
        else:
            config.include("pyramid_baseplate_redis")

    return accounting(application(configure, **settings), flushes)


def accounting(app: Any, flushes: Iterable[Flush]) -> Any:
    """Return an application that answers ``/flush`` with the CPU seconds of its process so far.

    They are read after all spans and metrics have been exported.
    """

    def accounted(
        environ: dict[str, Any], start_response: Callable[..., object]
    ) -> Iterable[bytes]:
        if environ["PATH_INFO"] != FLUSH:
            answer: Iterable[bytes] = app(environ, start_response)
            return answer
        for flush in flushes:
            flush()
        body = repr(time.process_time()).encode()  # of all threads
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    return accounted
