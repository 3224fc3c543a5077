"""What a request leaves open is given back to the pool when it ends, and not before."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response
from pyramid.scripting import prepare
from webtest import TestApp

from pyramid_baseplate_redis import BlockingConnectionPool, PoolStats, server_context
from pyramid_baseplate_redis.interfaces import IRedisContextFactory

from ..support.servers import Server, wait_until

MakeConfig = Callable[..., Configurator]
LeaveOpen = Callable[[Any], Any]

kept: list[Any] = []  # like a reference cycle: nothing goes away by itself


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    yield
    kept.clear()


def leave_pipeline(foo: Any) -> None:
    pipeline = foo.pipeline("left")
    pipeline.watch("key")
    kept.append(pipeline)


def leave_subscriber(foo: Any) -> None:
    subscriber = foo.pubsub()
    subscriber.subscribe("news")
    kept.append(subscriber)


def leave_client(foo: Any) -> None:
    client = foo.client()
    client.ping()
    kept.append(client)


def leave_pipeline_of_a_client(foo: Any) -> None:
    client = foo.client()
    pipeline = client.pipeline()
    client.close()
    pipeline.watch("key")
    kept.append(pipeline)


def leave_subscriber_of_a_client(foo: Any) -> None:
    client = foo.client()
    subscriber = client.pubsub()
    client.close()
    subscriber.subscribe("news")
    kept.append(subscriber)


def leave_monitor(foo: Any) -> None:
    kept.append(foo.monitor().__enter__())


def leave_pipeline_of_a_block(foo: Any) -> None:
    with foo.within(5) as bounded:
        pipeline = bounded.pipeline()
        pipeline.watch("key")
    kept.append(pipeline)


LEFT = [
    leave_pipeline,
    leave_pipeline_of_a_block,
    leave_subscriber,
    leave_client,
    leave_pipeline_of_a_client,
    leave_subscriber_of_a_client,
    leave_monitor,
]


@pytest.fixture(params=["auto", "never"])
def config(request: pytest.FixtureRequest, make_config: MakeConfig, valkey: Server) -> Configurator:
    """With a server span for each request, and without."""
    config = make_config(foo__url=valkey.url, baseplate_redis__server_span=request.param)
    config.add_route("page", "/page")
    return config


def pool_of(config: Configurator) -> BlockingConnectionPool:
    factory = config.registry.getUtility(IRedisContextFactory, "foo")
    pool = factory.connection_pool
    assert isinstance(pool, BlockingConnectionPool)
    return pool


def stats(config: Configurator) -> PoolStats:
    return pool_of(config).stats


def serve(config: Configurator, view: Callable[[Request], Any]) -> TestApp:
    config.add_view(view, route_name="page")
    return TestApp(config.make_wsgi_app())


def ok_after(leave: LeaveOpen) -> Callable[[Request], Response]:
    def view(request: Request) -> Response:
        leave(request.foo)
        return Response("ok")

    return view


@pytest.mark.parametrize("leave", LEFT)
def test_what_a_view_left_open_is_given_back(config: Configurator, leave: LeaveOpen) -> None:
    serve(config, ok_after(leave)).get("/page")
    assert stats(config).in_use == 0


@pytest.mark.parametrize("leave", LEFT)
def test_what_was_left_open_is_reported_with_the_place_where_it_was_made(
    config: Configurator, leave: LeaveOpen, caplog: pytest.LogCaptureFixture
) -> None:
    serve(config, ok_after(leave)).get("/page")
    (message,) = [record.getMessage() for record in caplog.records if "left open" in record.message]
    assert message.startswith("foo: ")
    assert f"{Path(__file__).name}:" in message
    assert f"in {leave.__name__}" in message


@pytest.mark.parametrize("leave", LEFT)
def test_what_was_left_open_is_given_back_by_a_view_that_raises(
    config: Configurator, leave: LeaveOpen
) -> None:
    def view(request: Request) -> Response:
        leave(request.foo)
        raise LookupError

    app = serve(config, view)
    with pytest.raises(LookupError):
        app.get("/page")
    assert stats(config).in_use == 0


@pytest.mark.parametrize("leave", LEFT)
def test_what_a_streamed_body_left_open_is_given_back(
    config: Configurator, leave: LeaveOpen
) -> None:
    def view(request: Request) -> Response:
        def body() -> Iterator[bytes]:
            leave(request.foo)
            yield b"ok"

        return Response(app_iter=body())

    serve(config, view).get("/page")
    assert stats(config).in_use == 0


def test_a_subscriber_lives_as_long_as_the_body_that_it_feeds(
    config: Configurator, valkey: Server
) -> None:
    def view(request: Request) -> Response:
        subscriber = request.foo.pubsub(ignore_subscribe_messages=True)
        subscriber.subscribe("news")

        def body() -> Iterator[bytes]:
            with redis.Redis(port=valkey.port) as publisher:
                wait_until(lambda: publisher.publish("news", "hello"))
            received: list[Any] = []
            wait_until(lambda: received.append(subscriber.get_message()) or received[-1])
            yield received[-1]["data"]

        return Response(app_iter=body())

    assert serve(config, view).get("/page").body == b"hello"
    assert stats(config).in_use == 0


def test_a_body_that_is_closed_early_gives_back_what_its_view_left_open(
    config: Configurator,
) -> None:
    def view(request: Request) -> Response:
        leave_pipeline(request.foo)
        return Response(app_iter=(b"x" for _ in range(10)))

    config.add_view(view, route_name="page")
    app = config.make_wsgi_app()
    environ = Request.blank("/page").environ
    body = app(environ, lambda *args: None)
    next(iter(body))
    in_use = stats(config).in_use
    body.close()

    assert (in_use, stats(config).in_use) == (1, 0)


def test_what_was_closed_is_not_reported(
    config: Configurator, caplog: pytest.LogCaptureFixture
) -> None:
    def view(request: Request) -> Response:
        with request.foo.pipeline() as pipeline:
            pipeline.watch("key")
        with request.foo.pubsub() as subscriber:
            subscriber.subscribe("news")
        with request.foo.monitor():
            pass
        client = request.foo.client()
        client.ping()
        client.close()
        kept.extend([pipeline, subscriber, client])
        return Response("ok")

    with caplog.at_level(logging.WARNING):
        serve(config, view).get("/page")
    assert caplog.records == []


def test_a_subscriber_with_a_thread_of_its_own_outlives_the_request(config: Configurator) -> None:
    def view(request: Request) -> Response:
        subscriber = request.foo.pubsub()
        subscriber.subscribe(news=lambda message: None)
        kept.append(subscriber.run_in_thread(sleep_time=0.01, daemon=True))
        return Response("ok")

    serve(config, view).get("/page")
    in_use = stats(config).in_use
    kept[0].stop()
    kept[0].join(10)

    assert (in_use, stats(config).in_use) == (1, 0)


def test_the_servers_refusal_doesnt_stop_what_comes_after_it(
    config: Configurator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def view(request: Request) -> Response:
        leave_pipeline(request.foo)
        leave_client(request.foo)
        broken = kept[0]
        monkeypatch.setattr(type(broken), "close", lambda self: 1 / 0)
        return Response("ok")

    serve(config, view).get("/page")
    assert kept[1].connection is None
    assert "closing MonitoredRedisPipeline failed" in caplog.text


def test_no_command_is_sent_to_give_something_back(config: Configurator, valkey: Server) -> None:
    with redis.Redis(port=valkey.port) as admin:
        admin.config_resetstat()
        serve(config, ok_after(leave_pipeline)).get("/page")
        assert "cmdstat_unwatch" not in admin.info("commandstats")


@pytest.mark.parametrize("leave", LEFT)
def test_what_a_prepared_script_left_open_is_given_back(
    config: Configurator, leave: LeaveOpen
) -> None:
    config.make_wsgi_app()
    with prepare(registry=config.registry) as env:
        leave(env["request"].foo)
    assert stats(config).in_use == 0


@pytest.mark.parametrize("leave", LEFT)
def test_what_was_left_open_in_a_server_context_is_given_back(
    config: Configurator, leave: LeaveOpen
) -> None:
    config.make_wsgi_app()
    with server_context(config.registry, "nightly") as context:
        leave(context.foo)
    assert stats(config).in_use == 0


def test_requests_leave_nothing_behind_that_remembers_pipelines(config: Configurator) -> None:
    def view(request: Request) -> Response:
        for _ in range(10):
            request.foo.pipeline().get("a").execute()
        kept.append(len(request.foo._held._made))
        return Response("ok")

    serve(config, view).get("/page")
    assert kept[0] <= 1
