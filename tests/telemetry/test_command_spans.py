"""Spans of commands: names, attributes, parents, and the settings for them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags, use_span

from pyramid_baseplate_redis import MonitoredRedisConnection, pool_from_config

from ..support.operations import use_everything
from ..support.servers import MakeClient, RecordedSpans, Server, attributes

tracer = trace.get_tracer("tests")
SECRET = "hunter2-secretword"


def foreign_span(*, sampled: bool, remote: bool) -> Span:
    """A span that isn't recorded in this process."""
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    return NonRecordingSpan(SpanContext(0xABC, 0xDEF, remote, flags))


# Names and attributes


def test_a_command_is_one_client_span(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    make_client(server).get("greeting")
    (span,) = spans.all
    assert (span.name, span.kind) == ("foo.GET", SpanKind.CLIENT)


def test_the_attributes_are_those_of_the_conventions(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    make_client(server.url.replace("/0", "/3")).get("greeting")
    assert attributes(spans.one("foo.GET")) == {
        "db.system.name": "redis",
        "db.namespace": "3",
        "db.operation.name": "GET",
        "db.client.connection.pool.name": "foo",
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "network.peer.address": "127.0.0.1",
        "network.peer.port": server.port,
    }


def test_the_pool_name_is_that_of_the_redis_client(valkey: Server, spans: RecordedSpans) -> None:
    pool = pool_from_config({"foo.url": valkey.url}, "foo.")
    MonitoredRedisConnection("foo", None, pool, "shared-cache").ping()
    pool.disconnect()
    assert attributes(spans.one("foo.PING"))["db.client.connection.pool.name"] == "shared-cache"


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (("GET", "key"), "foo.GET"),
        (("get", "key"), "foo.GET"),
        ((b"GET", "key"), "foo.GET"),
        (("CLIENT GETNAME",), "foo.CLIENT GETNAME"),
        (("object help",), "foo.OBJECT HELP"),
        (("ECHO " + SECRET,), "foo.ECHO"),
    ],
)
def test_a_span_is_named_after_the_command(
    valkey: Server,
    make_client: MakeClient,
    spans: RecordedSpans,
    command: tuple[Any, ...],
    name: str,
) -> None:
    make_client(valkey).execute_command(*command)
    assert spans.names == [name]


@pytest.mark.parametrize("function", [False, True], ids=["evalsha", "fcall"])
def test_a_stored_procedure_is_named(
    server: Server, make_client: MakeClient, spans: RecordedSpans, function: bool
) -> None:
    client = make_client(server)
    if function:
        code = "#!lua name=lib\nredis.register_function('answer', function() return 42 end)"
        client.function_load(code, replace=True)
        client.fcall("answer", 0)
        name, span = "answer", spans.one("foo.FCALL")
    else:
        name = client.script_load("return 42")
        client.evalsha(name, 0)
        span = spans.one("foo.EVALSHA")
    assert attributes(span)["db.stored_procedure.name"] == name


