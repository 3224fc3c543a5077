"""Libraries that take a Redis client, and get request.foo: RQ, limits, redis-py's own lock."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from limits import RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import (
    FixedWindowRateLimiter,
    MovingWindowRateLimiter,
    RateLimiter,
    SlidingWindowCounterRateLimiter,
)
from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPConflict, HTTPTooManyRequests
from pyramid.request import Request
from redis.exceptions import LockNotOwnedError
from rq import Queue, SimpleWorker, Worker
from rq.job import Job
from webtest import TestApp

from pyramid_baseplate_redis import MonitoredRedisConnection, server_context

from ..support.servers import RecordedSpans, Server
from .jobs import add, fail

MakeConfig = Callable[..., Configurator]
View = Callable[[Request], Any]
TWO_A_MINUTE = RateLimitItemPerMinute(2)


@pytest.fixture
def config(make_config: MakeConfig, valkey: Server) -> Configurator:
    return make_config(foo__url=valkey.url)


@pytest.fixture
def signal_handlers() -> Iterator[None]:
    """Put back what an RQ worker replaces in this process for good."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def serve(config: Configurator, **views: View) -> TestApp:
    """An application with each view at the path of its name."""
    for name, view in views.items():
        config.add_route(name, f"/{name}")
        config.add_view(view, route_name=name, renderer="json")
    return TestApp(config.make_wsgi_app())


# RQ


def enqueue(request: Request) -> dict[str, str]:
    job = Queue("jobs", connection=request.foo).enqueue(add, 20, 22)
    return {"id": job.id}


def result(request: Request) -> dict[str, Any]:
    job = Job.fetch(request.params["id"], connection=request.foo)
    return {"status": job.get_status(), "result": job.return_value()}


def failing(request: Request) -> dict[str, str]:
    return {"id": Queue("jobs", connection=request.foo).enqueue(fail).id}


@pytest.mark.usefixtures("signal_handlers")
@pytest.mark.parametrize("worker_class", [SimpleWorker, Worker])
def test_an_rq_job_is_enqueued_in_a_view_and_done_by_a_worker(
    config: Configurator, worker_class: type[SimpleWorker]
) -> None:
    """``Worker`` forks for each job, with the worker's connections open."""
    app = serve(config, enqueue=enqueue, result=result)
    identifier = app.get("/enqueue").json["id"]
    with server_context(config.registry, "worker") as context:
        worker_class(["jobs"], connection=context.foo).work(burst=True)
    expected = {"status": "finished", "result": 42}
    assert app.get(f"/result?id={identifier}").json == expected


@pytest.mark.usefixtures("signal_handlers")
def test_an_rq_job_that_fails_is_known_as_failed(config: Configurator) -> None:
    app = serve(config, failing=failing, result=result)
    identifier = app.get("/failing").json["id"]
    with server_context(config.registry, "worker") as context:
        SimpleWorker(["jobs"], connection=context.foo).work(burst=True)
    assert app.get(f"/result?id={identifier}").json["status"] == "failed"


def test_an_rq_queue_s_commands_are_the_request_s(
    config: Configurator, spans: RecordedSpans
) -> None:
    serve(config, enqueue=enqueue).get("/enqueue")
    parents = {parent for name, parent in spans.tree() if name.startswith("foo.")}
    assert parents == {"GET /enqueue"}
    assert "foo.pipeline" in spans.names


@pytest.mark.usefixtures("signal_handlers")
def test_an_rq_worker_s_commands_are_its_context_s(
    config: Configurator, spans: RecordedSpans
) -> None:
    serve(config, enqueue=enqueue).get("/enqueue")
    spans.clear()
    with server_context(config.registry, "worker") as context:
        SimpleWorker(["jobs"], connection=context.foo).work(burst=True)
    assert {parent for name, parent in spans.tree() if name != "worker"} == {"worker"}


# limits


