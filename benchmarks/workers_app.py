"""The handlers and the application that the workers of workers.py load."""

from __future__ import annotations

import os
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from pyramid.config import Configurator
from pyramid.router import Router

#: Names of environment variables: the server's URL, and whether spans are recorded.
URL, RECORDS = "WORKERS_URL", "WORKERS_RECORD"
INI = """
[app:main]
paste.app_factory = workers_app:main
foo.url = {url}
foo.max_connections = 20
jobs.queue = foo
jobs.durable = true

[server:main]
use = egg:waitress#main

[loggers]
keys = root

[handlers]
keys = console

[formatters]
keys = plain

[logger_root]
level = INFO
handlers = console

[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = plain

[formatter_plain]
format = %(message)s
"""


class _DroppedSpans(SpanExporter):
    def export(self, spans: object) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def main(global_config: dict[str, str], **settings: str) -> Router:
    """Return the Pyramid application of our worker."""
    if os.environ.get(RECORDS):
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(_DroppedSpans()))
        trace.set_tracer_provider(provider)
    config = Configurator(settings=settings)
    config.include("pyramid_baseplate_redis")
    app: Router = config.make_wsgi_app()
    return app


def handle(request: Any, message: Any) -> None:
    """Process a message of our queue."""
    process(message.body)


def process(body: str | bytes) -> None:
    """Process a message of RQ's queue, or of dramatiq's."""
    if not body:
        raise AssertionError(body)


if url := os.environ.get(URL):
    dramatiq.set_broker(RedisBroker(url=url))
    actor = dramatiq.actor(process)
