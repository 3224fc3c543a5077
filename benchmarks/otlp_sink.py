"""Run a collector that counts the spans sent to it and drops them: ``otlp_sink.py PORT``."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Sink(BaseHTTPRequestHandler):
    """Answer OTLP requests with success, and any GET with the number of spans received so far."""

    protocol_version = "HTTP/1.1"  # exporters keep their connections
    spans = 0

    def do_POST(self) -> None:  # the library's name
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/traces":
            exported = ExportTraceServiceRequest.FromString(body)
            Sink.spans += sum(
                len(scope.spans)
                for resource in exported.resource_spans
                for scope in resource.scope_spans
            )
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(b"%d" % Sink.spans)

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Write no log: a line for each request would cost more than the request."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Sink).serve_forever()
