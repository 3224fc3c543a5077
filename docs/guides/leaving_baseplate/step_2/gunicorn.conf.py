"""Serves the metrics of all workers where baseplate-serve does: at port 6060."""

import os

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead


def when_ready(server):
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    start_http_server(int(os.environ.get("METRICS_PORT", "6060")), registry=registry)


def child_exit(server, worker):
    mark_process_dead(worker.pid)
