"""MessageQueue: the spans of putting, getting and waiting."""

from __future__ import annotations

import threading

import pytest
import redis
from opentelemetry.trace import SpanKind, StatusCode

from pyramid_baseplate_redis import MessageQueue, TimedOutError

from ...support.servers import MakeClient, RecordedSpans, Server, attributes
from .conftest import other_client, tracer


def test_put_and_get_have_a_client_span_each(
    queue: MessageQueue, server: Server, spans: RecordedSpans
) -> None:
    queue.put("a message")
    queue.get(1)
    common = {
        "db.system.name": "redis",
        "db.namespace": "0",
        "db.client.connection.pool.name": "foo",
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "network.peer.address": "127.0.0.1",
        "network.peer.port": server.port,
    }
    assert [(span.name, span.kind, attributes(span)) for span in spans.all] == [
        ("foo.RPUSH", SpanKind.CLIENT, common | {"db.operation.name": "RPUSH"}),
        ("foo.BLPOP", SpanKind.CLIENT, common | {"db.operation.name": "BLPOP"}),
    ]


def test_a_get_that_doesnt_wait_has_the_span_of_its_command(
    queue: MessageQueue, spans: RecordedSpans
) -> None:
    queue.put("a message")
    queue.get(0)
    assert spans.names == ["foo.RPUSH", "foo.LPOP"]


@pytest.mark.parametrize("method", ["unlink", "close"])
def test_removing_a_queue_has_a_span(
    queue: MessageQueue, spans: RecordedSpans, method: str
) -> None:
    getattr(queue, method)()
    assert spans.names == ["foo.UNLINK" if method == "unlink" else "foo.DEL"]


@pytest.mark.parametrize("timeout", [0, 1])
def test_an_empty_queue_makes_no_span(
    valkey_queue: MessageQueue, spans: RecordedSpans, timeout: float
) -> None:
    with pytest.raises(TimedOutError):
        valkey_queue.get(timeout)
    assert spans.names == []


@pytest.mark.usefixtures("short_polls")
def test_waiting_makes_one_span_when_the_message_is_there(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    with tracer.start_as_current_span("worker"):
        queue = make_client(valkey).message_queue("jobs")
        with other_client(valkey) as other:
            timer = threading.Timer(0.8, other.put, ["late"])
            timer.start()
            queue.get(None)
            timer.join()
    assert spans.tree() == [("worker", None), ("foo.BLPOP", "worker")]
    span = spans.one("foo.BLPOP")
    assert 0.5e9 < (span.end_time or 0) - (span.start_time or 0) < 5e9


def test_a_put_that_fails_is_a_failure(queue: MessageQueue, spans: RecordedSpans) -> None:
    queue.client.set("jobs", "no list")
    spans.clear()
    with pytest.raises(redis.ResponseError):
        queue.put("a message")
    span = spans.one("foo.RPUSH")
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["db.response.status_code"] == "WRONGTYPE"
