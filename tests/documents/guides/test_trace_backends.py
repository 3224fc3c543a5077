"""The files of docs/guides/trace-backends work: variables, samplers and the collector's YAML."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
import yaml
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind
from pyramid.config import Configurator
from webob import Request

from ...support.servers import RecordedSpans, Server
from ...support.workers import PROJECT
from .otlp_receiver import Receiver, receiver

PAGE = PROJECT / "docs" / "guides" / "trace-backends.rst"
FILES = PROJECT / "docs" / "guides" / "trace_backends"
REQUESTS = """
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
# The page says that these win over OTEL_EXPORTER_OTLP_CERTIFICATE.
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# An exporter that has no success tries again for this long.
_IN_VAIN = {"OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
# A page of 43 spans: the server span, 40 GETs, a pipeline and a WAIT of 50 ms.
_SPANS = Counter({"GET /": 1, "foo.GET": 40, "foo.pipeline_visit": 1, "foo.WAIT": 1})


def variables(name: str) -> dict[str, str]:
    """The variables of one of the page's files."""
    lines = (FILES / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def visit(
    server: Server, environment: dict[str, str], times: int = 1, *headers: str, path: str = "/"
) -> subprocess.CompletedProcess[str]:
    """Ask for the page in a process of its own, which exports its spans before it ends."""
    inherited = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith("OTEL_") and name not in BUNDLES
    }
    done = subprocess.run(
        [sys.executable, "-c", REQUESTS, server.url, path, str(times), *headers],
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


def test_jaeger(valkey_server: Server) -> None:
    environment = variables("jaeger.env")
    assert environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://localhost:4318"
    with receiver() as received:
        visit(valkey_server, {**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": received.endpoint})
    assert received.services == {"shop"}
    assert names(received) == _SPANS


def test_a_backend_with_a_key_in_a_header(valkey_server: Server) -> None:
    environment = variables("honeycomb.env")
    with receiver() as received:
        visit(valkey_server, {**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": received.endpoint})
    assert names(received) == _SPANS
    assert {header["x-honeycomb-team"] for header in received.headers} == {"YOUR_API_KEY"}
    assert {header["content-encoding"] for header in received.headers} == {"gzip"}


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def strict(authority: trustme.CA) -> Iterator[Receiver]:
    """A receiver that accepts only clients with a certificate of the authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    with receiver(context) as received:
        yield received


def tls_variables(authority: trustme.CA, received: Receiver, directory: Path) -> dict[str, str]:
    """The variables of the page, with files that exist."""
    files = {name: directory / name for name in ("collector-ca.pem", "shop.pem", "shop.key")}
    own = authority.issue_cert("shop")
    authority.cert_pem.write_to_path(files["collector-ca.pem"])
    own.cert_chain_pems[0].write_to_path(files["shop.pem"])
    own.private_key_pem.write_to_path(files["shop.key"])
    environment = {
        name: str(files[Path(text).name]) if text.startswith("/etc/ssl/") else text
        for name, text in variables("tls.env").items()
    }
    return {**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": received.endpoint}


def test_tls_with_certificates_of_both_sides(
    valkey_server: Server, authority: trustme.CA, strict: Receiver, tmp_path: Path
) -> None:
    visit(valkey_server, tls_variables(authority, strict, tmp_path))
    assert names(strict) == _SPANS


@pytest.mark.parametrize("missing", ["CERTIFICATE", "CLIENT_CERTIFICATE"])
def test_tls_refuses_who_lacks_a_certificate(
    valkey_server: Server, authority: trustme.CA, strict: Receiver, tmp_path: Path, missing: str
) -> None:
    environment = tls_variables(authority, strict, tmp_path)
    del environment[f"OTEL_EXPORTER_OTLP_{missing}"]
    if missing == "CLIENT_CERTIFICATE":
        del environment["OTEL_EXPORTER_OTLP_CLIENT_KEY"]
    visit(valkey_server, {**environment, **_IN_VAIN})
    assert strict.spans == []


@pytest.mark.parametrize("name", BUNDLES)
def test_a_bundle_of_requests_wins_over_the_certificate_of_the_exporter(
    valkey_server: Server, authority: trustme.CA, strict: Receiver, tmp_path: Path, name: str
) -> None:
    others = tmp_path / "others.pem"
    trustme.CA().cert_pem.write_to_path(others)
    environment = tls_variables(authority, strict, tmp_path)
    visit(valkey_server, {**environment, name: str(others), **_IN_VAIN})
    assert strict.spans == []
    assert f"``{name}``" in PAGE.read_text()


def test_a_sampler_of_the_environment_keeps_or_drops_whole_traces(valkey_server: Server) -> None:
    with receiver() as received:
        visit(
            valkey_server,
            {**variables("sampling.env"), "OTEL_EXPORTER_OTLP_ENDPOINT": received.endpoint},
            200,
            path="/price",
        )
    kept = Counter(span.trace_id for span in received.spans)
    assert 0 < len(kept) < 80, "20 of 200 are expected"
    assert set(kept.values()) == {2}


@pytest.mark.parametrize(("flags", "count"), [("01", 43), ("00", 0)])
def test_a_parent_decides_before_the_ratio(valkey_server: Server, flags: str, count: int) -> None:
    header = f"traceparent=00-{'ab' * 16}-{'cd' * 8}-{flags}"
    environment = {**variables("sampling.env"), "OTEL_TRACES_SAMPLER_ARG": "0.5"}
    with receiver() as received:
        visit(
            valkey_server,
            {**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": received.endpoint},
            3,
            header,
        )
    assert len(received.spans) == 3 * count


def test_a_backend_that_cannot_be_reached_is_logged_as_the_page_says(
    valkey_server: Server,
) -> None:
    done = visit(valkey_server, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1", **_IN_VAIN})
    (message,) = re.findall(r"^ +(Failed to export spans batch.*)$", PAGE.read_text(), re.M)
    assert message in done.stderr


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(FILES)
    import shop  # type: ignore[import-not-found]

    return shop


@pytest.mark.alone("a command that takes long has a span")
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, _SPANS),
        ({"foo.trace_min_duration": "30 milliseconds"}, {"GET /": 1, "foo.WAIT": 1}),
        ({"foo.trace": "pipelines"}, {"GET /": 1, "foo.pipeline_visit": 1}),
        ({"foo.trace_exclude": "GET"}, {"GET /": 1, "foo.pipeline_visit": 1, "foo.WAIT": 1}),
        ({"foo.trace": "off"}, {"GET /": 1}),
    ],
    ids=str,
)
def test_settings_choose_the_spans(
    shop: Any,
    valkey_server: Server,
    spans: RecordedSpans,
    settings: dict[str, str],
    expected: dict[str, int],
) -> None:
    app = shop.main({}, **{"foo.url": valkey_server.url, **settings})
    assert Request.blank("/").get_response(app).body
    assert Counter(spans.names) == expected


def test_the_page_names_attributes_that_spans_have(
    shop: Any, valkey_server: Server, spans: RecordedSpans
) -> None:
    """Each attribute in a query or a policy is on a span of the shop, or of one with faults."""
    text = PAGE.read_text() + (FILES / "tail-sampling.yaml").read_text()
    named = set(re.findall(r"\b(?:db|error|server|pyramid_baseplate_redis)(?:\.[a-z_]+)+\b", text))
    settings = {"foo.url": valkey_server.url, "foo.max_connections": "1", "foo.pool_timeout": "1 s"}
    with Configurator(settings={**settings, "foo.trace_min_duration": "1 ms"}) as config:
        config.include("pyramid_baseplate_redis")
        config.add_route("home", "/")
        config.add_view(_faulty_page, route_name="home", renderer="json")
    assert Request.blank("/").get_response(config.make_wsgi_app()).body
    found = {name for span in spans.all for name in span.attributes or {}}
    assert named - found == set()
    assert len(named) >= 5
    assert all(is_redis_or_server(span) for span in spans.all)


def is_redis_or_server(span: ReadableSpan) -> bool:
    """Whether the attribute by which the queries choose the spans of Redis is right."""
    of_redis = (span.attributes or {}).get("db.system.name") == "redis"
    return of_redis == (span.kind is SpanKind.CLIENT)


def _faulty_page(request: Any) -> dict[str, Any]:
    with suppress(redis.ResponseError):
        request.foo.set("text", "value")
        request.foo.lpush("text", "value")
    pool = request.foo.connection_pool
    held = pool.get_connection()
    threading.Timer(0.02, pool.release, [held]).start()
    request.foo.get("text")
    return {}


COMPONENTS = {
    "receivers": {"otlp"},
    "processors": {"memory_limiter", "batch", "tail_sampling"},
    "exporters": {"otlp_http"},
}


def collector_configuration(*files: str) -> dict[str, Any]:
    """Merge files as the collector does with several --config: later ones replace lists."""
    merged: dict[str, Any] = {}
    for name in files:
        _merge(merged, yaml.safe_load((FILES / name).read_text()))
    return merged


def _merge(into: dict[str, Any], other: dict[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


@pytest.mark.parametrize("files", [["collector.yaml"], ["collector.yaml", "tail-sampling.yaml"]])
def test_the_collectors_pipeline_names_what_is_configured(files: list[str]) -> None:
    configuration = collector_configuration(*files)
    (pipeline,) = configuration["service"]["pipelines"].values()
    for kind, known in COMPONENTS.items():
        assert set(pipeline[kind]) <= set(configuration[kind])
        assert {name.partition("/")[0] for name in configuration[kind]} <= known
    # The limiter has to be first, and batches are made of what is kept.
    assert pipeline["processors"][0] == "memory_limiter"
    assert pipeline["processors"][-1] == "batch"


def test_each_policy_has_the_settings_of_its_type() -> None:
    configuration = collector_configuration("tail-sampling.yaml")
    policies = configuration["processors"]["tail_sampling"]["policies"]
    assert all(set(policy) == {"name", "type", policy["type"]} for policy in policies)
    assert {policy["type"] for policy in policies} == {
        "status_code", "latency", "ottl_condition", "probabilistic",
    }  # fmt: skip
