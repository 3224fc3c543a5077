"""A whole application under WebTest: each span of one request, one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import redis
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from pyramid.config import Configurator
from pyramid.request import Request
from webtest import TestApp

from ..support.servers import RecordedSpans, Server, attributes

MakeConfig = Callable[..., Configurator]
SERVER = "POST /tasks/{name}"
SCRIPT = "return redis.call('INCR', KEYS[1])"


def work(request: Request) -> dict[str, Any]:
    """One of everything."""
    foo = request.foo
    foo.set("greeting", "hello", ex=60)
    missing = foo.get("missing")
    try:
        foo.lpush("greeting", "a private value")
    except redis.ResponseError as error:
        failure = str(error)
    with foo.pipeline("load_page") as pipeline:
        counted = pipeline.incr("counter").get("greeting").execute()
    with foo.lock("nightly", timeout=5) as lock:
        locked = lock.owned()
    scripted = foo.register_script(SCRIPT)(keys=["counter"])
    request.jobs.put("resize 17")
    with trace.get_tracer(__name__).start_as_current_span("render"):
        foo.exists("greeting")
    return {
        "missing": missing,
        "failure": failure,
        "counted": [counted[0], counted[1].decode()],
        "locked": locked,
        "scripted": scripted,
    }


@pytest.fixture
def app(make_config: MakeConfig, valkey: Server) -> TestApp:
    with redis.Redis(port=valkey.port) as client:
        client.script_flush()  # whatever other tests loaded
    config = make_config(foo__url=valkey.url.replace("/0", "/3"))
    config.add_message_queue("jobs", client="foo")
    config.add_route("work", "/tasks/{name}")
    config.add_view(work, route_name="work", renderer="json")
    return TestApp(config.make_wsgi_app())


@pytest.fixture
def requested(app: TestApp, spans: RecordedSpans) -> RecordedSpans:
    """The spans of one request."""
    app.post("/tasks/hard?token=secret")
    return spans


def command(valkey: Server, operation: str, **more: Any) -> dict[str, Any]:
    """The attributes of a command's span."""
    return {
        "db.system.name": "redis",
        "db.namespace": "3",
        "db.operation.name": operation,
        "db.client.connection.pool.name": "foo",
        "server.address": "127.0.0.1",
        "server.port": valkey.port,
        "network.peer.address": "127.0.0.1",
        "network.peer.port": valkey.port,
        **{key.replace("__", "."): value for key, value in more.items()},
    }


def what(span: ReadableSpan) -> tuple[SpanKind, StatusCode, dict[str, Any]]:
    return span.kind, span.status.status_code, attributes(span)


def test_the_answer_is_redis_py_s(app: TestApp) -> None:
    assert app.post("/tasks/hard").json == {
        "missing": None,
        "failure": "WRONGTYPE Operation against a key holding the wrong kind of value",
        "counted": [1, "hello"],
        "locked": True,
        "scripted": 2,
    }


def test_the_spans_are_those_of_the_commands_in_their_order(requested: RecordedSpans) -> None:
    assert requested.tree() == [
        (SERVER, None),
        ("foo.SET", SERVER),
        ("foo.GET", SERVER),
        ("foo.LPUSH", SERVER),
        ("foo.pipeline_load_page", SERVER),
        ("foo.SET", SERVER),  # the lock is acquired,
        ("foo.GET", SERVER),  # asked for its owner,
        ("foo.EVALSHA", SERVER),  # and released with a script
        ("foo.SCRIPT LOAD", SERVER),  # that the server didn't know,
        ("foo.EVALSHA", SERVER),
        ("foo.EVALSHA", SERVER),  # nor did it know the view's own
        ("foo.SCRIPT LOAD", SERVER),
        ("foo.EVALSHA", SERVER),
        ("foo.RPUSH", SERVER),
        ("render", SERVER),
        ("foo.EXISTS", "render"),
    ]


def test_the_spans_are_one_trace(requested: RecordedSpans) -> None:
    assert len({span.context.trace_id for span in requested.all}) == 1


def test_the_server_span(requested: RecordedSpans) -> None:
    assert what(requested.one(SERVER)) == (
        SpanKind.SERVER,
        StatusCode.UNSET,
        {
            "http.request.method": "POST",
            "http.response.status_code": 200,
            "http.route": "/tasks/{name}",
            "network.protocol.version": "1.0",
            "server.address": "localhost",
            "server.port": 80,
            "url.path": "/tasks/hard",
            "url.query": "token=REDACTED",
            "url.scheme": "http",
        },
    )


