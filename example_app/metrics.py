"""Print the metrics of the app's connection pool, send them by OTLP, or turn them off.

The setting ``metrics`` is ``console``, ``otlp`` or ``off``.
"""

from __future__ import annotations

import sys
from collections import defaultdict

from opentelemetry import metrics
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricsData,
    NumberDataPoint,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationError

_CONSOLE_MILLISECONDS = 5_000
_OTLP_MILLISECONDS = 60_000
_PREFIX = "db.client.connection."


def includeme(config: Configurator) -> None:
    """Set up OpenTelemetry's metrics according to the setting ``metrics``."""
    where = config.registry.settings.get("metrics", "off")
    if where not in ("console", "otlp", "off"):
        raise ConfigurationError(f"metrics: {where!r} is not one of console, otlp, off")
    if where == "off":
        return
    if where == "console":
        console = ConsoleMetricExporter(out=sys.stdout, formatter=pool_lines)
        reader = PeriodicExportingMetricReader(console, _CONSOLE_MILLISECONDS)
    else:
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(), _OTLP_MILLISECONDS)
    resource = Resource.create({SERVICE_NAME: "example_app"})
    metrics.set_meter_provider(MeterProvider([reader], resource))


def pool_lines(data: MetricsData) -> str:
    """Return a line for each connection pool: ``pool links  idle 1  used 0  max 50 ...``."""
    pools: dict[str, list[str]] = defaultdict(list)
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    attributes = point.attributes or {}
                    name = str(attributes.get(f"{_PREFIX}pool.name", ""))
                    label = attributes.get(f"{_PREFIX}state", metric.name.removeprefix(_PREFIX))
                    if name and isinstance(point, NumberDataPoint):
                        pools[name].append(f"{label} {point.value}")
    return "".join(f"pool {name}  {'  '.join(values)}\n" for name, values in pools.items())
