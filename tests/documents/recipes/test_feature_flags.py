"""The recipe for feature flags: a hash that each process reads once a second."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from pyramid.config import Configurator
from pyramid.request import Request
from webtest import TestApp

from pyramid_baseplate_redis.testing import plain_client
from pyramid_baseplate_redis.testing.spans import RecordedSpans
from tests.support.servers import Server

from .conftest import Configure, Recipe


class Policy:
    """Believes the client who the user is."""

    def authenticated_userid(self, request: Request) -> str | None:
        user: str | None = request.params.get("user")
        return user


# views
def checkout(request: Request) -> dict[str, Any]:
    return {"new": request.flags.enabled("new_checkout")}


def emails(request: Request) -> dict[str, Any]:
    return {"sent": request.flags.enabled("emails", default=True)}


# end of views


def twice(request: Request) -> list[bool]:
    first = request.flags.enabled("new_checkout")
    time.sleep(0.02)
    request.store.hset("flags", "new_checkout", "off")
    return [first, request.flags.enabled("new_checkout")]


def serve(config: Configurator) -> TestApp:
    config.set_security_policy(Policy())
    for view in (checkout, emails, twice):
        config.add_route(view.__name__, f"/{view.__name__}")
        config.add_view(view, route_name=view.__name__, renderer="json")
    return TestApp(config.make_wsgi_app())


@pytest.fixture
def module(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The recipe's module, with more time for a busy machine."""
    module = recipe("feature_flags")
    monkeypatch.setattr(module, "DEADLINE", 5)
    return module


@pytest.fixture
def testapp(configure: Configure, module: Any, empty_redis: None) -> TestApp:
    module.MAX_AGE = 0  # each request reads the flags
    return serve(configure("feature_flags"))


@pytest.fixture
def caching_app(configure: Configure, module: Any, empty_redis: None) -> TestApp:
    return serve(configure("feature_flags"))


@pytest.fixture
def flags(testapp: TestApp) -> Iterator[redis.Redis]:
    with plain_client(testapp.app, "store") as client:
        yield client


# example
def test_the_new_checkout_is_off_until_it_is_turned_on(testapp: TestApp) -> None:
    assert testapp.get("/checkout").json == {"new": False}
    plain_client(testapp.app, "store").hset("flags", "new_checkout", "on")
    assert testapp.get("/checkout").json == {"new": True}


# end of example


@pytest.mark.parametrize(
    ("value", "is_on"),
    [("on", True), ("off", False), ("100", True), ("0", False), ("0.0", False), ("55.5", False)],
)
def test_a_guest_has_what_all_users_have(
    testapp: TestApp, flags: redis.Redis, value: str, is_on: bool
) -> None:
    flags.hset("flags", "new_checkout", value)
    assert testapp.get("/checkout").json == {"new": is_on}


def test_a_flag_has_the_default_of_the_code(testapp: TestApp, flags: redis.Redis) -> None:
    assert testapp.get("/emails").json == {"sent": True}
    flags.hset("flags", "emails", "off")
    assert testapp.get("/emails").json == {"sent": False}