def test_the_span_of_a_set(requested: RecordedSpans, valkey: Server) -> None:
    span = requested.named("foo.SET")[0]
    assert what(span) == (SpanKind.CLIENT, StatusCode.UNSET, command(valkey, "SET"))


def test_the_span_of_a_get_that_misses(requested: RecordedSpans, valkey: Server) -> None:
    span = requested.named("foo.GET")[0]
    assert what(span) == (SpanKind.CLIENT, StatusCode.UNSET, command(valkey, "GET"))


def test_the_span_of_a_command_that_fails(requested: RecordedSpans, valkey: Server) -> None:
    failure = {
        "error__type": "WRONGTYPE",
        "db__response__status_code": "WRONGTYPE",
    }
    expected = command(valkey, "LPUSH", **failure)
    assert what(requested.one("foo.LPUSH")) == (SpanKind.CLIENT, StatusCode.ERROR, expected)


def test_the_span_of_a_pipeline(requested: RecordedSpans, valkey: Server) -> None:
    expected = command(valkey, "MULTI", db__operation__batch__size=2)
    span = requested.one("foo.pipeline_load_page")
    assert what(span) == (SpanKind.CLIENT, StatusCode.UNSET, expected)


def test_the_span_of_a_lock_being_acquired(requested: RecordedSpans, valkey: Server) -> None:
    span = requested.named("foo.SET")[1]
    assert what(span) == (SpanKind.CLIENT, StatusCode.UNSET, command(valkey, "SET"))


def test_the_span_of_a_lock_being_released(requested: RecordedSpans, valkey: Server) -> None:
    kind, status, found = what(requested.named("foo.EVALSHA")[1])
    procedure = found.pop("db.stored_procedure.name")
    assert (kind, status, found) == (
        SpanKind.CLIENT,
        StatusCode.UNSET,
        command(valkey, "EVALSHA"),
    )
    assert len(procedure) == len(hashlib.sha1(b"").hexdigest())


def test_the_span_of_a_script_that_the_server_does_not_know(
    requested: RecordedSpans, valkey: Server
) -> None:
    expected = command(
        valkey,
        "EVALSHA",
        db__stored_procedure__name=hashlib.sha1(SCRIPT.encode()).hexdigest(),
        db__response__status_code="NOSCRIPT",
    )
    span = requested.named("foo.EVALSHA")[2]
    assert what(span) == (SpanKind.CLIENT, StatusCode.UNSET, expected)


def test_the_span_of_a_script_being_loaded(requested: RecordedSpans, valkey: Server) -> None:
    span = requested.named("foo.SCRIPT LOAD")[1]
    assert what(span) == (SpanKind.CLIENT, StatusCode.UNSET, command(valkey, "SCRIPT LOAD"))


def test_the_span_of_a_script(requested: RecordedSpans, valkey: Server) -> None:
    procedure = hashlib.sha1(SCRIPT.encode()).hexdigest()
    expected = command(valkey, "EVALSHA", db__stored_procedure__name=procedure)
    span = requested.named("foo.EVALSHA")[3]
    assert what(span) == (SpanKind.CLIENT, StatusCode.UNSET, expected)


def test_the_span_of_a_queue_put(requested: RecordedSpans, valkey: Server) -> None:
    span = requested.one("foo.RPUSH")
    assert what(span) == (SpanKind.CLIENT, StatusCode.UNSET, command(valkey, "RPUSH"))


def test_the_span_of_a_command_in_a_local_span(requested: RecordedSpans, valkey: Server) -> None:
    span = requested.one("foo.EXISTS")
    assert requested.parent_of(span) == requested.one("render")
    assert what(span) == (SpanKind.CLIENT, StatusCode.UNSET, command(valkey, "EXISTS"))


def test_no_span_has_events(requested: RecordedSpans) -> None:
    assert [span.events for span in requested.all] == [()] * len(requested.all)


@pytest.mark.parametrize("value", ["hello", "a private value", "resize 17", "secret"])
def test_no_span_has_a_value(requested: RecordedSpans, value: str) -> None:
    assert not any(value in span.to_json() for span in requested.all)
