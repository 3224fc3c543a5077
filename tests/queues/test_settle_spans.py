"""Settling messages of a durable queue has one span, which is also that of the command."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis
from opentelemetry.trace import SpanKind, StatusCode

from pyramid_baseplate_redis import DurableMessageQueue, RedisClient

from ..support.servers import MakeClient, RecordedSpans, Server, attributes
from ..support.topologies import Cluster


def acknowledge(queue: DurableMessageQueue) -> None:
    with queue.receive(5):
        pass


def give_back(queue: DurableMessageQueue) -> None:
    with queue.receive(5) as message:
        message.give_back()


def fail(queue: DurableMessageQueue) -> None:
    with pytest.raises(KeyError), queue.receive(5):
        raise KeyError


SETTLED = [
    pytest.param(acknowledge, "5", "ack", "PIPELINE", id="acknowledge"),
    pytest.param(give_back, "5", "nack", "MULTI", id="give back"),
    pytest.param(fail, "5", "nack", "MULTI", id="fail"),
    pytest.param(fail, "1", "dead_letter", "MULTI", id="fail for the last time"),
]


@pytest.mark.parametrize(("settle", "attempts", "operation", "command"), SETTLED)
def test_settling_is_one_client_span(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans,
    settle: Callable[[DurableMessageQueue], None], attempts: str, operation: str, command: str,
) -> None:  # fmt: skip
    queue = make_client(valkey).durable_queue("jobs", max_attempts=int(attempts))
    put = queue.put("job")
    settle(queue)
    processed, settled = spans.one("process jobs"), spans.one(f"{operation} jobs")
    assert [span.name for span in spans.all if spans.parent_of(span) is processed] == [settled.name]
    assert (settled.kind, settled.status.status_code) == (SpanKind.CLIENT, StatusCode.UNSET)
    found = attributes(settled)
    assert found["db.operation.name"] == command
    assert {key: value for key, value in found.items() if key.startswith("messaging.")} == {
        "messaging.system": "redis",
        "messaging.destination.name": "jobs",
        "messaging.consumer.group.name": "workers",
        "messaging.operation.name": operation,
        "messaging.operation.type": "settle",
        "messaging.message.id": put,
    }


def test_settling_several_messages_says_how_many(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    queue = make_client(valkey).durable_queue("jobs")
    queue.put_many(["a", "b"])
    with queue.receive_many(5, 5):
        pass
    found = attributes(spans.one("ack jobs"))
    assert found["messaging.batch.message_count"] == 2
    assert "messaging.message.id" not in found


def test_settling_that_fails_is_the_settle_spans_failure(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    queue = make_client(valkey).durable_queue("jobs")
    queue.put("job")
    with (
        redis.Redis(port=valkey.port) as other,
        pytest.raises(redis.ResponseError),
        queue.receive(5),
    ):
        other.set(queue.key, "something else")
    span = spans.one("ack jobs")
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "WRONGTYPE"


def test_settling_in_a_cluster_is_one_span(cluster: Cluster, spans: RecordedSpans) -> None:
    factory = RedisClient().parse("foo", {"foo.url": cluster.url})
    queue = factory.make_object_for_context("foo", None).durable_queue("jobs")
    queue.put("job")
    give_back(queue)
    factory.connection_pool.disconnect()
    found = attributes(spans.one("nack jobs"))
    assert found["messaging.operation.type"] == "settle"
    assert found["server.port"] == cluster.node_of("{jobs}").port
