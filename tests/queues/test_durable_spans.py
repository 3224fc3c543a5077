"""The trace goes through a durable queue: a send span, a process span, and what connects them."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import redis
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from pyramid_baseplate_redis import DurableMessageQueue, QueueFullError, TimedOutError
from pyramid_baseplate_redis.telemetry.messaging import spans as messaging_spans

from ..support.servers import MakeClient, RecordedSpans, Server, attributes

STREAM = "{jobs}:messages"
tracer = trace.get_tracer("tests")


@pytest.fixture
def queue(valkey: Server, make_client: MakeClient) -> DurableMessageQueue:
    return make_client(valkey).durable_queue("jobs")


@pytest.fixture
def raw(valkey: Server) -> Any:
    with redis.Redis(port=valkey.port) as client:
        yield client


def test_put_is_a_producer_span_with_the_command_below(
    queue: DurableMessageQueue, spans: RecordedSpans
) -> None:
    put = queue.put("four")
    assert spans.tree() == [("send jobs", None), ("foo.XADD", "send jobs")]
    span = spans.one("send jobs")
    assert span.kind is SpanKind.PRODUCER
    assert attributes(span) == {
        "messaging.system": "redis",
        "messaging.destination.name": "jobs",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.message.id": put,
        "messaging.message.body.size": 4,
    }


def test_put_many_is_one_span(queue: DurableMessageQueue, spans: RecordedSpans) -> None:
    queue.put_many(["a", "b"])
    assert spans.tree() == [("send jobs", None), ("foo.pipeline_put", "send jobs")]
    assert attributes(spans.one("send jobs"))["messaging.batch.message_count"] == 2


def test_processing_is_a_consumer_span_with_everything_below(
    queue: DurableMessageQueue, spans: RecordedSpans
) -> None:
    queue.put("the first one")
    queue.get(5)  # which makes the consumer group
    put = queue.put("four")
    spans.clear()
    with queue.receive(5):
        with tracer.start_as_current_span("handler"):
            pass
        queue.client.get("key")
    assert spans.tree() == [
        ("process jobs", None),
        ("handler", "process jobs"),
        ("foo.GET", "process jobs"),
        ("ack jobs", "process jobs"),
    ]
    span = spans.one("process jobs")
    assert span.kind is SpanKind.CONSUMER
    assert attributes(span) == {
        "messaging.system": "redis",
        "messaging.destination.name": "jobs",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.consumer.group.name": "workers",
        "messaging.message.id": put,
        "messaging.message.body.size": 4,
        "messaging.redis.message.delivery_count": 1,
    }


def test_processing_is_linked_to_sending(queue: DurableMessageQueue, spans: RecordedSpans) -> None:
    queue.put("job")
    queue.get(5)
    sent, processed = spans.one("send jobs"), spans.one("process jobs")
    assert [link.context.span_id for link in processed.links] == [sent.context.span_id]
    assert processed.context.trace_id != sent.context.trace_id


def test_processing_is_a_child_of_sending_with_trace_parent(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    queue = make_client(valkey).durable_queue("jobs", trace_parent=True)
    queue.put("job")
    with tracer.start_as_current_span("worker"):
        queue.get(5)
    processed = spans.one("process jobs")
    assert spans.parent_of(processed) is spans.one("send jobs")
    assert len(processed.links) == 0


def test_processing_is_below_the_span_that_is_current(
    queue: DurableMessageQueue, spans: RecordedSpans
) -> None:
    queue.put("job")
    with tracer.start_as_current_span("worker"):
        queue.get(5)
    assert spans.parent_of(spans.one("process jobs")) is spans.one("worker")
    assert spans.parent_of(spans.one("foo.XREADGROUP")) is spans.one("worker")


def test_many_that_are_received_at_once_are_one_span_with_many_links(
    queue: DurableMessageQueue, spans: RecordedSpans
) -> None:
    queue.put("a")
    queue.put("b")
    sent = [span.context.span_id for span in spans.named("send jobs")]
    with queue.receive_many(5, 5):
        pass
    span = spans.one("process jobs")
    assert [link.context.span_id for link in span.links] == sent
    assert attributes(span)["messaging.batch.message_count"] == 2


def test_the_context_travels_as_w3cs_fields(
    queue: DurableMessageQueue, spans: RecordedSpans, raw: Any
) -> None:
    queue.put("job")
    ((_, fields),) = raw.xrange(STREAM)
    sent = spans.one("send jobs").context
    parent = f"00-{sent.trace_id:032x}-{sent.span_id:016x}-{sent.trace_flags:02x}"
    assert fields == {b"body": b"job", b"traceparent": parent.encode()}


@pytest.mark.parametrize(
    "fields", [{}, {"traceparent": "nonsense"}, {"traceparent": b"\xff", "tracestate": b"\xff"}]
)
def test_an_entry_without_context_is_processed_as_well(
    queue: DurableMessageQueue, spans: RecordedSpans, raw: Any, fields: dict[Any, Any]
) -> None:
    raw.xadd(STREAM, {"body": "job", **fields})
    assert queue.get(5) == b"job"
    assert len(spans.one("process jobs").links) == 0


def test_a_failure_is_the_process_spans(queue: DurableMessageQueue, spans: RecordedSpans) -> None:
    queue.put("job")
    with pytest.raises(KeyError), queue.receive(5):
        raise KeyError("a secret")
    span = spans.one("process jobs")
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "KeyError"
    assert "secret" not in span.to_json()


def test_a_refused_message_is_the_send_spans_failure(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    queue = make_client(valkey).durable_queue("jobs", max_length=1)
    queue.put("a")
    spans.clear()
    with pytest.raises(QueueFullError):
        queue.put("b")
    assert spans.one("send jobs").status.status_code is StatusCode.ERROR


def test_an_empty_queue_makes_no_span(queue: DurableMessageQueue, spans: RecordedSpans) -> None:
    queue.put("job")
    queue.get(5)
    spans.clear()
    with pytest.raises(TimedOutError):
        queue.get(0)
    assert spans.names == []


def test_receiving_that_fails_is_a_span(
    queue: DurableMessageQueue, spans: RecordedSpans, raw: Any
) -> None:
    raw.set(STREAM, "something else")
    with pytest.raises(redis.ResponseError):
        queue.get(0)
    failed = spans.one("foo.XPENDING")
    assert attributes(failed)["db.response.status_code"] == "WRONGTYPE"


@pytest.mark.parametrize("settings", [{"trace": "off"}, {"trace_exclude": "XADD, XREADGROUP"}])
def test_a_client_that_is_not_traced_has_no_spans_of_messages(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans, settings: dict[str, str]
) -> None:
    queue = make_client(valkey, **settings).durable_queue("jobs")
    queue.put("job")
    queue.get(5)
    assert not {"send jobs", "process jobs"} & set(spans.names)


def test_a_context_travels_though_the_client_is_not_traced(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans, raw: Any
) -> None:
    with tracer.start_as_current_span("request") as span:
        make_client(valkey, trace="off").durable_queue("jobs").put("job")
    ((_, fields),) = raw.xrange(STREAM)
    assert f"{span.get_span_context().span_id:016x}" in fields[b"traceparent"].decode()


def test_a_message_from_a_thread_without_context_belongs_to_its_request(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    request = tracer.start_span("request")
    queue = make_client(valkey, request).durable_queue("jobs")
    thread = threading.Thread(target=queue.put, args=("job",))
    thread.start()
    thread.join()
    request.end()
    assert spans.parent_of(spans.one("send jobs")) is spans.one("request")


@pytest.mark.parametrize("broken", ["_propagator", "tracer"])
def test_broken_telemetry_breaks_no_message(
    queue: DurableMessageQueue, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    monkeypatch.setattr(messaging_spans, broken, None)
    queue.put("job")
    assert queue.get(5) == b"job"
