"""``config.add_redis_queues_view``: permission, CSRF tokens, paths, introspection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pyramid.config import Configurator
from pyramid.csrf import CookieCSRFStoragePolicy, SessionCSRFStoragePolicy
from pyramid.exceptions import ConfigurationConflictError, ConfigurationExecutionError
from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.session import SignedCookieSessionFactory
from webtest import TestApp

from pyramid_baseplate_redis import ConfigurationError

from ...support.queues_page import add_page, page_app
from ...support.servers import Server

MakeConfig = Callable[..., Configurator]


@pytest.fixture
def config(make_config: MakeConfig, valkey: Server) -> Configurator:
    """An application with the durable queue ``jobs``."""
    return make_config(foo__url=valkey.url, jobs__queue="foo", jobs__durable="true")


class AdminsMay:
    """A security policy that permits ``admin`` to requests with a header."""

    def identity(self, request: Any) -> None:
        return None

    authenticated_userid = identity

    def permits(self, request: Any, context: Any, permission: str) -> bool:
        return permission == "admin" and "X-Admin" in request.headers


def problem_of(config: Configurator) -> str:
    """Return the text of the error that building the application raises."""
    with pytest.raises(ConfigurationExecutionError) as caught:
        config.make_wsgi_app()
    assert isinstance(caught.value.evalue, ConfigurationError)
    return str(caught.value.evalue)


# Permission


def test_permission_has_to_be_written_out(config: Configurator) -> None:
    with pytest.raises(TypeError, match="permission"):
        config.add_redis_queues_view("/queues")


@pytest.mark.parametrize("permission", [None, "", 17])
def test_permission_is_a_text(config: Configurator, permission: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^add_redis_queues_view: permission is"):
        config.add_redis_queues_view(permission=permission)


def test_permission_without_a_security_policy_is_an_error(config: Configurator) -> None:
    add_page(config, permission="admin")
    assert "there is no security policy" in problem_of(config)


def test_permission_without_a_security_policy_is_an_error_with_autocommit(valkey: Server) -> None:
    config = Configurator(settings={"foo.url": valkey.url}, autocommit=True)
    config.include("pyramid_baseplate_redis")
    with pytest.raises(ConfigurationError, match="there is no security policy"):
        add_page(config, permission="admin")


def test_each_view_asks_for_the_permission(config: Configurator) -> None:
    add_page(config, permission="admin")
    config.set_security_policy(AdminsMay())
    config.set_default_permission(NO_PERMISSION_REQUIRED)
    app = TestApp(config.make_wsgi_app())
    app.get("/queues", headers={"X-Admin": "yes"}, status=200)
    app.set_cookie("csrf_token", "token")

    for path in (
        "", "/style.css", "/jobs", "/jobs/messages/1-1", "/jobs/dead/1-1", "/jobs/dead/replay",
    ):  # fmt: skip
        app.get(f"/queues{path}", status=403)
    for path in ("1-1/replay", "1-1/discard", "replay", "discard"):
        form = {"csrf_token": "token", "dead": "0"}
        app.post(f"/queues/jobs/dead/{path}", form, status=403)
        app.post(f"/queues/jobs/dead/{path}", form, headers={"X-Admin": "yes"}, status=303)


def test_page_for_everyone_ignores_the_default_permission(config: Configurator) -> None:
    config.set_security_policy(AdminsMay())
    config.set_default_permission("admin")
    page_app(config).get("/queues/jobs", status=200)


# CSRF tokens


@pytest.mark.parametrize("policy", [None, SessionCSRFStoragePolicy()], ids=["default", "session"])
def test_tokens_need_a_storage(config: Configurator, policy: Any) -> None:
    config.add_redis_queues_view(permission=NO_PERMISSION_REQUIRED)
    if policy is not None:
        config.set_csrf_storage_policy(policy)
    assert "there is no storage for CSRF tokens" in problem_of(config)


def test_tokens_in_a_session(config: Configurator) -> None:
    config.add_redis_queues_view(permission=NO_PERMISSION_REQUIRED)
    config.set_session_factory(SignedCookieSessionFactory("secret"))
    TestApp(config.make_wsgi_app()).get("/queues/jobs", status=200)


def test_tokens_that_no_form_may_have_are_an_error(config: Configurator) -> None:
    add_page(config)
    config.set_default_csrf_options(require_csrf=True, token=None)
    assert "token=None" in problem_of(config)


def test_forms_are_protected_if_the_application_s_are_not(config: Configurator) -> None:
    config.set_default_csrf_options(require_csrf=False)
    page_app(config).post("/queues/jobs/dead/discard", {"dead": "0"}, status=400)


# Paths


@pytest.mark.parametrize(
    ("path", "overview", "queue"),
    [
        ("/queues", "/queues", "/queues/jobs"),
        ("/queues/", "/queues", "/queues/jobs"),
        ("/", "/", "/jobs"),
        ("/of/{tenant}/queues", "/of/7/queues", "/of/7/queues/jobs"),
    ],
)
def test_links_follow_the_path(config: Configurator, path: str, overview: str, queue: str) -> None:
    page = page_app(config, path=path).get(overview)
    assert page.html.find("a", string="jobs")["href"] == queue
    assert page.click("jobs").click("Queues").request.path == overview


def test_two_pages_below_a_prefix_and_elsewhere(config: Configurator) -> None:
    config.set_csrf_storage_policy(CookieCSRFStoragePolicy())
    config.include(
        lambda config: config.add_redis_queues_view(permission=NO_PERMISSION_REQUIRED),
        route_prefix="/internal",
    )
    config.add_redis_queues_view("/queues", permission=NO_PERMISSION_REQUIRED)
    app = TestApp(config.make_wsgi_app())

    assert app.get("/internal/queues").click("jobs").request.path == "/internal/queues/jobs"
    assert app.get("/queues").click("jobs").request.path == "/queues/jobs"


def test_two_pages_at_one_path_are_a_conflict(config: Configurator) -> None:
    add_page(config)
    add_page(config)
    with pytest.raises(ConfigurationConflictError):
        config.commit()


def test_page_is_introspectable(config: Configurator) -> None:
    add_page(config)
    config.commit()
    (page,) = config.introspector.get_category("redis queues views")
    assert (page["introspectable"].title, dict(page["introspectable"])) == (
        "/queues",
        {
            "path": "/queues",
            "route_name": "redis queues  /queues",
            "permission": NO_PERMISSION_REQUIRED,
        },
    )
    assert {other.category_name for other in page["related"]} == {"routes"}
