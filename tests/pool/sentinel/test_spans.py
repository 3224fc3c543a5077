"""A span names the server that answered, not another one that was tried or asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from pyramid_baseplate_redis import MonitoredRedisConnection

from ...support.servers import RecordedSpans, attributes
from ...support.topologies import SentinelSet
from .conftest import NOWHERE, MakeFoo, error_of, pool_of, ports


def use_a_command(foo: MonitoredRedisConnection) -> None:
    foo.get("key")


def use_a_pipeline(foo: MonitoredRedisConnection) -> None:
    with foo.pipeline("all", transaction=False) as pipeline:
        pipeline.get("key").get("key").execute()


def use_a_transaction(foo: MonitoredRedisConnection) -> None:
    with foo.pipeline("all") as pipeline:
        pipeline.set("key", "value").get("key").execute()


def use_watch(foo: MonitoredRedisConnection) -> None:
    with foo.pipeline("all") as pipeline:
        pipeline.watch("key")
        pipeline.get("key")
        pipeline.multi()
        pipeline.set("key", "value").execute()


def use_a_connection_of_its_own(foo: MonitoredRedisConnection) -> None:
    with foo.client() as own:
        own.get("key")
        own.get("key")


def use_a_subscriber(foo: MonitoredRedisConnection) -> None:
    with foo.pubsub() as subscriber:
        subscriber.subscribe("one")
        subscriber.subscribe("two")


def use_a_queue(foo: MonitoredRedisConnection) -> None:
    queue = foo.message_queue("jobs")
    queue.put("a job")
    queue.get(1)


def use_a_lock(foo: MonitoredRedisConnection) -> None:
    with foo.lock("lock", timeout=1):
        pass


def fail_at_a_command(foo: MonitoredRedisConnection) -> None:
    foo.set("text", "value")
    with pytest.raises(redis.ResponseError):
        foo.lpush("text", "value")


@pytest.mark.parametrize(
    "use",
    [
        use_a_command, use_a_pipeline, use_a_transaction, use_watch, use_a_connection_of_its_own,
        use_a_subscriber, use_a_queue, use_a_lock, fail_at_a_command,
    ],
)  # fmt: skip
def test_spans_name_the_server_that_answered(
    foo: MonitoredRedisConnection,
    valkeys: SentinelSet,
    spans: RecordedSpans,
    use: Callable[[MonitoredRedisConnection], None],
) -> None:
    use(foo)
    wherefrom = {
        (attributes(span).get("server.address"), attributes(span).get("server.port"))
        for span in spans.all
    }
    assert wherefrom == {("127.0.0.1", valkeys.primary().port)}


def test_a_span_names_the_server_that_refused_the_connection(
    foo: MonitoredRedisConnection, valkeys: SentinelSet, spans: RecordedSpans
) -> None:
    foo.ping()
    spans.clear()
    old = valkeys.kill_primary()
    error_of(foo.ping)
    assert ports(spans) == [("foo.PING", old.port)]


def test_a_span_names_no_server_where_none_was_found(
    make_foo: MakeFoo, spans: RecordedSpans
) -> None:
    error_of(make_foo(NOWHERE).ping)
    assert ports(spans) == [("foo.PING", None)]


def test_a_span_names_the_replica_that_answered_not_one_that_was_tried_before(
    valkeys: SentinelSet, make_foo: MakeFoo, spans: RecordedSpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    foo = make_foo(valkeys, read_from="replica")
    found = [("127.0.0.1", 1), ("127.0.0.1", valkeys.replica().port)]
    manager = pool_of(foo).sentinel_manager
    monkeypatch.setattr(manager, "discover_slaves", lambda service: found)
    for _ in range(2):  # they are taken in turn
        foo.get("key")
        pool_of(foo).disconnect()
    assert ports(spans) == [("foo.GET", valkeys.replica().port)] * 2
