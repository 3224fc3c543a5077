"""RedisClient, RedisContextFactory and server_context: clients that are bound, not constructed."""

from __future__ import annotations

import gc
import socket
import threading
import timeit
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from pyramid.config import Configurator
from pyramid.paster import bootstrap
from pyramid.registry import Registry
from pyramid.scripting import prepare

from pyramid_baseplate_redis import (
    ConfigurationError,
    MessageQueue,
    MonitoredRedisConnection,
    RedisClient,
    RedisContextFactory,
    pool_from_config,
    server_context,
)

from .support.servers import RecordedSpans, Server, attributes

tracer = trace.get_tracer("tests")


@pytest.fixture
def factory(valkey: Server) -> Iterator[RedisContextFactory]:
    made = RedisClient().parse("foo", {"foo.url": valkey.url})
    yield made
    made.connection_pool.disconnect()


@pytest.fixture
def registry(valkey: Server, make_config: Callable[..., Configurator]) -> Registry:
    """Of an application with the client ``foo`` and the queue ``jobs``."""
    return built(make_config(foo__url=valkey.url))


def built(config: Configurator) -> Registry:
    config.add_message_queue("jobs", client="foo")
    config.make_wsgi_app()
    return config.registry


# RedisClient


def test_parse_makes_a_factory_from_the_settings(valkey: Server) -> None:
    made = RedisClient().parse("foo", {"foo.url": valkey.url, "foo.max_connections": "7"})
    assert isinstance(made, RedisContextFactory)
    assert (made.name, made.connection_pool.max_connections) == ("foo", 7)


def test_keyword_arguments_win_over_the_settings(valkey: Server) -> None:
    client = RedisClient(max_connections=3, socket_timeout=0.5)
    made = client.parse("foo", {"foo.url": valkey.url, "foo.max_connections": "7"})
    assert made.connection_pool.max_connections == 3
    assert made.connection_pool.connection_kwargs["socket_timeout"] == 0.5


def test_malformed_settings_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^foo\.url: is missing"):
        RedisClient().parse("foo", {})


@pytest.mark.parametrize(
    ("client", "name"),
    [
        (RedisClient(), "foo"),
        (RedisClient("shared-cache"), "shared-cache"),
        (RedisClient(redis_client_name="shared-cache"), "shared-cache"),
        (RedisClient(client_name="worker"), "worker"),
    ],
)
def test_the_name_on_the_spans(
    valkey: Server, spans: RecordedSpans, client: RedisClient, name: str
) -> None:
    made = client.parse("foo", {"foo.url": valkey.url})
    made.make_object_for_context("foo", None).ping()
    made.connection_pool.disconnect()
    assert attributes(spans.one("foo.PING"))["db.client.connection.pool.name"] == name


def test_neither_parsing_nor_binding_opens_a_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        url = f"redis://127.0.0.1:{listening.getsockname()[1]}"
        RedisClient().parse("foo", {"foo.url": url}).make_object_for_context("foo", None)
        with pytest.raises(BlockingIOError):
            listening.accept()


# make_object_for_context


def test_a_bound_client_is_a_monitored_connection(factory: RedisContextFactory) -> None:
    assert type(factory.make_object_for_context("foo", None)) is MonitoredRedisConnection


def test_bound_clients_share_the_pool_and_the_response_callbacks(
    factory: RedisContextFactory,
) -> None:
    first, second = (factory.make_object_for_context("foo", None) for _ in range(2))
    assert first is not second
    assert first.connection_pool is second.connection_pool is factory.connection_pool
    assert first.response_callbacks is second.response_callbacks


def test_binding_is_cheap(factory: RedisContextFactory) -> None:
    pool = factory.connection_pool

    def quickest(statement: Callable[[], Any]) -> float:
        return min(timeit.repeat(statement, number=100, repeat=10))

    constructing = quickest(lambda: redis.Redis(connection_pool=pool))
    binding = quickest(lambda: factory.make_object_for_context("foo", trace.INVALID_SPAN))
    assert binding < constructing / 5


