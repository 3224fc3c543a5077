"""Send the app's spans by OTLP, or turn them off.

The setting ``tracing`` is ``otlp`` or ``off``. OpenTelemetry's own environment variables, such as
``OTEL_EXPORTER_OTLP_ENDPOINT``, configure OTLP. ``baseplate_redis.print_spans = true`` prints the
spans.
"""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationError


def includeme(config: Configurator) -> None:
    """Set up OpenTelemetry's tracing according to the setting ``tracing``."""
    where = config.registry.settings.get("tracing", "off")
    if where not in ("otlp", "off"):
        raise ConfigurationError(f"tracing: {where!r} is not one of otlp, off")
    if where == "otlp":
        tracer_provider().add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))


def tracer_provider() -> TracerProvider:
    """Return the tracer provider of this process. If there is none yet, set one.

    :raises ConfigurationError: it is not the OpenTelemetry SDK's.
    """
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider):
        provider = TracerProvider(resource=Resource.create({SERVICE_NAME: "example_app"}))
        trace.set_tracer_provider(provider)
    if not isinstance(provider, TracerProvider):
        raise ConfigurationError(
            f"the tracer provider is a {type(provider).__name__}, not the OpenTelemetry SDK's"
        )
    return provider
