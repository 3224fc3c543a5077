"""The health view: its responses, what the public sees, its spans."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import redis
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationConflictError
from redis.credentials import CredentialProvider
from webtest import TestApp

from pyramid_baseplate_redis import RedisClient

from ..support.health import PATIENT, only, pool_of
from ..support.servers import RecordedSpans, Server, free_port

MakeConfig = Callable[..., Configurator]
PATH = "/health/redis"
PUBLIC = {"status", "required", "latency_ms", "server_version"}


def app_of(config: Configurator) -> TestApp:
    config.add_redis_health_view()
    return TestApp(config.make_wsgi_app())


# The view


def test_the_view_tells_of_a_client_that_answers(healthy: Configurator, valkey: Server) -> None:
    answer = app_of(healthy).get(PATH).json
    latency = answer["clients"]["foo"].pop("latency_ms")
    with redis.Redis(port=valkey.port) as client:
        version = client.info("server")["valkey_version"]
    assert answer == {
        "status": "ok",
        "clients": {"foo": {"status": "ok", "required": True, "server_version": version}},
    }
    assert latency > 0


def test_a_required_client_that_fails_is_a_503(failing: Configurator) -> None:
    answer = app_of(failing).get(PATH, status=503)
    assert answer.json == {
        "status": "failing",
        "clients": {
            "foo": {
                "status": "failing",
                "required": True,
                "latency_ms": None,
                "server_version": None,
            }
        },
    }


def test_a_client_that_is_not_required_may_fail(make_config: MakeConfig, valkey: Server) -> None:
    config = make_config(
        foo__url=valkey.url,
        foo__health_timeout=PATIENT,
        bar__url=f"redis://127.0.0.1:{free_port()}",
        bar__required="false",
    )
    answer = app_of(config).get(PATH, status=200).json
    assert answer["status"] == "ok"
    assert {name: client["status"] for name, client in answer["clients"].items()} == {
        "foo": "ok",
        "bar": "failing",
    }


def test_the_public_sees_no_address_and_no_error(failing: Configurator) -> None:
    port = str(pool_of(failing).connection_kwargs["port"])
    answer = app_of(failing).get(PATH, status=503)
    assert answer.json["clients"]["foo"].keys() == PUBLIC
    assert [word for word in (port, "127.0.0.1", "Error", "refused") if word in answer.text] == []


def test_details_are_shown_where_the_settings_say_so(make_config: MakeConfig) -> None:
    port = free_port()
    config = make_config(
        foo__url=f"redis://user:the-secret@127.0.0.1:{port}/3",
        baseplate_redis__health_details="true",
    )
    told = app_of(config).get(PATH, status=503).json["clients"]["foo"]
    assert told.keys() == PUBLIC | {"server", "role", "url", "error"}
    assert told["url"] == f"redis://user:***@127.0.0.1:{port}/3"
    assert told["error"].startswith("ConnectionError: foo: Error 111 connecting to 127.0.0.1")


def test_details_of_a_client_that_answers(make_config: MakeConfig, valkey: Server) -> None:
    config = make_config(
        foo__url=valkey.url, foo__health_timeout=PATIENT, baseplate_redis__health_details="true"
    )
    told = app_of(config).get(PATH).json["clients"]["foo"]
    assert (told["server"], told["role"], told["error"]) == ("valkey", "master", None)


class Vault(CredentialProvider):
    """Fails with an error that has what it read."""

    def get_credentials(self) -> tuple[str]:
        raise ValueError("the-secret has no line break")


def test_an_error_that_is_not_of_redis_is_reported_by_its_class_alone(
    make_config: MakeConfig, valkey: Server, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(
        foo__url=valkey.url, foo__health_timeout=PATIENT, baseplate_redis__health_details="true"
    )
    config.add_redis_client("foo", RedisClient(credential_provider=Vault()))
    answer = app_of(config).get(PATH, status=503)
    assert answer.json["clients"]["foo"]["error"] == "ValueError"
    assert "the-secret" not in answer.text + caplog.text


def test_why_a_client_fails_is_logged(
    failing: Configurator, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_of(failing)
    with caplog.at_level(logging.WARNING, "pyramid_baseplate_redis.health.view"):
        app.get(PATH, status=503)
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("the Redis client foo is failing: ConnectionError: foo: Error 111")


@pytest.mark.parametrize(("kind", "status"), [("healthy", 200), ("failing", 503)])
def test_no_answer_is_kept_in_a_cache(
    request: pytest.FixtureRequest, kind: str, status: int
) -> None:
    app = app_of(request.getfixturevalue(kind))
    assert app.get(PATH, status=status).headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(("kind", "status"), [("healthy", 200), ("failing", 503)])
def test_head_has_the_status_and_no_body(
    request: pytest.FixtureRequest, kind: str, status: int
) -> None:
    assert app_of(request.getfixturevalue(kind)).head(PATH, status=status).body == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_another_method_is_not_allowed(failing: Configurator, method: str) -> None:
    failing.set_default_csrf_options(require_csrf=True)
    answer = app_of(failing).request(PATH, method=method, status=405)
    assert answer.headers["Allow"] == "GET, HEAD"


class NobodyMay:
    """A security policy that denies everything."""

    def identity(self, request: Any) -> None:
        return None

    authenticated_userid = identity

    def permits(self, request: Any, context: Any, permission: str) -> bool:
        return False


def test_the_view_is_public_whatever_the_default_permission(healthy: Configurator) -> None:
    healthy.set_security_policy(NobodyMay())
    healthy.set_default_permission("view")
    app_of(healthy).get(PATH, status=200)


def test_there_may_be_views_at_two_paths(healthy: Configurator) -> None:
    healthy.add_redis_health_view("/ready")
    app = app_of(healthy)
    assert app.get("/ready").json["status"] == app.get(PATH).json["status"] == "ok"


def test_two_views_at_one_path_are_a_conflict(healthy: Configurator) -> None:
    healthy.add_redis_health_view("/ready")
    healthy.add_redis_health_view("/ready")
    with pytest.raises(ConfigurationConflictError):
        healthy.commit()


def test_the_path_is_below_the_prefix_of_an_include(healthy: Configurator) -> None:
    healthy.include(lambda config: config.add_redis_health_view("/ready"), route_prefix="/internal")
    healthy.add_redis_health_view("/ready")
    app = TestApp(healthy.make_wsgi_app())
    assert app.get("/internal/ready").json["status"] == app.get("/ready").json["status"] == "ok"


def test_the_view_is_introspectable(healthy: Configurator) -> None:
    healthy.add_redis_health_view("/ready")
    healthy.commit()
    (view,) = healthy.introspector.get_category("redis health views")
    assert (view["introspectable"].title, dict(view["introspectable"])) == (
        "/ready",
        {"path": "/ready", "route_name": "redis health  /ready", "health_details": False},
    )
    assert [other.category_name for other in view["related"]] == ["routes"]


# Spans


def test_a_probe_of_the_view_is_a_span_below_the_request_s(
    healthy: Configurator, spans: RecordedSpans
) -> None:
    app_of(healthy).get(PATH)
    assert spans.tree() == [("GET /health/redis", None), ("foo.PING", "GET /health/redis")]


@pytest.mark.parametrize(
    "setting", [{"foo__trace": "off"}, {"foo__trace_exclude": "PING"}], ids=["off", "excluded"]
)
def test_a_probe_has_no_span_where_the_settings_say_so(
    make_config: MakeConfig, valkey: Server, spans: RecordedSpans, setting: dict[str, str]
) -> None:
    app_of(make_config(foo__url=valkey.url, foo__health_timeout=PATIENT, **setting)).get(PATH)
    assert spans.names == ["GET /health/redis"]


def test_a_probe_of_a_script_has_no_span(healthy: Configurator, spans: RecordedSpans) -> None:
    healthy.commit()
    assert only(healthy).ok
    assert spans.names == []
