"""The recipe for idempotency keys: repeated, concurrent, crashed and changed requests."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
import transaction
from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPNotFound, HTTPServiceUnavailable
from pyramid.request import Request
from pyramid.response import Response
from webtest import TestApp

from docs.recipes.code import idempotency_keys

from ...support.servers import RecordedSpans, Server, running_server, wait_until

MakeApp = Callable[..., TestApp]
_LOGGER = idempotency_keys.__name__


class Orders:
    """A view that counts how often it ran, and does what a test asks for."""

    def __init__(self) -> None:
        self.count = 0
        self.before_response: Callable[[Request], None] = lambda request: None

    def __call__(self, request: Request) -> Response:
        self.count += 1
        count = self.count
        self.before_response(request)
        response = Response(json_body={"order": count}, status=201)
        response.headers["Location"] = f"/orders/{count}"
        response.set_cookie("session", "secret")
        return response


@pytest.fixture
def orders() -> Orders:
    return Orders()


@pytest.fixture
def make_app(make_config: Callable[..., Configurator], orders: Orders) -> MakeApp:
    def make(url: str, *includes: str) -> TestApp:
        config = make_config(foo__url=url, foo__socket_timeout="1 second")
        for include in (*includes, idempotency_keys.__name__):
            config.include(include)
        config.add_route("orders", "/orders")
        config.add_view(orders, route_name="orders", request_method="POST", idempotent=True)
        config.add_view(lambda request: Response("all"), route_name="orders", request_method="GET")
        return TestApp(config.make_wsgi_app())

    return make


@pytest.fixture
def app(make_app: MakeApp, valkey: Server) -> TestApp:
    return make_app(valkey.url)


def order(app: TestApp, key: str = "key-1", item: str = "pen") -> Response:
    headers = {"Idempotency-Key": key}
    return app.post_json("/orders", {"item": item}, headers=headers, expect_errors=True)


def test_a_repeated_order_is_placed_once(app: TestApp, orders: Orders) -> None:
    first, second = order(app), order(app)
    assert orders.count == 1
    assert (second.status, second.json) == (first.status, first.json)
    for header in ("Location", "Content-Type", "Content-Length"):
        assert second.headers[header] == first.headers[header]


def test_a_repeated_request_is_marked_and_sets_no_cookies(app: TestApp) -> None:
    first, second = order(app), order(app)
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert "Set-Cookie" not in second.headers


def test_another_key_is_another_order(app: TestApp, orders: Orders) -> None:
    order(app, "key-1"), order(app, "key-2")
    assert orders.count == 2


def test_a_key_is_required(app: TestApp, orders: Orders) -> None:
    app.post_json("/orders", {}, status=400)
    assert orders.count == 0


def test_other_views_need_no_key(app: TestApp) -> None:
    assert app.get("/orders").text == "all"


def test_a_key_with_another_body_is_refused(app: TestApp, orders: Orders) -> None:
    order(app, item="pen")
    assert order(app, item="book").status_int == 422
    assert orders.count == 1


def test_a_concurrent_request_gets_a_409(app: TestApp, orders: Orders) -> None:
    concurrent: list[Response] = []
    orders.before_response = lambda request: concurrent.append(order(app))
    assert order(app).status_int == 201
    assert (concurrent[0].status_int, concurrent[0].headers["Retry-After"]) == (409, "1")
    assert orders.count == 1


def test_one_of_many_concurrent_requests_runs(app: TestApp, orders: Orders) -> None:
    statuses: list[int] = []
    orders.before_response = lambda request: wait_until(lambda: len(statuses) == 7)
    threads = [
        threading.Thread(target=lambda: statuses.append(order(app).status_int)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [201, *[409] * 7]


def test_users_have_keys_of_their_own(
    make_config: Callable[..., Configurator], valkey: Server, orders: Orders
) -> None:
    class Policy:
        def authenticated_userid(self, request: Request) -> str | None:
            return request.headers.get("User")

    config = make_config(foo__url=valkey.url)
    config.set_security_policy(Policy())
    config.include(idempotency_keys.__name__)
    config.add_route("orders", "/orders")
    config.add_view(orders, route_name="orders", idempotent=True)
    app = TestApp(config.make_wsgi_app())
    for user in ("ada", "bob", "ada"):
        app.post("/orders", headers={"User": user, "Idempotency-Key": "key-1"})
    assert orders.count == 2


def test_a_request_has_two_commands_and_a_repeated_one_has_one(
    app: TestApp, spans: RecordedSpans
) -> None:
    order(app, "another key")  # the first time, redis-py loads the script
    spans.clear()
    order(app)
    order(app)
    request = "POST /orders"
    assert spans.tree() == [
        (request, None),
        ("foo.SET", request),
        ("foo.EVALSHA", request),
        (request, None),
        ("foo.SET", request),
    ]


# Failures


def fail(request: Request) -> None:
    raise ZeroDivisionError


def not_found(request: Request) -> None:
    raise HTTPNotFound


def unavailable(request: Request) -> None:
    raise HTTPServiceUnavailable


def test_a_request_that_failed_can_be_repeated(app: TestApp, orders: Orders) -> None:
    orders.before_response = fail
    with pytest.raises(ZeroDivisionError):
        order(app)
    orders.before_response = lambda request: None
    assert order(app).status_int == 201


def test_a_response_of_the_500s_is_not_stored(app: TestApp, orders: Orders) -> None:
    orders.before_response = unavailable
    assert [order(app).status_int for _ in range(2)] == [503, 503]
    assert orders.count == 2


def test_an_error_of_the_client_is_stored(app: TestApp, orders: Orders) -> None:
    orders.before_response = not_found
    assert [order(app).status_int for _ in range(2)] == [404, 404]
    assert orders.count == 1


def test_a_claim_ends_with_its_time_if_the_process_dies(
    app: TestApp, orders: Orders, valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency_keys.Claim, "replace", lambda *arguments: None)
    order(app)
    assert order(app).status_int == 409
    with redis.Redis(port=valkey.port) as client:
        (key,) = client.keys("idempotency:*")
        assert 0 < client.ttl(key) <= 60
        client.pexpire(key, 1)
        wait_until(lambda: not client.exists(key))
    assert order(app).status_int == 201
    assert orders.count == 2


def test_a_stored_response_expires(app: TestApp, valkey: Server) -> None:
    order(app)
    with redis.Redis(port=valkey.port) as client:
        (key,) = client.keys("idempotency:*")
        assert 23 * 3600 < client.ttl(key) <= 24 * 3600


def test_a_request_whose_claim_expired_does_not_overwrite_the_next_one(
    app: TestApp, orders: Orders, valkey: Server, caplog: pytest.LogCaptureFixture
) -> None:
    def expire(request: Request) -> None:
        orders.before_response = lambda request: None
        request.foo.delete(*request.foo.keys("idempotency:*"))
        order(app)

    orders.before_response = expire
    assert order(app).json == {"order": 1}
    assert order(app).json == {"order": 2}
    levels = [record.levelno for record in caplog.records if record.name == _LOGGER]
    assert levels == [logging.WARNING]


def test_the_view_does_not_run_without_redis(make_app: MakeApp, orders: Orders) -> None:
    response = order(make_app("redis://127.0.0.1:1"))
    assert (response.status_int, response.headers["Retry-After"]) == (503, "5")
    assert orders.count == 0


def test_the_client_gets_its_response_if_redis_fails_after_the_view(
    make_app: MakeApp, orders: Orders, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_server("valkey", tmp_path) as server:
        orders.before_response = lambda request: server.kill()
        assert order(make_app(server.url)).status_int == 201
    assert [record.levelno for record in caplog.records if record.name == _LOGGER] == [40]


# pyramid_tm


def test_a_response_is_stored_after_the_commit(
    make_app: MakeApp, valkey: Server, orders: Orders
) -> None:
    stored: list[bool] = []

    def look(committed: bool) -> None:
        with redis.Redis(port=valkey.port) as client:
            (key,) = client.keys("idempotency:*")
            stored.append("body" in json.loads(client.get(key)))

    orders.before_response = lambda request: request.tm.get().addAfterCommitHook(look)
    assert order(make_app(valkey.url, "pyramid_tm")).status_int == 201
    assert stored == [False]


def test_a_response_is_not_stored_if_the_commit_fails(
    make_app: MakeApp, valkey: Server, orders: Orders
) -> None:
    def refuse() -> None:
        raise transaction.interfaces.TransactionFailedError

    orders.before_response = lambda request: request.tm.get().addBeforeCommitHook(refuse)
    app = make_app(valkey.url, "pyramid_tm")
    with pytest.raises(transaction.interfaces.TransactionFailedError):
        order(app)
    orders.before_response = lambda request: None
    assert order(app).json == {"order": 2}
