"""The recipe for rate limits: the library limits in a view deriver."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from pyramid.authorization import Everyone
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationError
from pyramid.request import Request
from pyramid.response import Response
from pyramid.security import Denied
from webtest import TestApp

from pyramid_baseplate_redis.testing import plain_client
from pyramid_baseplate_redis.testing.spans import RecordedSpans
from tests.support.servers import Server
from tests.support.topologies import Cluster

from .conftest import Configure, Recipe

DOWN = {"limits.url": "redis://127.0.0.1:1/0"}


def search(request: Request) -> Response:
    return Response("found")


login = search


class Policy:
    """Knows users by a header, and permits nothing."""

    def authenticated_userid(self, request: Request) -> str | None:
        user: str | None = request.headers.get("User")
        return user

    def permits(self, request: Request, context: Any, permission: str) -> Any:
        return Denied(Everyone)


def serve(config: Configurator) -> TestApp:
    config.set_security_policy(Policy())
    config.add_route("search", "/search")
    config.add_route("login", "/login")
    # options
    config.add_view(search, route_name="search", rate_limit="3/minute")
    config.add_view(login, route_name="login", rate_limit="2/second", rate_limit_fails="closed")
    # end of options
    config.add_route("secret", "/secret")
    config.add_view(search, route_name="secret", permission="x", rate_limit="1/hour")
    config.add_route("free", "/free")
    config.add_view(search, route_name="free")
    return TestApp(config.make_wsgi_app(), extra_environ={"REMOTE_ADDR": "192.0.2.1"})


@pytest.fixture
def testapp(configure: Configure, empty_redis: None) -> TestApp:
    return serve(configure("rate_limits"))


# example
def test_the_fourth_search_in_a_minute_is_refused(testapp: TestApp) -> None:
    for _ in range(3):
        testapp.get("/search", status=200)
    refused = testapp.get("/search", status=429)
    assert 1 <= int(refused.headers["Retry-After"]) <= 60


# end of example


def test_a_request_takes_one_round_trip_and_a_refused_one_two(
    testapp: TestApp, recorded_spans: RecordedSpans
) -> None:
    testapp.get("/search")  # loads the script
    for _ in range(2):
        recorded_spans.clear()
        testapp.get("/search", status=200)
        assert recorded_spans.tree() == [
            ("GET /search", None),
            ("limits.EVALSHA", "GET /search"),
        ]
    testapp.get("/search", status=429)
    recorded_spans.clear()
    testapp.get("/search", status=429)
    assert recorded_spans.names == ["GET /search", "limits.EVALSHA", "limits.EVALSHA"]


def test_a_view_without_the_option_sends_nothing(
    testapp: TestApp, recorded_spans: RecordedSpans
) -> None:
    testapp.get("/free")
    assert recorded_spans.names == ["GET /free"]


def test_a_client_that_waits_for_retry_after_is_served(testapp: TestApp) -> None:
    while testapp.get("/login", expect_errors=True).status_int == 200:
        pass
    time.sleep(int(testapp.get("/login", status=429).headers["Retry-After"]))
    testapp.get("/login", status=200)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ({"REMOTE_ADDR": "192.0.2.1"}, {"REMOTE_ADDR": "192.0.2.2"}, False),
        ({"REMOTE_ADDR": "2001:db8::1"}, {"REMOTE_ADDR": "2001:db8::ffff:1"}, True),
        ({"REMOTE_ADDR": "2001:db8::1"}, {"REMOTE_ADDR": "2001:db8:0:1::1"}, False),
        ({"HTTP_USER": "ada"}, {"HTTP_USER": "ada", "REMOTE_ADDR": "192.0.2.2"}, True),
        ({"HTTP_USER": "ada"}, {"HTTP_USER": "grace"}, False),
        ({"REMOTE_ADDR": ""}, {"REMOTE_ADDR": "localhost"}, True),
        ({}, {"HTTP_X_FORWARDED_FOR": "192.0.2.9"}, True),
    ],
)
def test_requests_are_counted_by_user_or_address(
    testapp: TestApp, one: dict[str, str], other: dict[str, str], is_same: bool
) -> None:
    for _ in range(3):
        testapp.get("/search", extra_environ=one, status=200)
    testapp.get("/search", extra_environ=other, status=429 if is_same else 200)


def test_a_request_is_counted_before_its_permission_is_checked(testapp: TestApp) -> None:
    testapp.get("/secret", status=403)
    testapp.get("/secret", status=429)


def test_nothing_is_kept_for_longer_than_two_windows(testapp: TestApp) -> None:
    testapp.get("/search")
    client = plain_client(testapp.app, "limits")
    (key,) = client.keys()
    assert 0 < client.ttl(key) <= 120


def test_without_redis_a_view_fails_as_it_says(configure: Configure) -> None:
    app = serve(configure("rate_limits", DOWN))
    for _ in range(8):  # the breaker is open for the last ones
        app.get("/search", status=200)
        assert app.get("/login", status=503).headers["Retry-After"] == "5"


def test_a_server_that_hangs_costs_a_tenth_of_a_second(
    configure: Configure, own_server: Server
) -> None:
    app = serve(configure("rate_limits", {"limits.url": own_server.url}))
    app.get("/search")
    with redis.Redis(port=own_server.port) as client:
        client.client_pause(2000)
    began = time.monotonic()
    app.get("/search", status=200)
    assert 0.09 < time.monotonic() - began < 1


def test_an_error_of_the_view_is_not_the_limiter_s(configure: Configure, empty_redis: None) -> None:
    def broken(request: Request) -> None:
        raise redis.ConnectionError("of another client")

    config = configure("rate_limits")
    config.add_route("broken", "/broken")
    config.add_view(broken, route_name="broken", rate_limit="1/second")
    with pytest.raises(redis.ConnectionError):
        serve(config).get("/broken")


@pytest.mark.parametrize(
    "options",
    [{"rate_limit": "3 a minute"}, {"rate_limit": "3/minute", "rate_limit_fails": "close"}],
)
def test_a_wrong_option_is_an_error_at_startup(
    configure: Configure, options: dict[str, str]
) -> None:
    config = configure("rate_limits")
    config.add_view(search, **options)
    with pytest.raises(ConfigurationError):
        config.commit()


@pytest.mark.slow("starts a Cluster")
def test_limits_hold_on_a_cluster(
    recipe: Recipe, cluster: Cluster, make_config: Callable[..., Configurator]
) -> None:
    config = make_config(limits__url=cluster.url)
    config.include(recipe("rate_limits"))
    app = serve(config)
    statuses = [app.get("/search", expect_errors=True).status_int for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
