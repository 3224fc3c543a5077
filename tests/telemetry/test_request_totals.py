"""``foo.trace_min_duration``: what has no span, what has one all the same, and what is counted."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, StatusCode

from pyramid_baseplate_redis import MonitoredRedisConnection, RedisClient
from pyramid_baseplate_redis.telemetry import request_totals
from pyramid_baseplate_redis.telemetry.call_details import note_redirection, note_retry
from pyramid_baseplate_redis.telemetry.request_totals import RequestTotals
from pyramid_baseplate_redis.telemetry.server_spans import end_server_span, start_server_span

from ..support.metrics import DURATION, Collected, Connect
from ..support.servers import MakeClient, RecordedSpans, Server, attributes
from ..support.topologies import Cluster

FAST = "1 minute"  # every command is faster
tracer = trace.get_tracer("tests")


def totals_of(span: Any, client: str = "foo") -> dict[str, Any]:
    """The totals of a client among the attributes of a span."""
    prefix = f"pyramid_baseplate_redis.{client}."
    found = attributes(span)
    return {key[len(prefix) :]: found[key] for key in found if key.startswith(prefix)}


def operations_of(span: Any, client: str = "foo") -> int:
    count: int = totals_of(span, client).get("operations", 0)
    return count


@contextmanager
def served(*clients: Any) -> Iterator[list[Any]]:
    """A request named GET, and clients that belong to it."""
    span, context = start_server_span({"REQUEST_METHOD": "GET"}, trust_trace_headers=False)
    token = otel_context.attach(context)
    try:
        yield [client.bound_to(span) for client in clients]
    finally:
        otel_context.detach(token)
        end_server_span(span)


@pytest.fixture
def client(valkey: Server, make_client: MakeClient) -> MonitoredRedisConnection:
    """All its commands are fast."""
    return make_client(valkey, trace_min_duration=FAST)


def in_thread(call: Callable[[], object]) -> None:
    """Run in a thread, which has no context."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


# Without a span


