"""The page of docs/guides/trace_backends, whose spans are exported."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

from ...support.servers import Server
from ...support.workers import PROJECT
from .otlp_receiver import Receiver

PAGE = PROJECT / "docs" / "guides" / "trace-backends.rst"
FILES = PROJECT / "docs" / "guides" / "trace_backends"
_REQUESTS = """
import sys
from opentelemetry import trace
from webob import Request
import shop

shop.set_up_tracing()
app = shop.main({}, **{"foo.url": sys.argv[1], "baseplate_redis.trust_trace_headers": "true"})
for number in range(int(sys.argv[3])):
    request = Request.blank(sys.argv[2], headers=dict(pair.split("=") for pair in sys.argv[4:]))
    assert request.get_response(app).body  # the server span ends with the body
trace.get_tracer_provider().shutdown()
"""
# A page of 43 spans: the server span, 40 GETs, a pipeline and a WAIT of 50 ms.
SPANS = Counter({"GET /": 1, "foo.GET": 40, "foo.pipeline_visit": 1, "foo.WAIT": 1})


def variables(name: str) -> dict[str, str]:
    """Return the variables of one of the page's files."""
    lines = (FILES / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def visit(
    server: Server, environment: dict[str, str], times: int = 1, *headers: str, path: str = "/"
) -> subprocess.CompletedProcess[str]:
    """Ask for the page in a process of its own, which exports its spans before it ends."""
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", _REQUESTS, server.url, path, str(times), *headers],
        env={
            **inherited, "NO_PROXY": "*", **environment,
            "PYTHONPATH": os.pathsep.join([str(FILES), str(PROJECT)]),
        },
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def names(received: Receiver) -> Counter[str]:
    return Counter(span.name for span in received.spans)
