"""The exporter's variables in docs/guides/trace-backends do what the page says."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SpanExportResult
from webob import Request

from ...support.servers import RecordedSpans, Server
from .otlp_receiver import Receiver, receiver
from .shop_page import PAGE, SPANS, names, variables, visit

Export = Callable[[dict[str, str]], SpanExportResult]

# The page says that these win over OTEL_EXPORTER_OTLP_CERTIFICATE.
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# An exporter that has no success tries again for this long.
_IN_VAIN = {"OTEL_EXPORTER_OTLP_TIMEOUT": "1"}


def test_jaeger(valkey_server: Server) -> None:
    environment = variables("jaeger.env")
    assert environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://localhost:4318"
    with receiver() as received:
        visit(valkey_server, {**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": received.endpoint})
    assert received.services == {"shop"}
    assert names(received) == SPANS


@pytest.fixture
def export(
    shop: Any, valkey_server: Server, spans: RecordedSpans, monkeypatch: pytest.MonkeyPatch
) -> Export:
    """Return a function that exports the page's spans with the variables given."""
    for name in os.environ:
        if name.startswith("OTEL_") or name in BUNDLES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "*")
    app = shop.main({}, **{"foo.url": valkey_server.url})
    assert Request.blank("/").get_response(app).body

    def run(environment: dict[str, str]) -> SpanExportResult:
        for name, text in environment.items():
            monkeypatch.setenv(name, text)
        exporter = OTLPSpanExporter()
        try:
            return exporter.export(spans.all)
        finally:
            exporter.shutdown()

    return run


def test_a_backend_with_a_key_in_a_header(export: Export) -> None:
    environment = variables("honeycomb.env")
    with receiver() as received:
        done = export({**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": received.endpoint})
    assert done is SpanExportResult.SUCCESS
    assert names(received) == SPANS
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


@pytest.fixture
def tls_variables(authority: trustme.CA, strict: Receiver, tmp_path: Path) -> dict[str, str]:
    """The variables of the page, with files that exist."""
    files = {name: tmp_path / name for name in ("collector-ca.pem", "shop.pem", "shop.key")}
    own = authority.issue_cert("shop")
    authority.cert_pem.write_to_path(files["collector-ca.pem"])
    own.cert_chain_pems[0].write_to_path(files["shop.pem"])
    own.private_key_pem.write_to_path(files["shop.key"])
    environment = {
        name: str(files[Path(text).name]) if text.startswith("/etc/ssl/") else text
        for name, text in variables("tls.env").items()
    }
    return {**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": strict.endpoint}


def test_tls_with_certificates_of_both_sides(
    export: Export, strict: Receiver, tls_variables: dict[str, str]
) -> None:
    assert export(tls_variables) is SpanExportResult.SUCCESS
    assert names(strict) == SPANS


@pytest.mark.parametrize(
    "missing",
    [
        ["OTEL_EXPORTER_OTLP_CERTIFICATE"],
        ["OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_KEY"],
    ],
    ids=["the server's authority", "the client's certificate"],
)
def test_tls_without_one_of_the_certificates(
    export: Export, strict: Receiver, tls_variables: dict[str, str], missing: list[str]
) -> None:
    for name in missing:
        del tls_variables[name]
    assert export({**tls_variables, **_IN_VAIN}) is SpanExportResult.FAILURE
    assert strict.spans == []


@pytest.mark.parametrize("name", BUNDLES)
def test_a_bundle_of_requests_wins_over_the_certificate_of_the_exporter(
    export: Export, strict: Receiver, tls_variables: dict[str, str], tmp_path: Path, name: str
) -> None:
    others = tmp_path / "others.pem"
    trustme.CA().cert_pem.write_to_path(others)
    done = export({**tls_variables, name: str(others), **_IN_VAIN})
    assert done is SpanExportResult.FAILURE
    assert f"``{name}``" in PAGE.read_text()


def test_a_backend_that_cannot_be_reached_is_logged_as_the_page_says(
    export: Export, caplog: pytest.LogCaptureFixture
) -> None:
    export({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1", **_IN_VAIN})
    (message,) = re.findall(r"^ +(Failed to export spans batch.*)$", PAGE.read_text(), re.M)
    assert message in caplog.text
