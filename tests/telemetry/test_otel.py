"""The parts of OpenTelemetry that other modules use through telemetry/otel.py."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext

from pyramid_baseplate_redis.telemetry import otel, semantic_conventions
from pyramid_baseplate_redis.telemetry.otel import is_suppressed, suppressed

from ..support.metrics import Connect, reader
from ..support.servers import MakeClient, RecordedSpans, Server


def test_telemetry_is_suppressed_inside_the_block_only() -> None:
    assert not is_suppressed()
    with suppressed():
        assert is_suppressed()
        with suppressed():
            pass
        assert is_suppressed()
    assert not is_suppressed()


def test_the_current_context_is_the_one_that_is_attached() -> None:
    runtime = ContextVarsRuntimeContext()
    read = otel._reader_of(runtime)
    context = Context({"key": "value"})
    token = runtime.attach(context)
    assert read() is context
    runtime.detach(token)
    assert read() == Context()


def test_a_runtime_context_of_the_application_is_asked() -> None:
    class Own(ContextVarsRuntimeContext):
        def get_current(self) -> Context:
            return Context({"key": "own"})

    assert otel._reader_of(Own())() == {"key": "own"}
    assert otel._reader_of(None) is otel_context.get_current


def test_an_error_ends_the_suppression() -> None:
    with pytest.raises(KeyboardInterrupt), suppressed():
        raise KeyboardInterrupt

    assert not is_suppressed()


def test_suppressed_commands_have_no_spans(
    valkey_server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(valkey_server)

    with suppressed():
        client.get("key")
    client.set("key", "value")

    assert [name for name, _ in spans.tree()] == ["foo.SET"]


def test_spans_have_the_version_and_the_schema(
    valkey_server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    make_client(valkey_server).get("key")
    scope = spans.one("foo.GET").instrumentation_scope
    assert scope is not None
    assert (scope.name, scope.version, scope.schema_url) == (
        "pyramid_baseplate_redis",
        version("pyramid_baseplate_redis"),
        semantic_conventions.SCHEMA_URL,
    )


@pytest.mark.usefixtures("provider")
def test_metrics_have_the_version_and_the_schema(valkey_server: Server, connect: Connect) -> None:
    connect(valkey_server.url).get("key")
    data = reader.get_metrics_data()
    assert data is not None
    found = [each.scope for resource in data.resource_metrics for each in resource.scope_metrics]
    # OpenTelemetry's own instrumentations, in tests before this one, have instruments as well.
    scopes = [scope for scope in found if scope.name.startswith("pyramid_baseplate_redis")]
    assert [(scope.name, scope.version, scope.schema_url) for scope in scopes] == [
        (
            "pyramid_baseplate_redis",
            version("pyramid_baseplate_redis"),
            semantic_conventions.SCHEMA_URL,
        )
    ]