def test_a_span_covers_the_time_that_the_server_takes(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    make_client(valkey).blpop("nothing", timeout=0.2)
    span = spans.one("foo.BLPOP")
    assert 0.18e9 < (span.end_time or 0) - (span.start_time or 0) < 2e9


# Parents


def test_the_current_span_is_the_parent(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    request = tracer.start_span("request")
    client = make_client(valkey, request)
    with tracer.start_as_current_span("in the view"):
        client.ping()
    request.end()
    assert ("foo.PING", "in the view") in spans.tree()


def test_without_a_current_span_the_parent_is_the_requests(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    request = tracer.start_span("request")
    make_client(valkey, request).ping()
    request.end()
    assert spans.tree() == [("request", None), ("foo.PING", "request")]


def test_a_command_of_a_thread_without_context_belongs_to_the_request(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    with tracer.start_as_current_span("request") as request:
        thread = threading.Thread(target=make_client(valkey, request).ping)
        thread.start()
        thread.join()
    assert spans.tree() == [("request", None), ("foo.PING", "request")]


def test_an_ended_parent_is_still_the_parent(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    with tracer.start_as_current_span("request") as request:
        client = make_client(valkey, request)
    client.ping()
    assert spans.tree() == [("request", None), ("foo.PING", "request")]


def test_a_remote_parent_is_the_parent(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    with use_span(foreign_span(sampled=True, remote=True)):
        make_client(valkey).ping()
    parent = spans.one("foo.PING").parent
    assert parent is not None
    assert (parent.trace_id, parent.span_id) == (0xABC, 0xDEF)


def test_without_any_parent_a_command_is_a_root_span(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    make_client(valkey).ping()
    assert spans.tree() == [("foo.PING", None)]


@pytest.mark.parametrize("current", [True, False], ids=["current", "the request's"])
@pytest.mark.parametrize("remote", [True, False], ids=["remote", "local"])
def test_under_an_unsampled_parent_nothing_is_made(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans, current: bool, remote: bool
) -> None:
    unsampled = foreign_span(sampled=False, remote=remote)
    client = make_client(valkey, None if current else unsampled)
    with use_span(unsampled if current else trace.INVALID_SPAN):
        client.set("key", "value")
        with client.pipeline("pair") as pipeline:
            pipeline.get("key").get("key").execute()
        subscriber = client.pubsub()
        subscriber.subscribe(news=lambda message: None)
        assert subscriber.get_message(timeout=2) is not None
        client.publish("news", "now")
        subscriber.get_message(timeout=2)
        subscriber.close()
    assert spans.names == []


# Settings


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        ("all", ["foo.SET", "foo.WATCH", "foo.GET", "foo.pipeline_pair"]),
        ("children", []),
        ("pipelines", ["foo.pipeline_pair"]),
        ("off", []),
    ],
)
def test_trace_without_a_parent(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans, mode: str, names: list[str]
) -> None:
    use_everything(make_client(valkey, trace=mode))
    assert spans.names == names


@pytest.mark.parametrize("current", [True, False], ids=["current", "the request's"])
@pytest.mark.parametrize(
    ("mode", "names"),
    [
        ("all", ["foo.SET", "foo.WATCH", "foo.GET", "foo.pipeline_pair"]),
        ("children", ["foo.SET", "foo.WATCH", "foo.GET", "foo.pipeline_pair"]),
        ("pipelines", ["foo.pipeline_pair"]),
        ("off", []),
    ],
)
def test_trace_under_a_parent(
    valkey: Server,
    make_client: MakeClient,
    spans: RecordedSpans,
    mode: str,
    names: list[str],
    current: bool,
) -> None:
    request = tracer.start_span("request")
    client = make_client(valkey, None if current else request, trace=mode)
    with use_span(request if current else trace.INVALID_SPAN):
        use_everything(client)
    assert spans.names == names
    request.end()


def test_excluded_commands_have_no_spans(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(valkey, trace_exclude="PING, client")
    client.ping()
    client.client_getname()
    client.get("key")
    client.publish("news", "now")
    assert spans.names == ["foo.GET", "foo.PUBLISH"]


def test_the_query_text_is_off_by_default(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    make_client(valkey).set("key", "value")
    assert "db.query.text" not in attributes(spans.one("foo.SET"))


@pytest.mark.parametrize(
    ("call", "sanitized", "keys"),
    [
        (lambda c: c.set("a", "v", ex=5), "SET ? ? ? ?", "SET a ? ? ?"),
        (lambda c: c.mset({"a": "v", b"b": "w"}), "MSET ? ? ? ?", "MSET a ? b ?"),
        (lambda c: c.delete("a", "b"), "DEL ? ?", "DEL a b"),
        (lambda c: c.eval("return 1", 1, "a"), "EVAL ? ? ?", "EVAL ? ? ?"),
        (lambda c: c.execute_command("get", "a"), "GET ?", "GET a"),
        (lambda c: c.ping(), "PING", "PING"),
    ],
    ids=["SET", "MSET", "DEL", "EVAL", "lower case", "PING"],
)
@pytest.mark.parametrize("mode", ["sanitized", "keys"])
def test_the_query_text_has_no_values(
    valkey: Server,
    make_client: MakeClient,
    spans: RecordedSpans,
    mode: str,
    call: Callable[[redis.Redis], Any],
    sanitized: str,
    keys: str,
) -> None:
    call(make_client(valkey, trace_query_text=mode))
    (span,) = spans.all
    assert attributes(span)["db.query.text"] == (keys if mode == "keys" else sanitized)


@pytest.mark.parametrize(
    ("mode", "text"), [("sanitized", "SET ? ?; GET ?"), ("keys", "SET a ?; GET a")]
)
def test_the_query_text_of_a_pipeline_lists_its_commands(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans, mode: str, text: str
) -> None:
    make_client(valkey, trace_query_text=mode).pipeline().set("a", SECRET).get("a").execute()
    assert attributes(spans.one("foo.pipeline"))["db.query.text"] == text


@pytest.mark.parametrize(
    "command",
    [
        ("AUTH", "default", SECRET),
        ("HELLO", "3", "AUTH", "default", SECRET),
        ("ACL SETUSER", "guest", f">{SECRET}"),
        ("ACL", "SETUSER", "guest", f">{SECRET}"),
        ("CONFIG SET", "masterauth", SECRET),
        ("CONFIG", "SET", "masterauth", SECRET),
        ("SET", "key", SECRET),
        (f"SET key {SECRET}",),
        (f"AUTH default {SECRET}",),
    ],
    ids=lambda command: " ".join(command).replace(SECRET, "..."),
)
def test_no_secret_is_ever_shown(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans, command: tuple[str, ...]
) -> None:
    client = make_client(valkey, trace_query_text="keys")
    try:
        client.execute_command(*command)
    finally:
        client.config_set("masterauth", "")
        client.acl_deluser("guest")
    assert spans.all
    assert not [span.name for span in spans.all if SECRET.upper() in span.to_json().upper()]
