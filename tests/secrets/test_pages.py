"""Pages of an application show no password: health, the debug toolbar and its error pages."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response
from webtest import TestApp

from pyramid_baseplate_redis import RedisClient, ping_all

from ..support.toolbar import PANEL
from .clients import shown_by_error
from .search import PASSWORD, assert_hidden, found_in
from .ways_in import WAYS, Give, Given

LOCAL = {"REMOTE_ADDR": "127.0.0.1"}


def get_key(request: Request) -> Response:
    request.foo.get("key")
    return Response("<body></body>")


def build(given: Given, **settings: str) -> tuple[Configurator, TestApp]:
    """Build an application with the toolbar and the client ``foo``; it fails at ``/``."""
    toolbar = {"debugtoolbar.includes": PANEL, "debugtoolbar.intercept_exc": "debug"}
    # The application may have the password among its settings, and pass it on.
    own = {"vault.redis_password": PASSWORD} if given.kwargs else {}
    if "password" in given.kwargs:
        own["vault.arguments"] = f"-a {PASSWORD}"
    config = Configurator(settings={**toolbar, **given.settings, **own, **settings})
    config.include("pyramid_debugtoolbar")
    config.include("pyramid_baseplate_redis")
    if given.kwargs:
        config.add_redis_client("foo", RedisClient(**given.kwargs))
    config.add_redis_health_view("/health")
    config.add_route("home", "/")
    config.add_view(get_key, route_name="home")
    app = TestApp(config.make_wsgi_app(), extra_environ=LOCAL)
    return config, app


@pytest.mark.parametrize("way", WAYS)
def test_no_page_of_the_toolbar_shows_the_password(
    way: str, refusing: str, given: Give, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)  # the toolbar's panel of the log shows these records
    _, app = build(given(way, refusing))
    error_page = app.get("/", expect_errors=True)
    assert error_page.status_code == 500
    assert "Traceback" in error_page.text
    assert_hidden(error_page.text)
    panels = app.get("/_debug_toolbar/").text
    for name in ("settings", "introspection", "request_vars", "logging", "redis", "traceback"):
        assert f"pDebugPanel-{name}" in panels, name
    assert_hidden(panels)
    source = re.search(r"/_debug_toolbar/[^\"' ]*/exception[^\"' ]*", error_page.text + panels)
    assert source is not None
    assert_hidden(app.get(source[0], expect_errors=True).text)


@pytest.mark.parametrize("way", WAYS)
def test_health_and_introspection_hide_the_password(way: str, refusing: str, given: Give) -> None:
    config, app = build(given(way, refusing))
    page = app.get("/health", expect_errors=True)
    assert page.status_code == 503
    assert_hidden(f"{page.text} {page.headers!r}")
    assert_hidden(repr(ping_all(config.registry)))
    assert_hidden("\n".join(introspected(config)))


def introspected(config: Configurator) -> list[str]:
    """Return all that Pyramid's introspection shows, with the lines of code of each action."""
    items = [item for _, items in config.introspector.categorized() for item in items]
    assert {"redis clients", "request extensions"} <= set(config.introspector.categories())
    texts = []
    for item in items:
        each: Any = item["introspectable"]
        texts += [f"{each!r} {each.title} {dict(each)!r} {each.action_info}"]
        texts += [f"{related!r} {related.title}" for related in item["related"]]
    return texts


def test_a_setting_that_the_toolbar_shows_is_noticed() -> None:
    # A control: the toolbar without this package's panels.
    config = Configurator(settings={"vault.other": PASSWORD})
    config.include("pyramid_debugtoolbar")
    config.add_route("home", "/")
    config.add_view(lambda request: Response("<body></body>"), route_name="home")
    app = TestApp(config.make_wsgi_app(), extra_environ=LOCAL)
    app.get("/")
    assert found_in(app.get("/_debug_toolbar/").text)


@pytest.mark.parametrize("key", ["redis.sessions.url", "celery.broker"])
def test_the_panel_of_settings_hides_urls_of_other_libraries(
    key: str, refusing: str, given: Give
) -> None:
    for way in ("url", "url argument", "url in place of a user"):
        url = given(way, refusing).settings["foo.url"]
        _, app = build(Given({"foo.url": "redis://localhost:1"}, {}), **{key: url})
        app.get("/", expect_errors=True)
        assert_hidden(app.get("/_debug_toolbar/").text)


def test_an_error_at_the_start_hides_the_password() -> None:
    config = Configurator(settings={"foo.url": "redis://localhost", "foo.pasword": PASSWORD})
    config.include("pyramid_baseplate_redis")
    with pytest.raises(Exception, match=r"foo\.pasword") as caught:
        config.commit()
    assert_hidden(shown_by_error(caught.value))
