"""The set-up of the metrics guide sends metrics to a collector."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from ..support.collector import metrics_collector

PAGE = (Path(__file__).parents[2] / "docs/guides/metrics.rst").read_text()
SET_UP = textwrap.dedent(PAGE.split(".. code-block:: python\n\n")[1].split("\nThe package")[0])
USE = """
from pyramid_baseplate_redis import RedisClient
factory = RedisClient().parse("foo", {"foo.url": "embedded://"})
factory.make_object_for_context("foo", None).set("greeting", "hello")
metrics.get_meter_provider().shutdown()
"""


def test_the_set_up_sends_metrics(tmp_path: Path) -> None:
    with metrics_collector() as (address, received):
        subprocess.run(
            [sys.executable, "-c", SET_UP + USE],
            cwd=tmp_path,
            env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": address},
            check=True,
            timeout=60,
        )

    names = {
        metric.name
        for request in received
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert {"db.client.operation.duration", "db.client.connection.max"} <= names
