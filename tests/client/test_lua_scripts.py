"""Lua scripts of a monitored client: a script that is not loaded yet is no failure."""

from __future__ import annotations

import pytest
import redis

from ..support.servers import MakeClient, RecordedSpans, Server
from .conftest import code, failures, tracer


def test_a_script_that_the_server_doesnt_know_yet_is_no_failure(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(server)
    client.script_flush()
    spans.clear()
    script = client.register_script("return ARGV[1]")
    assert script(args=["hello"]) == b"hello"
    assert spans.names == ["foo.EVALSHA", "foo.SCRIPT LOAD", "foo.EVALSHA"]
    assert [code(span) for span in spans.all] == ["NOSCRIPT", None, None]
    assert failures(spans) == []


def test_a_script_that_a_plain_client_registered_is_no_failure_either(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(server)
    client.script_flush()
    with redis.Redis(port=server.port) as plain:
        script = plain.register_script("return ARGV[1]")
    assert script(args=["hello"], client=client) == b"hello"
    assert failures(spans) == []


def test_a_script_that_fails_is_a_failure(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(server)
    script = client.register_script("return redis.error_reply('MYCODE it failed')")
    with pytest.raises(redis.ResponseError, match="MYCODE"):
        script()
    assert [code(span) for span in spans.all if span.name in failures(spans)][-1] == "MYCODE"


def test_an_unknown_script_that_was_asked_for_by_its_digest_is_a_failure(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(server)
    client.script_flush()
    with pytest.raises(redis.exceptions.NoScriptError):
        client.evalsha("f" * 40, 0)
    assert failures(spans) == ["foo.EVALSHA"]


def test_a_script_uses_the_client_that_it_is_called_with(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    script = make_client(valkey).register_script("return 1")
    request = tracer.start_span("request")
    script(client=make_client(valkey, request))
    request.end()
    assert ("foo.EVALSHA", "request") in spans.tree()
