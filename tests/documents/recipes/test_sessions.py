"""The recipe for sessions: pyramid_session_redis on the client of the request."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import redis
from pyramid.config import Configurator
from pyramid.request import Request
from webtest import TestApp

from pyramid_baseplate_redis.testing import plain_client
from pyramid_baseplate_redis.testing.spans import RecordedSpans
from tests.support.servers import Server

from .conftest import Configure


def login(request: Request) -> dict[str, Any]:
    request.session.invalidate()
    request.session["user"] = request.params["user"]
    return {}


def whoami(request: Request) -> dict[str, Any]:
    return {"user": request.session.get("user")}


def static(request: Request) -> dict[str, Any]:
    return {}


def logout(request: Request) -> dict[str, Any]:
    request.session.invalidate()
    return {}


def serve(config: Configurator, *more: Any) -> TestApp:
    for view in (login, whoami, static, logout, *more):
        config.add_route(view.__name__, f"/{view.__name__}")
        config.add_view(view, route_name=view.__name__, renderer="json")
    return TestApp(config.make_wsgi_app(), extra_environ={"wsgi.url_scheme": "https"})


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSION_SECRET", "a secret of 32 bytes, or longer ...")


@pytest.fixture
def testapp(configure: Configure, empty_redis: None) -> TestApp:
    return serve(configure("sessions"))


# example
def test_a_page_for_a_user_takes_two_round_trips(
    testapp: TestApp, recorded_spans: RecordedSpans
) -> None:
    testapp.get("/login?user=ada")
    recorded_spans.clear()
    assert testapp.get("/whoami").json == {"user": "ada"}
    assert recorded_spans.tree() == [
        ("GET /whoami", None),
        ("sessions.GET", "GET /whoami"),
        ("sessions.EXPIRE", "GET /whoami"),
    ]


# end of example


def test_a_page_without_a_session_sends_nothing(
    testapp: TestApp, recorded_spans: RecordedSpans
) -> None:
    testapp.get("/static")
    testapp.get("/whoami")  # no cookie yet
    assert recorded_spans.names == ["GET /static", "GET /whoami"]


def test_a_new_session_takes_four_round_trips_and_a_change_two(
    testapp: TestApp, recorded_spans: RecordedSpans
) -> None:
    testapp.get("/login?user=ada")
    own = [name for name in recorded_spans.names if name.startswith("sessions.")]
    assert own == ["sessions.WATCH", "sessions.GET", "sessions.pipeline", "sessions.SETEX"]


def test_a_changed_session_takes_two_round_trips(
    configure: Configure, empty_redis: None, recorded_spans: RecordedSpans
) -> None:
    def change(request: Request) -> dict[str, Any]:
        request.session["page"] = 2
        return {}

    app = serve(configure("sessions"), change)
    app.get("/login?user=ada")
    recorded_spans.clear()
    app.get("/change")
    assert recorded_spans.names == ["GET /change", "sessions.GET", "sessions.SETEX"]


def test_a_logout_removes_the_session(testapp: TestApp) -> None:
    testapp.get("/login?user=ada")
    client = plain_client(testapp.app, "sessions")
    assert client.dbsize() == 1
    testapp.get("/logout")
    assert client.dbsize() == 0
    assert testapp.get("/whoami").json == {"user": None}


def test_a_login_changes_the_session_s_id(testapp: TestApp) -> None:
    testapp.get("/login?user=ada")
    client = plain_client(testapp.app, "sessions")
    before = client.keys()
    testapp.get("/login?user=ada")
    assert len(before) == len(client.keys()) == 1
    assert client.keys() != before


def test_a_session_is_json_and_expires_an_hour_after_its_last_use(testapp: TestApp) -> None:
    testapp.get("/login?user=ada")
    client = plain_client(testapp.app, "sessions")
    (key,) = client.keys()
    assert key.startswith(b"session:")
    assert json.loads(client.get(key))["m"] == {"user": "ada"}
    client.expire(key, 10)
    testapp.get("/whoami")
    assert 3590 < client.ttl(key) <= 3600


def test_the_cookie_is_signed_and_for_https_only(testapp: TestApp) -> None:
    cookie = testapp.get("/login?user=ada").headers["Set-Cookie"]
    assert {"secure", "HttpOnly", "SameSite=Lax"} <= set(cookie.split("; "))
    testapp.set_cookie("session", "forged")
    assert testapp.get("/whoami").json == {"user": None}


def test_the_secret_has_to_be_set(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SESSION_SECRET")
    with pytest.raises(KeyError, match="SESSION_SECRET"):
        configure("sessions")


def test_a_server_that_is_down_is_503_where_a_session_is_read(
    configure: Configure, own_server: Server
) -> None:
    app = serve(configure("sessions", {"sessions.url": own_server.url}))
    app.get("/login?user=ada")
    own_server.kill()
    assert app.get("/whoami", status=503).headers["Retry-After"] == "5"
    app.get("/static", status=200)
    own_server.restart()
    assert app.get("/whoami").json == {"user": None}  # nothing was saved to disk


def test_a_server_that_hangs_is_503_after_the_deadline(
    configure: Configure, own_server: Server
) -> None:
    app = serve(configure("sessions", {"sessions.url": own_server.url}))
    app.get("/login?user=ada")
    with redis.Redis(port=own_server.port) as client:
        client.client_pause(3000)
    began = time.monotonic()
    app.get("/whoami", status=503)
    assert 0.4 < time.monotonic() - began < 2.5


def test_a_session_that_cannot_be_saved_is_an_error_of_the_server(
    configure: Configure, own_server: Server
) -> None:
    """It is saved after the view and after the exception views."""

    def change(request: Request) -> dict[str, Any]:
        request.session["page"] = 2
        own_server.kill()
        return {}

    app = serve(configure("sessions", {"sessions.url": own_server.url}), change)
    app.get("/login?user=ada")
    with pytest.raises(redis.ConnectionError):
        app.get("/change")


def test_the_last_of_two_requests_wins(configure: Configure, empty_redis: None) -> None:
    def outer(request: Request) -> dict[str, Any]:
        request.session["outer"] = True
        app.get("/inner")  # another request of the same browser, meanwhile
        return {}

    def inner(request: Request) -> dict[str, Any]:
        request.session["inner"] = True
        return {}

    app = serve(configure("sessions"), outer, inner)
    app.get("/login?user=ada")
    app.get("/outer")
    client = plain_client(app.app, "sessions")
    assert json.loads(client.get(client.keys()[0]))["m"] == {"user": "ada", "outer": True}