@pytest.mark.parametrize(
    "strategy",
    [FixedWindowRateLimiter, MovingWindowRateLimiter, SlidingWindowCounterRateLimiter],
)
def test_a_rate_limiter_works_on_the_client_s_pool(
    config: Configurator, valkey: Server, strategy: type[RateLimiter]
) -> None:
    def limited(request: Request) -> dict[str, int]:
        storage = RedisStorage(valkey.url, connection_pool=request.foo.connection_pool)
        limiter = strategy(storage)
        if not limiter.hit(TWO_A_MINUTE, "limited", request.client_addr):
            raise HTTPTooManyRequests
        return {"left": limiter.get_window_stats(TWO_A_MINUTE, "limited", None).remaining}

    app = serve(config, limited=limited)
    statuses = [app.get("/limited", expect_errors=True).status_int for _ in range(4)]
    assert statuses == [200, 200, 429, 429]


def test_a_rate_limiter_s_scripts_run_on_the_client_itself(
    config: Configurator, valkey: Server, spans: RecordedSpans
) -> None:
    """A storage's client is public, and so are its scripts."""

    class RequestStorage(RedisStorage):
        STORAGE_SCHEME = None  # not to be found by a URL

        def __init__(self, client: MonitoredRedisConnection) -> None:
            super().__init__("redis://", connection_pool=client.connection_pool)
            self.storage = client
            self.initialize_storage("redis://")

    def limited(request: Request) -> dict[str, bool]:
        limiter = MovingWindowRateLimiter(RequestStorage(request.foo))
        return {"allowed": limiter.hit(TWO_A_MINUTE, "limited")}

    app = serve(config, limited=limited)
    with redis.Redis(port=valkey.port) as client:
        client.script_flush()
    assert [app.get("/limited").json["allowed"] for _ in range(3)] == [True, True, False]
    assert spans.tree()[:4] == [
        ("GET /limited", None),
        ("foo.EVALSHA", "GET /limited"),
        ("foo.SCRIPT LOAD", "GET /limited"),
        ("foo.EVALSHA", "GET /limited"),
    ]


# redis-py's lock across two requests


def acquire(request: Request) -> dict[str, str]:
    lock = request.foo.lock("basket", timeout=30, blocking=False, thread_local=False)
    if not lock.acquire():
        raise HTTPConflict
    return {"token": lock.local.token.decode()}


def release(request: Request) -> dict[str, bool]:
    lock = request.foo.lock("basket", thread_local=False)
    lock.local.token = request.params["token"].encode()
    try:
        lock.release()
    except LockNotOwnedError:
        return {"released": False}
    return {"released": True}


def test_a_lock_that_one_request_acquired_another_one_releases(config: Configurator) -> None:
    app = serve(config, acquire=acquire, release=release)
    token = app.get("/acquire").json["token"]
    assert app.get(f"/release?token={token}").json == {"released": True}


def test_a_lock_is_held_between_requests(config: Configurator) -> None:
    app = serve(config, acquire=acquire, release=release)
    token = app.get("/acquire").json["token"]
    app.get("/acquire", status=409)
    app.get(f"/release?token={token}")
    app.get("/acquire", status=200)


def test_a_lock_is_not_released_with_another_token(config: Configurator) -> None:
    app = serve(config, acquire=acquire, release=release)
    app.get("/acquire")
    assert app.get("/release?token=another").json == {"released": False}


def test_a_lock_that_is_held_is_not_a_failure(config: Configurator, spans: RecordedSpans) -> None:
    app = serve(config, acquire=acquire)
    app.get("/acquire")
    app.get("/acquire", status=409)
    assert [span.status.is_ok for span in spans.named("foo.SET")] == [True, True]


def test_a_lock_is_redis_py_s_own_to_others(config: Configurator, valkey: Server) -> None:
    """A plain client and the monitored one exclude each other."""
    app = serve(config, acquire=acquire)
    with (
        redis.Redis(port=valkey.port) as client,
        client.lock("basket", timeout=30),
    ):
        app.get("/acquire", status=409)
    app.get("/acquire", status=200)
