"""What Pyramid's introspection, and the debug toolbar's panel of it, tell of clients and queues."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationConflictError
from pyramid.response import Response
from redis.credentials import UsernamePasswordCredentialProvider
from webtest import TestApp

from pyramid_baseplate_redis import RedisClient

MakeConfig = Callable[..., Configurator]
NOWHERE = "redis://localhost:1"
SENTINELS = "redis+sentinel://localhost:1/mymaster"
SECRET = "correct-horse"


def told(config: Configurator, name: str = "foo") -> dict[str, Any]:
    """What is told of a client."""
    config.commit()
    return dict(config.introspector.get("redis clients", name))


def related(config: Configurator, category: str, name: str) -> list[tuple[str, str]]:
    config.commit()
    found = config.introspector.related(config.introspector.get(category, name))
    return sorted((other.category_name, other.discriminator) for other in found)


# What is told


def test_the_settings_are_reported_with_their_defaults(make_config: MakeConfig) -> None:
    found = told(make_config(foo__url=NOWHERE, foo__socket_timeout="200 ms"))
    assert (found["socket_timeout"], found["pool_timeout"], found["retries"]) == (
        timedelta(milliseconds=200),
        timedelta(seconds=5),
        0,
    )


@pytest.mark.parametrize(
    ("url", "kind", "pool"),
    [
        (NOWHERE, "standalone", "BlockingConnectionPool"),
        (SENTINELS, "Sentinel", "SentinelBlockingConnectionPool"),
        ("redis+cluster://localhost:1", "Cluster", "ClusterConnectionPool"),
    ],
)
def test_the_kind_and_the_pool_are_reported(
    make_config: MakeConfig, url: str, kind: str, pool: str
) -> None:
    found = told(make_config(foo__url=url))
    assert (found["kind"], found["pool"]) == (kind, pool)


def test_the_redis_client_name_is_reported(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE, bar__url=NOWHERE)
    config.add_redis_client("foo", RedisClient("links-pool"))
    assert told(config)["redis_client_name"] == "links-pool"
    assert told(config, "bar")["redis_client_name"] == "bar"


def test_a_keyword_argument_that_wins_over_a_setting_is_reported_in_its_place(
    make_config: MakeConfig,
) -> None:
    config = make_config(foo__url=NOWHERE)
    config.add_redis_client("foo", RedisClient(decode_responses=True, timeout=3, max_idle_time=0))
    found = told(config)
    assert (found["decode_responses"], found["pool_timeout"], found["max_idle_time"]) == (
        True,
        3,
        0,
    )


def test_keyword_arguments_are_reported_by_their_names(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE)
    config.add_redis_client("foo", RedisClient(timeout=3, socket_keepalive_options={1: 2}))
    found = told(config)
    assert found["keyword_arguments"] == ["socket_keepalive_options", "timeout"]
    assert "socket_keepalive_options" not in found


def test_a_client_is_related_to_the_attribute_of_requests(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE)
    assert related(config, "redis clients", "foo") == [("request extensions", "foo")]


def test_a_queue_is_related_to_its_client_and_to_the_attribute_of_requests(
    make_config: MakeConfig,
) -> None:
    config = make_config(foo__url=NOWHERE, bar__url=NOWHERE)
    config.add_message_queue("jobs", "foo")
    assert related(config, "redis message queues", "jobs") == [
        ("redis clients", "foo"),
        ("request extensions", "jobs"),
    ]


@pytest.mark.parametrize("options", [{"autocommit": True}, {"introspection": False}])
def test_a_configurator_that_commits_at_once_or_has_no_introspection_is_fine(
    options: dict[str, bool],
) -> None:
    config = Configurator(settings={"foo.url": NOWHERE}, **options)
    config.include("pyramid_baseplate_redis")
    config.add_message_queue("jobs", "foo")
    config.add_redis_health_view()
    config.make_wsgi_app()


# What isn't


def write_file(directory: Path, text: str) -> str:
    (directory / "secret").write_text(text)
    return str(directory / "secret")


def url_in_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("URL_OF_FOO", f"redis://:{SECRET}@localhost:1")
    return {"foo.url_env": "URL_OF_FOO"}


def url_in_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    return {"foo.url_file": write_file(tmp_path, f"redis://:{SECRET}@localhost:1")}


def password_in_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    return {"foo.url": NOWHERE, "foo.password_file": write_file(tmp_path, SECRET)}


def sentinel_password_in_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    path = write_file(tmp_path, SECRET)
    return {"foo.url": SENTINELS, "foo.sentinel_password_file": path}


ELSEWHERE = [url_in_environment, url_in_file, password_in_file, sentinel_password_in_file]
WITH_A_SECRET = {
    "the URL's password": {"foo.url": f"redis://:{SECRET}@localhost:1"},
    "the URL's user name": {"foo.url": f"redis://{SECRET}@localhost:1"},
    "the URL's query": {"foo.url": f"redis://localhost:1?password={SECRET}"},
    "password": {"foo.url": NOWHERE, "foo.password": SECRET},
    "sentinel_password": {"foo.url": SENTINELS, "foo.sentinel_password": SECRET},
}
KEYWORDS: dict[str, dict[str, Any]] = {
    "password": {"password": "correct-horse"},
    "username": {"username": "correct-horse"},
    "ssl_password": {"ssl_password": "correct-horse"},
    "credential_provider": {
        "credential_provider": UsernamePasswordCredentialProvider("user", "correct-horse")
    },
}


def panel_of(config: Configurator) -> tuple[str, str]:
    """The toolbar's panel of introspection as it is after a request, and all of its page."""
    config.include("pyramid_debugtoolbar")
    config.add_route("home", "/")
    config.add_view(lambda request: Response("<body>home</body>"), route_name="home")
    app = TestApp(config.make_wsgi_app(), extra_environ={"REMOTE_ADDR": "127.0.0.1"})
    (number,) = re.findall(r"/_debug_toolbar/(\d+)", app.get("/").text)[:1]
    page = app.get(f"/_debug_toolbar/{number}")
    panel = page.html.select_one("#pDebugPanel-introspection-content")
    return panel.get_text(" ", strip=True), page.text