def test_a_fast_command_has_no_span_and_is_counted_on_the_server_span(
    client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    with served(client) as (foo,):
        assert foo.set("key", "value") is True
        assert foo.get("key") == b"value"
    assert spans.names == ["GET"]
    found = totals_of(spans.one("GET"))
    assert 0 < found.pop("duration") < 60
    assert found == {"operations": 2, "commands": 2}


def test_a_fast_pipeline_is_one_operation_of_its_commands(
    client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    with served(client) as (foo,):
        assert foo.pipeline("pair").set("a", 1).get("a").execute() == [True, b"1"]
    assert spans.names == ["GET"]
    found = totals_of(spans.one("GET"))
    assert (found["operations"], found["commands"]) == (1, 2)


def test_it_is_off_by_default(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    with served(make_client(valkey)) as (foo,):
        foo.ping()
    assert spans.names == ["GET", "foo.PING"]
    assert totals_of(spans.one("GET")) == {}


def test_each_client_has_totals_of_its_own(
    valkey: Server, client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    settings = {"bar.url": valkey.url, "bar.trace_min_duration": FAST}
    factory = RedisClient().parse("bar", settings)
    with served(client, factory.make_object_for_context("bar", None)) as (foo, bar):
        foo.ping()
        bar.ping()
        bar.ping()
    factory.connection_pool.disconnect()
    request = spans.one("GET")
    assert (operations_of(request, "foo"), operations_of(request, "bar")) == (1, 2)


def test_a_command_under_a_local_span_is_counted_on_the_server_span(
    client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    with served(client) as (foo,), tracer.start_as_current_span("local"):
        foo.ping()
    assert spans.tree() == [("GET", None), ("local", "GET")]
    assert operations_of(spans.one("GET")) == 1
    assert totals_of(spans.one("local")) == {}


def test_a_client_of_no_request_is_counted_where_it_is_used(
    client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    with served(), tracer.start_as_current_span("local"):
        client.ping()
    assert operations_of(spans.one("GET")) == 1


def test_a_command_in_a_thread_without_context_is_counted_on_the_server_span(
    client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    with served(client) as (foo,):
        in_thread(foo.ping)
    assert spans.names == ["GET"]
    assert operations_of(spans.one("GET")) == 1


def test_the_commands_of_all_threads_are_counted(
    client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    with served(client) as (foo,):
        threads = [
            threading.Thread(target=lambda: [foo.ping() for _ in range(50)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    # A command that waited for a connection has a span and is counted, too.
    assert operations_of(spans.one("GET")) == 200


def test_the_nodes_of_a_cluster_are_counted_together(
    cluster: Cluster, spans: RecordedSpans
) -> None:
    settings = {"foo.url": cluster.url, "foo.trace_min_duration": FAST}
    factory = RedisClient().parse("foo", settings)
    prototype = factory.make_object_for_context("foo", None)
    prototype.get("key")  # finds the nodes
    spans.clear()
    with served(prototype) as (foo,):
        for number in range(10):
            foo.set(f"key:{number}", number)
        foo.pipeline("pair").get("a").get("b").execute()
    factory.connection_pool.disconnect()
    assert spans.names == ["GET"]
    found = totals_of(spans.one("GET"))
    assert (found["operations"], found["commands"]) == (11, 12)


# With a span


def test_a_slow_command_has_the_span_that_it_always_has(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    with served(make_client(valkey)) as (foo,):
        foo.blpop("nothing", timeout=0.1)
    (usual,) = spans.named("foo.BLPOP")
    spans.clear()
    client = make_client(valkey, trace_min_duration="50 ms")
    client.ping()  # connects
    with served(client) as (foo,):
        foo.blpop("nothing", timeout=0.1)
    (span,) = spans.named("foo.BLPOP")
    assert attributes(span) == attributes(usual)
    assert (span.kind, span.status.status_code) == (usual.kind, usual.status.status_code)
    assert spans.parent_of(span) == spans.one("GET")
    assert span.start_time is not None
    assert span.end_time is not None
    assert 0.09e9 < span.end_time - span.start_time < 5e9


def test_a_slow_pipeline_has_the_span_that_it_always_has(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    found = []
    for min_duration in ("0 ms", "50 ms"):
        client = make_client(valkey, trace_min_duration=min_duration, trace_query_text="sanitized")
        client.ping()
        spans.clear()
        client.set_response_callback("GET", lambda reply, **options: time.sleep(0.1))
        with served(client) as (foo,):
            foo.pipeline("slow").get("a").set("b", 1).execute()
        found.append(spans.one("foo.pipeline_slow"))
        assert spans.parent_of(found[-1]) == spans.one("GET")
    assert attributes(found[0]) == attributes(found[1])
    span = found[1]
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.end_time - span.start_time > 0.09e9


def test_what_has_a_span_is_counted_as_well(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(valkey, trace_min_duration="50 ms")
    client.ping()
    with served(client) as (foo,):
        foo.ping()
        foo.blpop("nothing", timeout=0.1)
    found = totals_of(spans.one("GET"))
    assert found["operations"] == 2
    assert 0.09 < found["duration"] < 5


def test_a_failure_has_a_span(client: MonitoredRedisConnection, spans: RecordedSpans) -> None:
    with served(client) as (foo,):
        foo.set("text", "x")
        with pytest.raises(redis.ResponseError):
            foo.lpush("text", "y")
        pipeline = foo.pipeline("failing")
        pipeline.lpush("text", "y").execute(raise_on_error=False)
    assert spans.tree() == [
        ("GET", None), ("foo.LPUSH", "GET"), ("foo.pipeline_failing", "GET")
    ]  # fmt: skip
    for span in spans.all[1:]:
        assert span.status.status_code is StatusCode.ERROR
        assert attributes(span)["error.type"] == "WRONGTYPE"


def test_a_command_that_waited_for_a_connection_has_a_span_and_the_wait_is_counted(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(valkey, trace_min_duration=FAST, max_connections="1")
    with served(client) as (foo,):
        held = foo.connection_pool.get_connection()
        threading.Timer(0.1, foo.connection_pool.release, (held,)).start()
        foo.ping()
        foo.ping()
    assert spans.names == ["GET", "foo.PING"]
    waited = attributes(spans.one("foo.PING"))["pyramid_baseplate_redis.connection.wait_time"]
    found = totals_of(spans.one("GET"))
    assert found["operations"] == 2
    assert found["connection.wait_time"] == pytest.approx(waited)
    assert 0.05 < waited < 5


def test_without_waiting_there_is_no_wait_time(
    client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    with served(client) as (foo,):
        foo.ping()
    assert "connection.wait_time" not in totals_of(spans.one("GET"))


def test_a_conflict_of_watched_keys_has_a_span(
    client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    with served(client) as (foo,), foo.pipeline("guarded") as pipeline:
        pipeline.watch("key")
        foo.set("key", "changed")
        pipeline.multi()
        pipeline.get("key")
        with pytest.raises(redis.WatchError):
            pipeline.execute()
    assert spans.tree() == [("GET", None), ("foo.pipeline_guarded", "GET")]


def test_a_script_that_the_server_does_not_know_has_a_span(
    client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    client.script_flush()
    spans.clear()
    with served(client) as (foo,):
        script = foo.register_script("return 1")
        assert script() == 1
    assert spans.tree() == [("GET", None), ("foo.EVALSHA", "GET")]
    assert attributes(spans.one("foo.EVALSHA"))["db.response.status_code"] == "NOSCRIPT"


@pytest.mark.parametrize("note", [note_retry, note_redirection])
def test_a_command_that_was_retried_or_redirected_has_a_span(
    client: MonitoredRedisConnection, spans: RecordedSpans, note: Callable[[], None]
) -> None:
    client.set_response_callback("GET", lambda reply, **options: note())
    with served(client) as (foo,):
        foo.get("key")
    assert spans.names == ["GET", "foo.GET"]


def test_without_a_request_every_command_has_a_span(
    client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    client.ping()
    client.pipeline("pair").get("a").get("b").execute()
    with tracer.start_as_current_span("script"):
        client.ping()
    assert spans.tree() == [
        ("foo.PING", None),
        ("foo.pipeline_pair", None),
        ("script", None),
        ("foo.PING", "script"),
    ]


def test_after_the_server_span_has_ended_every_command_has_a_span(
    client: MonitoredRedisConnection, spans: RecordedSpans, caplog: pytest.LogCaptureFixture
) -> None:
    with served(client) as (foo,):
        foo.ping()
        context = otel_context.get_current()

    def later() -> None:
        otel_context.attach(context)
        foo.ping()

    in_thread(later)
    in_thread(foo.ping)
    assert spans.tree() == [("GET", None), ("foo.PING", "GET"), ("foo.PING", "GET")]
    assert operations_of(spans.one("GET")) == 1
    assert caplog.messages == []


def test_a_command_that_ends_after_the_server_span_has_a_span(
    client: MonitoredRedisConnection, spans: RecordedSpans, caplog: pytest.LogCaptureFixture
) -> None:
    with served(client) as (foo,):
        thread = threading.Thread(target=foo.blpop, args=("nothing", 0.3), daemon=True)
        thread.start()
        time.sleep(0.1)
    thread.join(10)
    assert spans.tree() == [("GET", None), ("foo.BLPOP", "GET")]
    assert totals_of(spans.one("GET")) == {}
    assert caplog.messages == []


def test_a_server_span_that_the_application_ended_takes_no_totals(
    client: MonitoredRedisConnection, spans: RecordedSpans, caplog: pytest.LogCaptureFixture
) -> None:
    with served(client) as (foo,):
        trace.get_current_span().end()
        foo.ping()
    assert spans.tree() == [("GET", None), ("foo.PING", "GET")]
    assert caplog.messages == []


def test_an_excluded_command_is_neither_a_span_nor_counted(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(valkey, trace_min_duration=FAST, trace_exclude="PING")
    with served(client) as (foo,):
        foo.ping()
    assert spans.names == ["GET"]
    assert totals_of(spans.one("GET")) == {}


def test_a_trace_that_is_not_recorded_has_neither_spans_nor_totals(
    client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    for span in (INVALID_SPAN, trace.NonRecordingSpan(_UNSAMPLED)):
        context = trace.set_span_in_context(span)
        assert request_totals.opened(span, context) is context
        if span is not INVALID_SPAN:
            token = otel_context.attach(context)
            client.bound_to(span).ping()
            otel_context.detach(token)
    assert spans.names == []


_UNSAMPLED = trace.SpanContext(1, 1, is_remote=False, trace_flags=trace.TraceFlags(0))


# Queues and subscribers


def test_the_spans_of_messages_are_made_and_take_the_totals(
    client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    queue = client.durable_queue("jobs")
    queue.put("first")
    queue.get(5)  # which makes the consumer group
    spans.clear()
    with served(client) as (foo,):
        foo.durable_queue("jobs").put("second")
    with queue.receive(5), tracer.start_as_current_span("handler"):
        client.ping()
        client.ping()
    assert spans.tree() == [
        ("GET", None),
        ("send jobs", "GET"),
        ("process jobs", None),
        ("handler", "process jobs"),
    ]
    assert operations_of(spans.one("GET")) == 1  # XADD
    assert operations_of(spans.one("process jobs")) == 3  # with the acknowledgement
    assert totals_of(spans.one("send jobs")) == {}


def test_settling_that_fails_has_its_span(
    client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    queue = client.durable_queue("jobs")
    queue.put("a message")
    with pytest.raises(redis.ResponseError), queue.receive(5) as message:  # noqa: PT012
        client.delete("{jobs}:messages")
        client.set("{jobs}:messages", "something else")
        message.acknowledge()
    assert spans.parent_of(spans.one("ack jobs")) == spans.one("process jobs")
    assert spans.one("ack jobs").status.status_code is StatusCode.ERROR


def test_the_span_of_a_subscriber_s_handler_is_made_and_takes_the_totals(
    client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    with client.pubsub() as subscriber:
        subscriber.subscribe(news=lambda message: client.get("key"))
        subscriber.get_message(timeout=5)
        client.publish("news", "text")
        spans.clear()
        subscriber.get_message(timeout=5)
    assert spans.tree() == [("foo.process", None)]
    assert operations_of(spans.one("foo.process")) == 1
    assert trace.get_current_span() is INVALID_SPAN


# Metrics and observers


def test_metrics_and_observers_are_unaffected(
    valkey: Server, connect: Connect, provider: None, spans: RecordedSpans
) -> None:
    client = connect(valkey.url, trace_min_duration=FAST)
    seen = []

    class Observer:
        def started(self, operation: Any) -> None:
            seen.append(f"started {operation.trace_name}")

        def ended(self, operation: Any, result: object) -> None:
            seen.append(f"ended {operation.trace_name} {result!r} {operation.duration > 0}")

    client.observed_by(Observer())
    name = client.context_name
    with served(client) as (foo,):
        foo.set("key", "value")
        foo.pipeline("pair").get("key").get("key").execute()
    assert spans.names == ["GET"]
    assert seen == [
        f"started {name}.SET",
        f"ended {name}.SET True True",
        f"started {name}.pipeline_pair",
        f"ended {name}.pipeline_pair [b'value', b'value'] True",
    ]
    points = Collected().of(DURATION, name)
    assert [point.attributes["db.operation.name"] for point in points] == ["SET", "MULTI GET"]


# The object itself


@pytest.fixture
def request_span() -> Iterator[Span]:
    request_totals.enable()
    span = tracer.start_span("request", Context())
    yield span
    span.end()


def test_a_signal_handler_s_command_has_a_span_if_it_interrupts_the_counting(
    request_span: Span, monkeypatch: pytest.MonkeyPatch
) -> None:
    totals = RequestTotals(request_span)
    counted = []

    class Interrupting(dict[str, Any]):
        def get(self, *args: Any) -> Any:  # in the middle of add()
            if not counted:
                counted.append(None)
                os.kill(os.getpid(), signal.SIGUSR1)
            return super().get(*args)

    def handle(*args: object) -> None:
        counted.append(totals.add("foo", 1, 0.1, 0.0))

    before = signal.signal(signal.SIGUSR1, handle)
    monkeypatch.setattr(totals, "_clients", Interrupting())
    try:
        assert totals.add("foo", 1, 0.1, 0.0)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert counted == [None, False]
    totals.write(closing=True)
    assert operations_of(request_span) == 1


def test_a_thread_waits_until_another_one_has_counted(
    request_span: Span, monkeypatch: pytest.MonkeyPatch
) -> None:
    totals = RequestTotals(request_span)
    begun = threading.Event()

    class Slow(dict[str, Any]):
        def get(self, *args: Any) -> Any:  # in the middle of add()
            begun.set()
            time.sleep(0.1)
            return super().get(*args)

    monkeypatch.setattr(totals, "_clients", Slow())
    thread = threading.Thread(target=totals.add, args=("foo", 1, 0.1, 0.0))
    thread.start()
    assert begun.wait(10)
    assert totals.add("foo", 1, 0.1, 0.0)
    thread.join()
    totals.write(closing=True)
    assert operations_of(request_span) == 2


def test_a_forked_process_does_not_count_for_its_parent(request_span: Span) -> None:
    totals = RequestTotals(request_span)
    assert totals.add("foo", 1, 0.1, 0.0)
    child = os.fork()
    if child == 0:
        os._exit(1 if totals.add("foo", 1, 0.1, 0.0) else 0)
    assert os.waitpid(child, 0)[1] == 0
    totals.write(closing=True)
    assert operations_of(request_span) == 1


def test_totals_that_are_written_twice_are_those_of_the_second_time(request_span: Span) -> None:
    context = request_totals.opened(request_span, Context())
    totals = request_totals.found(context, INVALID_SPAN)
    assert totals is not None
    totals.add("foo", 1, 0.1, 0.0)
    request_totals.write(request_span)
    assert operations_of(request_span) == 1
    totals.add("foo", 1, 0.1, 0.0)
    request_totals.close(request_span)
    assert operations_of(request_span) == 2
    assert not totals.add("foo", 1, 0.1, 0.0)
    assert request_totals.found(context, request_span) is None


def test_nothing_keeps_a_span_that_is_never_ended() -> None:
    request_totals.enable()
    span = tracer.start_span("forgotten", Context())
    context: Context | None = request_totals.opened(span, Context())
    assert request_totals.found(Context(), span) is not None
    gone = weakref.ref(span)
    del span, context
    gc.collect()
    assert gone() is None


class _Unhashable:
    """A span of another SDK, which cannot be a key."""

    __hash__ = None  # type: ignore[assignment]

    def is_recording(self) -> bool:
        return True


def test_a_span_that_cannot_take_totals_is_no_error(
    client: MonitoredRedisConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    span: Any = _Unhashable()
    context = Context()
    assert request_totals.opened(span, context) is context
    with served():  # so that there are any totals at all
        assert request_totals.found(context, span) is None
        request_totals.close(span)


def test_counting_that_fails_changes_no_result(
    client: MonitoredRedisConnection, spans: RecordedSpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("broken")

    with served(client) as (foo,):
        monkeypatch.setattr(RequestTotals, "add", fail)
        assert foo.set("key", "value") is True
    assert spans.tree() == [("GET", None), ("foo.SET", "GET")]