def test_a_bound_clients_commands_belong_to_its_span(
    factory: RedisContextFactory, spans: RecordedSpans
) -> None:
    with tracer.start_as_current_span("request") as request:
        client = factory.make_object_for_context("foo", request)
    client.ping()
    assert spans.tree() == [("request", None), ("foo.PING", "request")]


def test_a_client_may_have_another_name_in_its_context(
    factory: RedisContextFactory, spans: RecordedSpans
) -> None:
    factory.make_object_for_context("cache", None).ping()
    factory.make_object_for_context("foo", None).ping()
    assert spans.names == ["cache.PING", "foo.PING"]


def test_closing_a_bound_client_leaves_the_others_alone(factory: RedisContextFactory) -> None:
    first, second = (factory.make_object_for_context("foo", None) for _ in range(2))
    before = second.client_id()
    first.close()
    del first
    assert second.client_id() == before


def test_two_spans_bound_concurrently_keep_their_commands(
    factory: RedisContextFactory, spans: RecordedSpans
) -> None:
    barrier = threading.Barrier(2)

    def serve(name: str) -> None:
        with tracer.start_as_current_span(name) as request:
            client = factory.make_object_for_context("foo", request)
            barrier.wait(5)
            for number in range(50):
                client.set(name, number)
                client.pipeline(name).get(name).execute()

    threads = [threading.Thread(target=serve, args=[name]) for name in ("first", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(spans.tree()) == {
        ("first", None): 1,
        ("second", None): 1,
        ("foo.SET", "first"): 50,
        ("foo.SET", "second"): 50,
        ("foo.pipeline_first", "first"): 50,
        ("foo.pipeline_second", "second"): 50,
    }


# server_context


def test_a_context_is_a_root_span_with_its_commands_below(
    registry: Registry, spans: RecordedSpans
) -> None:
    with server_context(registry, "nightly-cleanup") as context:
        context.foo.set("key", "value")
    assert spans.tree() == [("nightly-cleanup", None), ("foo.SET", "nightly-cleanup")]


def test_a_contexts_span_is_internal(registry: Registry, spans: RecordedSpans) -> None:
    with server_context(registry, "nightly-cleanup"):
        pass
    span = spans.one("nightly-cleanup")
    assert (span.kind, span.status.status_code) == (SpanKind.INTERNAL, StatusCode.UNSET)


def test_a_contexts_span_is_a_root_even_when_a_span_is_current(
    registry: Registry, spans: RecordedSpans
) -> None:
    with tracer.start_as_current_span("around"), server_context(registry, "nightly-cleanup"):
        pass
    assert spans.tree() == [("around", None), ("nightly-cleanup", None)]


def test_a_contexts_span_is_current_inside_and_only_there(registry: Registry) -> None:
    with tracer.start_as_current_span("around") as around:
        with server_context(registry, "nightly-cleanup") as context:
            assert trace.get_current_span() is context.span
        assert trace.get_current_span() is around


def test_a_context_that_raises_is_a_failure(registry: Registry, spans: RecordedSpans) -> None:
    error = ZeroDivisionError("a secret")
    with pytest.raises(ZeroDivisionError) as raised, server_context(registry, "nightly-cleanup"):
        raise error
    span = spans.one("nightly-cleanup")
    assert raised.value is error
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
    assert (attributes(span), list(span.events)) == ({"error.type": "ZeroDivisionError"}, [])


def test_a_context_has_the_clients_and_queues_of_a_request(registry: Registry) -> None:
    with server_context(registry, "nightly-cleanup") as context:
        assert isinstance(context.foo, MonitoredRedisConnection)
        assert isinstance(context.jobs, MessageQueue)


def test_what_a_context_made_it_keeps(registry: Registry) -> None:
    with server_context(registry, "nightly-cleanup") as context:
        assert context.foo is context.foo
        assert context.jobs is context.jobs
        assert context.jobs.client is context.foo


def test_a_contexts_queue_is_monitored(registry: Registry, spans: RecordedSpans) -> None:
    with server_context(registry, "worker") as context:
        context.jobs.put("a message")
        context.jobs.get(1)
    assert spans.tree() == [("worker", None), ("foo.RPUSH", "worker"), ("foo.BLPOP", "worker")]


@pytest.mark.parametrize("name", ["bar", "spam", "__len__", "_private"])
def test_a_context_has_nothing_else(registry: Registry, name: str) -> None:
    with (
        server_context(registry, "nightly-cleanup") as context,
        pytest.raises(AttributeError, match=name),
    ):
        getattr(context, name)


def test_contexts_in_threads_keep_their_commands(registry: Registry, spans: RecordedSpans) -> None:
    barrier = threading.Barrier(2)

    def work(name: str) -> None:
        with server_context(registry, name) as context:
            barrier.wait(5)
            for _ in range(20):
                context.foo.get(name)

    threads = [threading.Thread(target=work, args=[name]) for name in ("first", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(spans.tree()) == {
        ("first", None): 1,
        ("second", None): 1,
        ("foo.GET", "first"): 20,
        ("foo.GET", "second"): 20,
    }


# Scripts of Pyramid's


def test_a_prepared_request_has_its_client(registry: Registry, spans: RecordedSpans) -> None:
    with prepare(registry=registry) as env:
        request = env["request"]
        assert request.foo.set("key", "value")
        assert request.foo is request.foo
        request.jobs.put("a message")
    assert spans.tree() == [("foo.SET", None), ("foo.RPUSH", None)]


def test_a_prepared_requests_span_is_invalid(registry: Registry) -> None:
    with prepare(registry=registry) as env:
        assert not env["request"].span.get_span_context().is_valid


def test_a_prepared_request_inside_a_context_belongs_to_it(
    registry: Registry, spans: RecordedSpans
) -> None:
    with prepare(registry=registry) as env, server_context(registry, "nightly-cleanup") as context:
        assert env["request"].span is context.span
        env["request"].foo.set("key", "value")
    assert spans.tree() == [("nightly-cleanup", None), ("foo.SET", "nightly-cleanup")]


def application(global_config: dict[str, str], **settings: str) -> Any:
    """The application of the .ini file below, as PasteDeploy calls it."""
    config = Configurator(settings=settings)
    config.include("pyramid_baseplate_redis")
    built(config)
    return config.make_wsgi_app()


def test_a_bootstrapped_script_has_a_context(
    valkey: Server, tmp_path: Path, spans: RecordedSpans
) -> None:
    configuration = tmp_path / "app.ini"
    configuration.write_text(
        f"[app:main]\npaste.app_factory = {__name__}:application\nfoo.url = {valkey.url}\n"
    )
    with (
        bootstrap(str(configuration)) as env,
        server_context(env["registry"], "nightly-cleanup") as context,
    ):
        context.foo.set("key", "value")
        assert env["request"].foo.get("key") == b"value"
    assert spans.tree() == [
        ("nightly-cleanup", None),
        ("foo.SET", "nightly-cleanup"),
        ("foo.GET", "nightly-cleanup"),
    ]


def test_a_bound_client_s_end_leaves_the_connection_that_the_other_keeps(valkey: Server) -> None:
    pool = pool_from_config({"foo.url": valkey.url}, "foo.")
    with MonitoredRedisConnection("foo", None, pool).client() as keeping:
        keeping.ping()
        kept = keeping.connection
        twin = keeping.bound_to(trace.INVALID_SPAN)
        twin.ping()
        del twin
        gc.collect()
        assert pool.get_connection() is not kept
    pool.disconnect()


def test_a_bound_client_s_end_leaves_the_pool_that_the_other_owns(valkey: Server) -> None:
    with MonitoredRedisConnection.from_url(valkey.url) as owner:
        owner.ping()
        before = owner.client_id()
        owner.bound_to(trace.INVALID_SPAN)
        gc.collect()
        assert owner.client_id() == before
