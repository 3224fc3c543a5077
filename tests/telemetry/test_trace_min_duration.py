"""``foo.trace_min_duration``: what has a span all the same, because it matters."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, StatusCode

from pyramid_baseplate_redis import MonitoredRedisConnection
from pyramid_baseplate_redis.telemetry import request_totals
from pyramid_baseplate_redis.telemetry.call_details import note_redirection, note_retry

from ..support.metrics import DURATION, Collected, Connect
from ..support.servers import MakeClient, RecordedSpans, Server, attributes
from ..support.totals import FAST, in_thread, operations_of, served, totals_of

tracer = trace.get_tracer("tests")


@pytest.fixture
def client(valkey: Server, make_client: MakeClient) -> MonitoredRedisConnection:
    """All its commands are fast."""
    return make_client(valkey, trace_min_duration=FAST)


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