def test_a_malformed_value_is_logged_and_left_out(
    testapp: TestApp, flags: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    flags.hset("flags", mapping={"emails": "no", "new_checkout": "on"})
    assert testapp.get("/emails").json == {"sent": True}
    assert testapp.get("/checkout").json == {"new": True}
    assert "flag 'emails': 'no' is not on, off or a percentage" in caplog.text


def test_a_client_that_decodes_works_too(configure: Configure, own_server: Server) -> None:
    settings = {"store.url": own_server.url, "store.decode_responses": "true"}
    app = serve(configure("feature_flags", settings))
    with redis.Redis(port=own_server.port) as client:
        client.hset("flags", "new_checkout", "on")
    assert app.get("/checkout").json == {"new": True}


def test_a_roll_out_grows_and_never_shrinks(testapp: TestApp, flags: redis.Redis) -> None:
    before: set[str] = set()
    users = [f"user-{number}" for number in range(200)]
    for percentage in (10, 30, 100):
        flags.hset("flags", "new_checkout", percentage)
        now = {user for user in users if testapp.get(f"/checkout?user={user}").json["new"]}
        assert before < now
        assert abs(len(now) - 2 * percentage) < 25
        before = now


def test_each_flag_has_other_users(recipe: Recipe) -> None:
    place_of = recipe("feature_flags").place_of
    users = range(1000)
    both = [u for u in users if place_of("a", str(u)) < 50 and place_of("b", str(u)) < 50]
    assert 200 < len(both) < 300


def test_a_request_sees_one_state(testapp: TestApp, flags: redis.Redis) -> None:
    flags.hset("flags", "new_checkout", "on")
    assert testapp.get("/twice").json == [True, True]
    assert testapp.get("/checkout").json == {"new": False}


def test_a_process_asks_once_in_a_while(
    caching_app: TestApp, module: Any, recorded_spans: RecordedSpans
) -> None:
    assert module.MAX_AGE == 1
    module.MAX_AGE = 60
    for _ in range(5):
        caching_app.get("/checkout")
    assert recorded_spans.tree()[:2] == [
        ("GET /checkout", None),
        ("store.HGETALL", "GET /checkout"),
    ]
    assert len(recorded_spans.named("store.HGETALL")) == 1


def test_a_change_is_seen_after_a_second(caching_app: TestApp) -> None:
    caching_app.get("/checkout")
    plain_client(caching_app.app, "store").hset("flags", "new_checkout", "on")
    time.sleep(1)
    assert caching_app.get("/checkout").json == {"new": True}


def test_a_request_that_asks_for_no_flag_sends_nothing(
    configure: Configure, empty_redis: None, recorded_spans: RecordedSpans
) -> None:
    config = configure("feature_flags")
    config.add_view(lambda request: {}, name="plain", renderer="json")
    serve(config).get("/plain")
    assert not recorded_spans.named("store.HGETALL")


def test_one_thread_asks_at_the_start_and_the_others_wait_for_it(
    caching_app: TestApp, recorded_spans: RecordedSpans
) -> None:
    plain_client(caching_app.app, "store").hset("flags", "new_checkout", "on")
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: caching_app.get("/checkout").json["new"], range(8)))
    assert answers == [True] * 8
    assert len(recorded_spans.named("store.HGETALL")) == 1


def test_one_thread_asks_later_and_the_others_use_what_they_have(
    configure: Configure, recipe: Recipe, own_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = recipe("feature_flags")
    monkeypatch.setattr(module, "MAX_AGE", 0)
    monkeypatch.setattr(module, "DEADLINE", 2)
    app = serve(configure("feature_flags", {"store.url": own_server.url}))
    app.get("/checkout")
    with redis.Redis(port=own_server.port) as client, ThreadPoolExecutor(1) as threads:
        client.client_pause(1000)
        asking = threads.submit(app.get, "/checkout")
        time.sleep(0.2)
        app.get("/checkout")
        assert not asking.done()


def test_without_redis_the_flags_stay_as_they_were(
    configure: Configure, recipe: Recipe, own_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = recipe("feature_flags")
    monkeypatch.setattr(module, "MAX_AGE", 0)
    monkeypatch.setattr(module, "DEADLINE", 5)  # a busy machine is no reason for a failure
    app = serve(configure("feature_flags", {"store.url": own_server.url}))
    with redis.Redis(port=own_server.port) as client:
        client.hset("flags", "new_checkout", "on")
    app.get("/checkout")
    own_server.kill()
    assert app.get("/checkout").json == {"new": True}


def test_without_redis_from_the_start_each_flag_has_its_default(
    configure: Configure, recorded_spans: RecordedSpans, caplog: pytest.LogCaptureFixture
) -> None:
    app = serve(configure("feature_flags", {"store.url": "redis://127.0.0.1:1/0"}))
    for _ in range(3):
        assert app.get("/checkout").json == {"new": False}
        assert app.get("/emails").json == {"sent": True}
    assert len(recorded_spans.named("store.HGETALL")) == 1
    assert caplog.text.count("Redis has no answer") == 1


def test_a_server_that_hangs_costs_one_request_a_tenth_of_a_second(
    configure: Configure, recipe: Recipe, own_server: Server, recorded_spans: RecordedSpans
) -> None:
    recipe("feature_flags").MAX_AGE = 60
    app = serve(configure("feature_flags", {"store.url": own_server.url}))
    with redis.Redis(port=own_server.port) as client:
        client.client_pause(2000)
    began = time.monotonic()
    for _ in range(5):
        app.get("/emails")
    assert 0.09 < time.monotonic() - began < 1.5
    assert len(recorded_spans.named("store.HGETALL")) == 1
