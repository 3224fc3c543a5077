"""The public API as an application uses it; checked by mypy, never run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol

import redis
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Span
from redis.lock import Lock
from typing_extensions import assert_type

from pyramid_baseplate_redis import (
    BlockingConnectionPool,
    CircuitOpenError,
    ClientHealth,
    ClusterRedisContextFactory,
    ConfigurationError,
    DeadLetter,
    DeadlineExceededError,
    DurableMessage,
    DurableMessageQueue,
    ForkedConnectionError,
    HotKey,
    LeaseLostError,
    MessageQueue,
    MessageQueueError,
    MonitoredRedisClusterConnection,
    MonitoredRedisClusterPipeline,
    MonitoredRedisConnection,
    MonitoredRedisPipeline,
    PoolReleaseError,
    PoolStats,
    PoolTimeoutError,
    QueuedMessage,
    QueueFullError,
    QueueStats,
    RedisClient,
    RedisContextFactory,
    ServerContext,
    TimedOutError,
    Timespan,
    cluster_pool_from_config,
    hot_keys,
    is_retryable,
    ping_all,
    pool_from_config,
    server_context,
)
from pyramid_baseplate_redis.prometheus import observe_client
from pyramid_baseplate_redis.testing import add_clients, dummy_request, flush, for_tests
from pyramid_baseplate_redis.testing.application import plain_client
from pyramid_baseplate_redis.testing.spans import RecordedSpans, record_spans
from pyramid_baseplate_redis.web import includeme
from pyramid_baseplate_redis.worker import work


class Request(Protocol):
    """How an application tells a type checker what its requests have; Pyramid has no types."""

    @property
    def foo(self) -> MonitoredRedisConnection: ...

    @property
    def jobs(self) -> MessageQueue: ...

    @property
    def span(self) -> Span: ...


def commands(request: Request) -> None:
    request.foo.set("greeting", "hello", ex=timedelta(minutes=1))
    assert_type(request.foo.get("greeting"), bytes | str | None)
    assert_type(request.foo.incr("visits"), int)
    assert_type(request.foo.execute_command("PING"), Any)
    assert_type(request.foo.scan_iter("prefix:*"), Iterator[Any])
    request.span.set_attribute("greeted", True)


def everything_that_redis_takes(client: redis.Redis) -> None:
    client.ping()


def a_monitored_client_is_a_redis_client(request: Request) -> None:
    everything_that_redis_takes(request.foo)


def pipelines(request: Request) -> None:
    pipeline = request.foo.pipeline("follow")
    assert_type(pipeline, MonitoredRedisPipeline)
    pipeline.incr("clicks")
    assert_type(pipeline.execute(), list[Any])
    assert_type(pipeline.execute(raise_on_error=False), list[Any])
    assert_type(request.foo.pipeline(), MonitoredRedisPipeline)
    assert_type(request.foo.pipeline("name", transaction=False), MonitoredRedisPipeline)
    assert_type(request.foo.pipeline(True), MonitoredRedisPipeline)  # redis-py's own order
    with request.foo.pipeline("both") as both:
        both.set("a", "1")
        assert_type(both.execute(), list[Any])


def move(pipeline: MonitoredRedisPipeline) -> None:
    pipeline.multi()
    pipeline.rename("a", "b")


def deadlines(client: MonitoredRedisConnection) -> None:
    with client.within(0.2) as foo:
        assert_type(foo, MonitoredRedisConnection)
        assert_type(foo.within(timedelta(seconds=1)), MonitoredRedisConnection)
    try:
        client.get("key")
    except DeadlineExceededError as error:
        assert_type(error.spent, dict[str, float])
        assert_type(error.phase, str)


def transactions(request: Request) -> None:
    request.foo.transaction(move, "a", "b", name="move", watch_delay=0.1)


def locks(request: Request) -> None:
    lock = request.foo.lock("nightly", timeout=30, blocking_timeout=1.5)
    assert_type(lock, Lock)
    with lock:
        pass


def subscribers(request: Request) -> None:
    with request.foo.pubsub(ignore_subscribe_messages=True) as subscriber:
        subscriber.subscribe("news")


def queues(request: Request, pool: redis.ConnectionPool) -> None:
    request.jobs.put(b"bytes")
    request.jobs.put("text", timeout=1.5)
    assert_type(request.jobs.get(), bytes)
    assert_type(request.jobs.get(timeout=1.5), bytes)
    assert_type(request.foo.message_queue("jobs"), MessageQueue)
    MessageQueue("jobs", pool).unlink()
    MessageQueue("jobs", redis.Redis(connection_pool=pool)).close()
    try:
        request.jobs.get(timeout=0)
    except TimedOutError as error:
        as_queue_error: MessageQueueError = error
        raise as_queue_error from None


class DurableRequest(Protocol):
    @property
    def jobs(self) -> DurableMessageQueue: ...


def durable_queues(request: DurableRequest, client: MonitoredRedisConnection) -> None:
    assert_type(request.jobs.put(b"bytes"), str)
    assert_type(request.jobs.put("text", after_commit=True), None)
    assert_type(request.jobs.put_many(["text", b"bytes"]), list[str])
    assert_type(request.jobs.get(timeout=1.5), bytes)
    assert_type(client.durable_queue("jobs", lease=60), DurableMessageQueue)
    DurableMessageQueue("jobs", client, lease=timedelta(minutes=1), max_length=10)
    with request.jobs.receive(timeout=30, delay=5) as message:
        assert_type(message, DurableMessage)
        assert_type(message.body, bytes)
        message.extend()
    with request.jobs.receive_many(10) as messages:
        assert_type(messages, list[DurableMessage])
    assert_type(request.jobs.stats(), QueueStats)
    assert_type(request.jobs.peek(5), list[QueuedMessage])
    assert_type(request.jobs.dead_letters(), list[DeadLetter])
    assert_type(request.jobs.replay("1-1"), int)
    try:
        request.jobs.put("text")
    except (QueueFullError, LeaseLostError) as error:
        as_queue_error: MessageQueueError = error
        raise as_queue_error from None


def handle(request: Request, message: DurableMessage) -> None:
    request.foo.incr("handled")


def json_queue(queue: DurableMessageQueue) -> None:
    assert_type(queue.put_json({"invoice": 17}), str)
    assert_type(queue.put("later", delay=timedelta(hours=1)), str)
    assert_type(queue.put("then", at=datetime.now(timezone.utc), after_commit=True), None)
    assert_type(queue.put("once", unique="invoice 17", unique_for=3600), str)
    assert_type(queue.put_many(["a", b"b"], delay=60), list[str])
    assert_type(queue.peek()[0].due_at, datetime | None)
    assert_type(queue.stats().delayed + queue.stats().waiting, int)
    assert_type(queue.put_json([1], after_commit=True), None)
    with queue.receive(timeout=1) as message:
        assert_type(message.json, Any)


def handle_with_context(context: ServerContext, message: DurableMessage) -> None:
    context.foo.incr("handled")


def worker(env: dict[str, Any]) -> None:
    assert_type(work(env["registry"], "jobs", handle, concurrency=4), int)
    assert_type(
        work(env["registry"], "jobs", handle_with_context, with_context=True, prefetch=1), int
    )


def configuration(app_config: dict[str, str], span: Span) -> RedisContextFactory:
    assert_type(Timespan("3 seconds"), timedelta)
    assert_type(Timespan(timedelta(seconds=3)), timedelta)
    pool = pool_from_config(app_config, prefix="foo.", max_connections=99, timeout=None)
    assert_type(pool, BlockingConnectionPool)
    as_redis_pys: redis.BlockingConnectionPool = pool
    assert_type(pool.stats, PoolStats)
    assert_type(pool.stats.waiting, int)
    factory = RedisContextFactory(as_redis_pys, "foo", redis_client_name="foo-pool")
    assert_type(factory.make_object_for_context("foo", span), MonitoredRedisConnection)
    assert_type(factory.make_object_for_context("foo", None), MonitoredRedisConnection)
    assert_type(MonitoredRedisConnection("foo", span, pool), MonitoredRedisConnection)
    try:
        parsed = RedisClient("foo-pool", decode_responses=True).parse("foo", app_config)
        assert_type(parsed, RedisContextFactory | ClusterRedisContextFactory)
        if isinstance(parsed, ClusterRedisContextFactory):
            cluster = parsed.make_object_for_context("foo", span)
            assert_type(cluster, MonitoredRedisClusterConnection)
            assert_type(cluster.pipeline("name"), MonitoredRedisClusterPipeline)
            assert_type(cluster.message_queue("jobs"), MessageQueue)
            assert_type(hot_keys(cluster, "writes", 3), list[HotKey])
            raise SystemExit(str(cluster_pool_from_config(app_config, "foo.").stats))
        return parsed
    except ConfigurationError as error:
        raise SystemExit(str(error)) from None


def failures(request: Request) -> bool:
    try:
        request.foo.incr("visits")
    except (PoolTimeoutError, CircuitOpenError, ForkedConnectionError, PoolReleaseError) as error:
        as_redis_pys: redis.RedisError = error
        raise as_redis_pys from None
    except redis.RedisError as error:
        assert_type(is_retryable(error), bool | None)
        return is_retryable(error) is True
    return False


def main(config: Any) -> None:
    config.include("pyramid_baseplate_redis")
    config.include(includeme)
    config.add_redis_client("foo", client=RedisClient())
    config.add_message_queue("jobs", client="foo")
    config.add_message_queue("mails", client="foo", durable=True, lease="1 minute")
    config.add_redis_health_view("/health/redis")
    config.add_redis_queues_view("/queues", permission="admin")


def check(env: dict[str, Any]) -> list[str]:
    clients = ping_all(env["registry"])
    assert_type(clients, list[ClientHealth])
    for client in clients:
        assert_type(client.ok, bool)
        assert_type(client.latency, float | None)
        assert_type(client.server_version, str | None)
        assert_type(client.error, Exception | None)
    return [client.name for client in clients if client.required and not client.ok]


def nightly(env: dict[str, Any]) -> None:
    with server_context(env["registry"], "nightly-cleanup") as context:
        assert_type(context, ServerContext)
        assert_type(context.span, Span)
        client: MonitoredRedisConnection = context.foo
        client.delete("greeting")


def tests(app: Any, settings: dict[str, str], redisdb: redis.Redis, request: Any) -> None:
    assert_type(for_tests(settings), dict[str, Any])
    for_tests(settings, "redis://localhost:6379/8")
    for_tests(settings, redisdb)
    for_tests(settings, server=redisdb.connection_pool)
    flush()
    flush(app)
    assert_type(plain_client(app, "foo", decode_responses=True), redis.Redis)
    finish = add_clients(request)
    finish()
    with dummy_request(app, params={"page": "2"}) as dummy, record_spans() as spans:
        commands(dummy)
        assert_type(spans, RecordedSpans)
        assert_type(spans.names, list[str])
        assert_type(spans.tree(), list[tuple[str, str | None]])
        as_sdks: ReadableSpan = spans.one("foo.GET")
        assert_type(spans[0], ReadableSpan)
        assert_type(spans.parent_of(as_sdks), ReadableSpan | None)


def prometheus(settings: dict[str, str]) -> None:
    observe_client(RedisClient().parse("foo", settings))
