"""The parts of OpenTelemetry that other modules use through telemetry/otel.py."""

from __future__ import annotations

import pytest

from pyramid_baseplate_redis.telemetry.otel import is_suppressed, suppressed

from ..support.servers import MakeClient, RecordedSpans, Server


def test_telemetry_is_suppressed_inside_the_block_only() -> None:
    assert not is_suppressed()
    with suppressed():
        assert is_suppressed()
        with suppressed():
            pass
        assert is_suppressed()
    assert not is_suppressed()


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
