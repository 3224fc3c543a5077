"""The ``baseplate_redis.*`` settings: parsed once for an application, and whenever they change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from pyramid.config import Configurator
from pyramid.response import Response
from webtest import TestApp

from pyramid_baseplate_redis import ConfigurationError
from pyramid_baseplate_redis.settings.package import PackageSettings, package_settings

NOWHERE = "redis://localhost:1"


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """The settings of each call of PackageSettings.from_config()."""
    calls: list[Mapping[str, Any]] = []
    from_config = PackageSettings.from_config

    def counted(app_config: Mapping[str, Any]) -> PackageSettings:
        calls.append(app_config)
        return from_config(app_config)

    monkeypatch.setattr(PackageSettings, "from_config", counted)
    return calls


def test_an_application_parses_them_once_and_a_request_does_not(
    parses: list[Mapping[str, Any]],
) -> None:
    config = Configurator(settings={"foo.url": NOWHERE, "baseplate_redis.server_span": "never"})
    config.include("pyramid_baseplate_redis")
    config.add_message_queue("jobs", "foo")
    config.add_redis_health_view()
    app = TestApp(config.make_wsgi_app())
    app.get("/health/redis", status=503)

    assert len(parses) == 1


@pytest.mark.parametrize("commit", [Configurator.commit, lambda config: None])
def test_settings_that_the_application_adds_after_the_include_apply(
    commit: Callable[[Configurator], None],
) -> None:
    config = Configurator(settings={"foo.url": NOWHERE})
    config.include("pyramid_baseplate_redis")
    config.add_redis_health_view()
    commit(config)
    config.add_settings({"baseplate_redis.health_details": "true"})
    app = TestApp(config.make_wsgi_app())

    found = app.get("/health/redis", status=503).json["clients"]["foo"]

    assert found["url"] == f"{NOWHERE}/0"


def test_settings_that_the_application_adds_under_autocommit_apply() -> None:
    config = Configurator(settings={}, autocommit=True)
    config.include("pyramid_baseplate_redis")
    config.add_settings({"baseplate_redis.queues": "jobs"})

    assert package_settings(config.registry).queues == ["jobs"]


def test_a_malformed_one_that_is_added_later_is_an_error() -> None:
    config = Configurator(settings={})
    config.include("pyramid_baseplate_redis")
    config.commit()
    config.add_settings({"baseplate_redis.server_span": "sometimes"})
    config.add_view(lambda request: Response(), "")

    with pytest.raises(ConfigurationError, match=r"baseplate_redis\.server_span: "):
        config.make_wsgi_app()
