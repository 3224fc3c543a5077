"""Spans of commands: names, attributes, parents, statuses; what broken telemetry cannot do."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    use_span,
)

from pyramid_baseplate_redis import (
    MessageQueue,
    MonitoredRedisConnection,
    RedisContextFactory,
    pool_from_config,
)

from ..support.servers import (
    MakeClient,
    RecordedSpans,
    Server,
    attributes,
    free_port,
    interrupt_when_blocked,
)

tracer = trace.get_tracer("tests")
SECRET = "hunter2-secretword"


def foreign_span(*, sampled: bool, remote: bool) -> Span:
    """A span that isn't recorded in this process."""
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    return NonRecordingSpan(SpanContext(0xABC, 0xDEF, remote, flags))


def failed(span: ReadableSpan) -> tuple[str | None, str | None]:
    """The error's type and the server's code, of a span that has to tell of a failure."""
    assert span.status.status_code is StatusCode.ERROR
    found = attributes(span)
    return found.get("error.type"), found.get("db.response.status_code")


# Names and attributes


def test_a_command_is_one_client_span(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    make_client(server).get("greeting")
    (span,) = spans.all
    assert (span.name, span.kind) == ("foo.GET", SpanKind.CLIENT)


def test_the_attributes_are_those_of_the_stable_conventions(
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


# Failures


def make_string(client: redis.Redis) -> None:
    client.set("text", "not a list")


FAILURES = [
    pytest.param(lambda c: c.lpush("text", 1), "WRONGTYPE", "ResponseError", id="WRONGTYPE"),
    pytest.param(lambda c: c.incr("text"), "ERR", "ResponseError", id="ERR"),
    pytest.param(lambda c: c.evalsha("f" * 40, 0), "NOSCRIPT", "NoScriptError", id="NOSCRIPT"),
    pytest.param(
        lambda c: c.execute_command("FCALL", "no_such_function", 0),
        "ERR",
        "ResponseError",
        id="FCALL",
    ),
    pytest.param(
        lambda c: c.execute_command("NO.SUCH", SECRET), "ERR", "ResponseError", id="unknown command"
    ),
    pytest.param(
        lambda c: c.execute_command("AUTH", "nobody", SECRET),
        "WRONGPASS",
        "AuthenticationError",
        id="WRONGPASS",
    ),
]


@pytest.mark.parametrize(("call", "code", "error_class"), FAILURES)
def test_a_failure_has_the_servers_code_and_the_errors_type(
    server: Server,
    make_client: MakeClient,
    spans: RecordedSpans,
    call: Callable[[redis.Redis], Any],
    code: str,
    error_class: str,
) -> None:
    client = make_client(server)
    make_string(client)
    spans.clear()
    with pytest.raises(redis.RedisError):
        call(client)
    (span,) = spans.all
    assert failed(span) == (f"redis.exceptions.{error_class}", code)


def test_a_full_server_is_told_by_its_code(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(server)
    client.config_set("maxmemory", "1")
    try:
        with pytest.raises(redis.OutOfMemoryError):
            client.set("key", "value")
    finally:
        client.config_set("maxmemory", "0")
    assert failed(spans.one("foo.SET")) == ("redis.exceptions.OutOfMemoryError", "OOM")


@pytest.mark.parametrize(("call", "code", "error_class"), FAILURES)
def test_a_failure_leaves_no_text_in_its_span(
    valkey: Server,
    make_client: MakeClient,
    spans: RecordedSpans,
    call: Callable[[redis.Redis], Any],
    code: str,
    error_class: str,
) -> None:
    client = make_client(valkey)
    make_string(client)
    spans.clear()
    with pytest.raises(redis.RedisError):
        call(client)
    (span,) = spans.all
    assert (span.status.description, list(span.events)) == (None, [])
    assert SECRET not in span.to_json()


def test_a_refused_connection_is_a_failure_without_code(
    make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(redis.ConnectionError):
        client.ping()
    assert failed(spans.one("foo.PING")) == ("redis.exceptions.ConnectionError", None)


def test_a_timeout_is_a_failure_without_code(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(valkey, socket_timeout="50 milliseconds")
    with pytest.raises(redis.TimeoutError):
        client.blpop("nothing", timeout=1)
    assert failed(spans.one("foo.BLPOP")) == ("redis.exceptions.TimeoutError", None)


def test_an_exhausted_pool_is_a_failure(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(valkey, max_connections="1", pool_timeout="20 milliseconds")
    connection = client.connection_pool.get_connection()
    with pytest.raises(redis.ConnectionError):
        client.ping()
    client.connection_pool.release(connection)
    assert spans.one("foo.PING").status.status_code is StatusCode.ERROR


def test_a_callback_that_raises_is_a_failure_of_its_own_type(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(valkey)

    def refuse(response: bytes, **options: Any) -> None:
        raise ZeroDivisionError(SECRET)

    client.set_response_callback("GET", refuse)
    with pytest.raises(ZeroDivisionError):
        client.get("key")
    assert failed(spans.one("foo.GET")) == ("ZeroDivisionError", None)


def test_an_interrupted_command_ends_its_span(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(server, max_connections="1")
    thread = interrupt_when_blocked(server)
    with pytest.raises(KeyboardInterrupt):
        client.blpop("nothing", timeout=4)
    thread.join()
    assert failed(spans.one("foo.BLPOP")) == ("KeyboardInterrupt", None)


def test_an_interrupted_command_leaves_no_reply_to_the_next(
    server: Server, make_client: MakeClient
) -> None:
    client = make_client(server, max_connections="1")
    client.set("key", "value")
    thread = interrupt_when_blocked(server)
    with pytest.raises(KeyboardInterrupt):
        client.blpop("later", timeout=4)
    thread.join()
    with redis.Redis(port=server.port) as other:
        other.rpush("later", "a message")
    assert client.get("key") == b"value"


# Waiting for a connection


def get(client: MonitoredRedisConnection) -> None:
    client.get("key")


def execute_pipeline(client: MonitoredRedisConnection) -> None:
    client.pipeline().get("key").execute()


def watch(client: MonitoredRedisConnection) -> None:
    with client.pipeline() as pipeline:
        pipeline.watch("key")


def subscribe(client: MonitoredRedisConnection) -> None:
    with client.pubsub() as subscriber:
        subscriber.subscribe("news")


def put(client: MonitoredRedisConnection) -> None:
    client.message_queue("jobs").put("a message")


def take(client: MonitoredRedisConnection) -> None:
    client.message_queue("jobs").get(2)


@pytest.mark.parametrize(
    "call", [get, execute_pipeline, watch, subscribe, put, take], ids=lambda c: c.__name__
)
def test_waiting_for_a_connection_is_told_apart(
    valkey: Server,
    make_client: MakeClient,
    spans: RecordedSpans,
    call: Callable[[MonitoredRedisConnection], None],
) -> None:
    with redis.Redis(port=valkey.port) as other:
        other.rpush("jobs", "a message")
    client = make_client(valkey, max_connections="1")
    held = client.connection_pool.get_connection()
    timer = threading.Timer(0.2, client.connection_pool.release, [held])
    timer.start()
    call(client)
    timer.join()
    (span,) = spans.all
    assert 0.05 < attributes(span)["db.client.connection.wait_time"] < 2


@pytest.mark.parametrize(
    "call", [get, execute_pipeline, watch, subscribe, put, take], ids=lambda c: c.__name__
)
@pytest.mark.parametrize("excluded", [False, True], ids=["span", "no span"])
def test_another_commands_wait_is_not_told(
    valkey: Server,
    make_client: MakeClient,
    spans: RecordedSpans,
    call: Callable[[MonitoredRedisConnection], None],
    excluded: bool,
) -> None:
    with redis.Redis(port=valkey.port) as other:
        other.rpush("jobs", "a message")
    client = make_client(valkey, max_connections="1", trace_exclude="PING" if excluded else "INFO")
    held = client.connection_pool.get_connection()
    timer = threading.Timer(0.1, client.connection_pool.release, [held])
    timer.start()
    client.ping()
    timer.join()
    spans.clear()
    call(client)
    (span,) = spans.all
    assert "db.client.connection.wait_time" not in attributes(span)


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


def use_everything(client: MonitoredRedisConnection) -> None:
    client.set("key", "value")
    with client.pipeline("pair") as pipeline:
        pipeline.watch("key")
        pipeline.get("key")
        pipeline.multi()
        pipeline.get("key").get("key").execute()


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


# Other telemetry


@pytest.mark.parametrize(
    "key", [_SUPPRESS_INSTRUMENTATION_KEY, "suppress_instrumentation"], ids=["key", "plain text"]
)
def test_suppressed_instrumentation_makes_no_spans(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans, key: str
) -> None:
    client = make_client(valkey)
    token = otel_context.attach(otel_context.set_value(key, True))
    try:
        use_everything(client)
        client.message_queue("jobs").put("a message")
        client.message_queue("jobs").get(1)
    finally:
        otel_context.detach(token)
    assert spans.names == []


def test_the_instrumentation_libraries_own_switch_is_heeded(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(valkey)
    with suppress_instrumentation(), tracer.start_as_current_span("request"):
        client.ping()
    assert spans.names == ["request"]


@pytest.fixture
def instrumented() -> Iterator[None]:
    """OpenTelemetry's own instrumentation of redis-py is active."""
    RedisInstrumentor().instrument()
    yield
    RedisInstrumentor().uninstrument()


@pytest.mark.usefixtures("instrumented")
def test_a_plain_client_has_opentelemetrys_spans(valkey: Server, spans: RecordedSpans) -> None:
    with redis.Redis(port=valkey.port) as plain:
        plain.ping()
    assert "PING" in spans.names


def use_queues(client: MonitoredRedisConnection) -> None:
    queue = client.message_queue("jobs")
    queue.put("a message")
    queue.get(1)
    with redis.Redis(connection_pool=client.connection_pool) as plain:
        queue = MessageQueue("jobs", plain)
        with tracer.start_as_current_span("worker"):
            queue.put("a message")
            queue.get(1)


def use_a_lock(client: MonitoredRedisConnection) -> None:
    client.script_flush()
    with client.lock("door", timeout=5):
        pass


@pytest.mark.usefixtures("instrumented")
@pytest.mark.parametrize(
    ("call", "names"),
    [
        (get, ["foo.GET"]),
        (use_everything, ["foo.SET", "foo.WATCH", "foo.GET", "foo.pipeline_pair"]),
        (subscribe, ["foo.SUBSCRIBE"]),
        (use_queues, ["foo.RPUSH", "foo.BLPOP", "worker", "foo.RPUSH", "foo.BLPOP"]),
        (
            use_a_lock,
            ["foo.SCRIPT FLUSH", "foo.SET", "foo.EVALSHA", "foo.SCRIPT LOAD", "foo.EVALSHA"],
        ),
    ],
    ids=["command", "pipeline", "pubsub", "queue", "lock"],
)
def test_with_opentelemetrys_instrumentation_there_is_one_span_still(
    valkey: Server,
    make_client: MakeClient,
    spans: RecordedSpans,
    call: Callable[[MonitoredRedisConnection], None],
    names: list[str],
) -> None:
    call(make_client(valkey))
    assert spans.names == names


# Set-ups of OpenTelemetry that a process has one of: each has a process of its own.

_WORK = """
import json, sys
import redis
from pyramid_baseplate_redis import MonitoredRedisConnection, pool_from_config

def work(server_span=None):
    pool = pool_from_config({"foo.url": sys.argv[1], "foo.trace_query_text": "keys"}, "foo.")
    client = MonitoredRedisConnection("foo", server_span, pool)
    results = [client.set("key", "value"), client.get("key").decode()]
    try:
        client.lpush("key", 1)
    except redis.ResponseError as error:
        results.append(str(error).split()[0])
    with client.pipeline("pair") as pipeline:
        pipeline.watch("key")
        results.append(pipeline.get("key").decode())
        pipeline.multi()
        results.append(pipeline.incr("n").incr("n").execute())
    handled = []
    with client.pubsub() as subscriber:
        subscriber.subscribe(news=handled.append)
        subscriber.get_message(timeout=2)
        client.publish("news", "now")
        subscriber.get_message(timeout=2)
    results.append(len(handled))
    with client.lock("door", timeout=5) as lock:
        results.append(lock.owned())
    queue = client.message_queue("jobs")
    queue.put("a message")
    results.append(queue.get(2).decode())
    pool.disconnect()
    return results

"""
_RESULTS = [True, "value", "WRONGTYPE", "value", [1, 2], 1, True, "a message"]
_SDK = """
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
"""


def run_program(program: str, server: Server) -> Any:
    """Run a program in a process of its own and return what it printed, as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", program, server.url], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "broken",
    [
        "TracerProvider(); provider.add_span_processor(RaisesOnStart())",
        "TracerProvider(); provider.add_span_processor(RaisesOnEnd())",
        "TracerProvider(sampler=RaisingSampler())",
    ],
    ids=["on_start", "on_end", "sampler"],
)
def test_broken_telemetry_never_changes_a_result(valkey: Server, broken: str) -> None:
    program = f"""
{_SDK}
class RaisesOnStart(SpanProcessor):
    def on_start(self, span, parent_context=None):
        raise RuntimeError("broken")

class RaisesOnEnd(SpanProcessor):
    def on_end(self, span):
        raise RuntimeError("broken")

class RaisingSampler(Sampler):
    def should_sample(self, *args, **kwargs):
        raise RuntimeError("broken")

    def get_description(self):
        return "broken"

provider = {broken}
trace.set_tracer_provider(provider)
{_WORK}
print(json.dumps(work()))
"""
    assert run_program(program, valkey) == _RESULTS


def test_without_the_sdk_everything_works(valkey: Server) -> None:
    program = f"""
import sys
sys.modules["opentelemetry.sdk"] = None
{_WORK}
assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk.")]
print(json.dumps(work()))
"""
    assert run_program(program, valkey) == _RESULTS


def test_a_sampler_sees_the_attributes(valkey: Server) -> None:
    program = f"""
{_SDK}
class Recording(Sampler):
    seen = {{}}

    def should_sample(self, parent_context, trace_id, name, kind=None, attributes=None, *args):
        self.seen[name] = sorted(attributes)
        return ALWAYS_ON.should_sample(parent_context, trace_id, name, kind, attributes)

    def get_description(self):
        return "recording"

trace.set_tracer_provider(TracerProvider(sampler=Recording()))
{_WORK}
work()
print(json.dumps(Recording.seen))
"""
    seen = run_program(program, valkey)
    common = [
        "db.client.connection.pool.name",
        "db.namespace",
        "db.operation.name",
        "db.query.text",
        "db.system.name",
        "server.address",
        "server.port",
    ]
    assert seen["foo.SET"] == common
    assert seen["foo.pipeline_pair"] == sorted([*common, "db.operation.batch.size"])
    assert seen["foo.EVALSHA"] == sorted([*common, "db.stored_procedure.name"])


def test_a_sampler_that_drops_a_command_drops_nothing_else(valkey: Server) -> None:
    program = f"""
{_SDK}
from opentelemetry.sdk.trace.sampling import Decision, SamplingResult

class DropsGet(Sampler):
    def should_sample(self, parent_context, trace_id, name, *args, **kwargs):
        dropped = name == "foo.GET"
        return SamplingResult(Decision.DROP if dropped else Decision.RECORD_AND_SAMPLE)

    def get_description(self):
        return "drops GET"

provider = TracerProvider(sampler=DropsGet())
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
{_WORK}
results = work()
print(json.dumps([results, [span.name for span in exporter.get_finished_spans()][:3]]))
"""
    names = ["foo.SET", "foo.LPUSH", "foo.WATCH"]
    assert run_program(program, valkey) == [_RESULTS, names]


def test_instrumented_before_the_import_there_is_one_span_still(valkey: Server) -> None:
    program = f"""
{_SDK}
from opentelemetry.instrumentation.redis import RedisInstrumentor

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
RedisInstrumentor().instrument()
{_WORK}
work()
print(json.dumps([span.name for span in exporter.get_finished_spans()]))
"""
    names = run_program(program, valkey)
    assert names.count("foo.GET") == 3  # the command, the one behind WATCH, the lock's owned()
    assert [name for name in names if not name.startswith("foo.")] == []


def test_two_clients_tell_their_own_requests_apart(valkey: Server, spans: RecordedSpans) -> None:
    pool = pool_from_config({"foo.url": valkey.url}, "foo.")
    factory = RedisContextFactory(pool, "foo")
    first, second = tracer.start_span("first"), tracer.start_span("second")
    one = factory.make_object_for_context("foo", first)
    other = factory.make_object_for_context("foo", second)
    one.get("key")
    other.set("key", "value")
    first.end()
    second.end()
    pool.disconnect()
    assert {("foo.GET", "first"), ("foo.SET", "second")} <= set(spans.tree())