def test_the_toolbar_has_the_client_and_its_queue(make_config: MakeConfig) -> None:
    config = make_config(foo__url=f"redis://user:{SECRET}@localhost:1/3")
    config.add_message_queue("jobs")
    panel, _ = panel_of(config)
    assert "redis client foo" in panel
    assert "redis://user:***@localhost:1/3" in panel
    assert "redis message queue jobs" in panel


@pytest.mark.parametrize("app_config", WITH_A_SECRET.values(), ids=WITH_A_SECRET)
def test_the_toolbar_s_introspection_has_no_secret_of_the_settings(
    make_config: MakeConfig, app_config: dict[str, str]
) -> None:
    panel, _ = panel_of(make_config(**app_config))
    assert "redis client foo" in panel
    assert SECRET not in panel


@pytest.mark.parametrize("keywords", KEYWORDS.values(), ids=KEYWORDS)
def test_the_toolbar_s_introspection_has_no_value_of_a_keyword_argument(
    make_config: MakeConfig, keywords: dict[str, Any]
) -> None:
    config = make_config(foo__url=NOWHERE.replace("redis:", "rediss:"))
    config.add_redis_client("foo", RedisClient(**keywords))
    panel, _ = panel_of(config)
    assert all(name in panel for name in keywords)
    assert SECRET not in panel


def test_the_line_of_code_that_declares_a_client_is_not_quoted(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE)
    config.add_redis_client("foo", RedisClient(password="correct-horse"))
    panel, _ = panel_of(config)
    assert Path(__file__).name in panel
    assert SECRET not in panel


def test_where_a_client_is_declared_twice_is_reported(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE)
    config.add_redis_client("foo", RedisClient(password="correct-horse"))
    config.add_redis_client("foo", RedisClient(password="correct-horse"))
    with pytest.raises(ConfigurationConflictError) as caught:
        config.commit()
    assert str(caught.value).count(Path(__file__).name) >= 2
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("place", ELSEWHERE)
def test_a_secret_that_is_no_setting_is_nowhere_in_the_toolbar(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Any
) -> None:
    # What is a setting stands in its panel of settings, which shows all of them as they are.
    panel, page = panel_of(make_config(**place(tmp_path, monkeypatch)))
    assert "redis client foo" in panel
    assert SECRET not in page
