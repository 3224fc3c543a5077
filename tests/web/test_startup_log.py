"""What an application logs at start: its clients and queues, or that it has no client."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from pyramid.config import Configurator

from pyramid_baseplate_redis import RedisClient

from ..support.configurators import NOWHERE

MakeConfig = Callable[..., Configurator]
LOGGER = "pyramid_baseplate_redis.web"
SECRET = "correct-horse"


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[Configurator], list[tuple[str, str]]]:
    """Start an application; return what this package's sub-package logs meanwhile."""

    def logged(config: Configurator) -> list[tuple[str, str]]:
        with caplog.at_level(logging.INFO, LOGGER):
            config.make_wsgi_app()
        records = [record for record in caplog.records if record.name == LOGGER]
        return [(record.levelname, record.getMessage()) for record in records]

    return logged


Logged = Callable[[Configurator], list[tuple[str, str]]]


def test_one_line_names_the_clients_and_the_queues(make_config: MakeConfig, logged: Logged) -> None:
    config = make_config(
        foo__url="redis://localhost",
        cache__url="redis+cluster://a:7000,b:7001,c",
        jobs__queue="foo",
        jobs__durable="true",
    )
    config.add_message_queue("mails", "foo")
    assert logged(config) == [
        (
            "INFO",
            "Redis clients: cache (cluster, 3 nodes named), foo (redis://localhost:6379/0); "
            "message queues: jobs (durable), mails (list)",
        )
    ]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h/3", "redis://h:6379/3"),
        (f"redis://user:{SECRET}@h", "redis://h:6379/0"),
        (f"rediss://:{SECRET}@h:1", "rediss://h:1/0"),
        (f"redis://{SECRET}@h", "redis://h:6379/0"),
        (f"redis://h?password={SECRET}&db=2", "redis://h:6379/2"),
        (f"unix://:{SECRET}@/run/r.sock", "unix:///run/r.sock?db=0"),
        (f"redis+sentinel://user:{SECRET}@a,b/m/1", "redis+sentinel://a:26379,b:26379/m/1"),
        (f"redis+cluster://user:{SECRET}@a", "cluster, 1 node named"),
    ],
)
def test_an_address_has_neither_user_nor_password(
    make_config: MakeConfig, logged: Logged, url: str, shown: str
) -> None:
    assert logged(make_config(foo__url=url)) == [("INFO", f"Redis clients: foo ({shown})")]


def test_a_url_that_is_not_among_the_settings_is_not_shown(
    make_config: MakeConfig, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_REDIS_URL", "redis://thehost")
    assert logged(make_config(foo__url_env="TEST_REDIS_URL")) == [
        ("INFO", "Redis clients: foo (the URL of foo.url_env)")
    ]


def test_the_address_is_that_of_the_keyword_arguments(
    make_config: MakeConfig, logged: Logged
) -> None:
    config = make_config(foo__url="redis://h")
    config.add_redis_client("foo", RedisClient(db=5, host="another", port=7))
    assert logged(config) == [("INFO", "Redis clients: foo (redis://another:7/5)")]


def test_an_application_without_a_client_is_warned(make_config: MakeConfig, logged: Logged) -> None:
    assert logged(make_config()) == [
        (
            "WARNING",
            "no Redis client is configured: no setting such as foo.url has a Redis URL, and "
            "config.add_redis_client() was not called. Write foo.url = redis://localhost:6379/0 "
            "into the application's settings, or an empty baseplate_redis.clients if there is no "
            "client",
        )
    ]


def test_the_warning_names_the_urls_of_something_else(
    make_config: MakeConfig, logged: Logged
) -> None:
    config = make_config(foo__url=f"http://:{SECRET}@h", sqlalchemy__url="sqlite://", a__b__url="x")
    ((level, message),) = logged(config)
    assert (level, "(not one: foo.url, sqlalchemy.url)" in message) == ("WARNING", True)
    assert SECRET not in message


def test_an_application_that_wants_no_client_is_not_warned(
    make_config: MakeConfig, logged: Logged
) -> None:
    assert logged(make_config(baseplate_redis__clients="")) == []


def test_a_client_that_is_declared_after_a_commit_counts(
    make_config: MakeConfig, logged: Logged
) -> None:
    config = make_config(baseplate_redis__clients="", foo__url=NOWHERE)
    config.commit()
    config.add_redis_client("foo")
    assert logged(config) == [("INFO", f"Redis clients: foo ({NOWHERE}/0)")]
