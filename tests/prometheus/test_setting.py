"""The setting that switches Prometheus on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from pyramid.exceptions import ConfigurationExecutionError

from pyramid_baseplate_redis import ConfigurationError
from pyramid_baseplate_redis.prometheus.instruments import PrometheusObserver

from ..support.servers import Server


def test_it_is_off_by_default(make_config: Callable[..., Any]) -> None:
    config = make_config(foo__url="redis://localhost")
    config.commit()

    assert observers_of(config, "foo") == []


def observers_of(config: Any, name: str) -> list[Any]:
    from pyramid_baseplate_redis.interfaces import IRedisContextFactory

    factory = config.registry.getUtility(IRedisContextFactory, name)
    observers: list[Any] = factory.connection_pool.observers
    return observers


def test_a_setting_switches_it_on_for_every_client(make_config: Callable[..., Any]) -> None:
    config = make_config(
        foo__url="redis://localhost",
        bar__url="redis+cluster://localhost",
        baseplate_redis__prometheus="true",
    )
    config.commit()

    for name in ("foo", "bar"):
        assert [type(each) for each in observers_of(config, name)] == [PrometheusObserver]


def test_a_client_that_stands_in_for_another_in_tests_is_measured_too(
    make_config: Callable[..., Any], valkey: Server
) -> None:
    config = make_config(
        foo__url="redis://localhost",
        baseplate_redis__prometheus="true",
        baseplate_redis__testing__url=valkey.url,
    )
    config.include("pyramid_baseplate_redis.testing")
    config.commit()

    assert [type(each) for each in observers_of(config, "foo")] == [PrometheusObserver]


def test_an_application_can_be_built_twice_in_one_process(make_config: Callable[..., Any]) -> None:
    for _ in range(2):
        config = make_config(foo__url="redis://localhost", baseplate_redis__prometheus="true")
        config.make_wsgi_app()
        assert len(observers_of(config, "foo")) == 1


def test_a_malformed_setting_is_refused(make_config: Callable[..., Any]) -> None:
    config = make_config(foo__url="redis://localhost", baseplate_redis__prometheus="perhaps")

    with pytest.raises(ConfigurationExecutionError, match=r"\.prometheus: 'perhaps'") as raised:
        config.commit()
    assert raised.value.etype is ConfigurationError


def test_without_prometheus_client_the_error_names_the_extra(
    make_config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "pyramid_baseplate_redis.prometheus.instruments")
    config = make_config(foo__url="redis://localhost", baseplate_redis__prometheus="true")

    wanted = r"baseplate_redis\.prometheus: .*'pyramid_baseplate_redis\[prometheus\]'"
    with pytest.raises(ConfigurationExecutionError, match=wanted) as raised:
        config.commit()
    assert raised.value.etype is ConfigurationError


def test_a_directory_for_the_files_that_is_missing_is_refused(
    make_config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/nowhere/at/all")
    config = make_config(foo__url="redis://localhost", baseplate_redis__prometheus="true")

    wanted = r"baseplate_redis\.prometheus: PROMETHEUS_MULTIPROC_DIR is '/nowhere/at/all'"
    with pytest.raises(ConfigurationExecutionError, match=wanted) as raised:
        config.commit()
    assert raised.value.etype is ConfigurationError


NAME_TAKEN = """
from prometheus_client import Counter
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationExecutionError
from pyramid_baseplate_redis import ConfigurationError

Counter("redis_client_requests", "mine")
settings = {"foo.url": "redis://localhost", "baseplate_redis.prometheus": "true"}
config = Configurator(settings=settings)
config.include("pyramid_baseplate_redis")
try:
    config.commit()
except ConfigurationExecutionError as error:
    assert error.etype is ConfigurationError
    raise SystemExit("baseplate_redis.prometheus: something else has reg" not in str(error))
raise SystemExit(2)
"""


def test_a_metric_of_the_applications_own_with_the_same_name_is_an_error() -> None:
    command = [sys.executable, "-c", NAME_TAKEN]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0
