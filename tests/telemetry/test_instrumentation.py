"""Commands beside OpenTelemetry's instrumentation, and with a missing or broken SDK."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.instrumentation.utils import suppress_instrumentation

from pyramid_baseplate_redis import (
    MessageQueue,
    MonitoredRedisConnection,
    RedisContextFactory,
    pool_from_config,
)

from ..support.operations import get, subscribe, use_everything
from ..support.servers import MakeClient, RecordedSpans, Server

tracer = trace.get_tracer("tests")


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
    peer = ["network.peer.address", "network.peer.port"]  # known once a command has connected
    assert seen["foo.SET"] == sorted([*common, *peer])
    assert seen["foo.pipeline_pair"] == sorted([*common, *peer, "db.operation.batch.size"])
    assert seen["foo.EVALSHA"] == sorted([*common, *peer, "db.stored_procedure.name"])


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
