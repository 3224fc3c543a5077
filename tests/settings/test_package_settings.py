"""The settings of the package, and the clients found in the settings."""

from __future__ import annotations

from typing import Any

import pytest

from pyramid_baseplate_redis import ConfigurationError
from pyramid_baseplate_redis.settings.discovery.clients import discovered_clients
from pyramid_baseplate_redis.settings.package import PackageSettings


@pytest.mark.parametrize(
    ("app_config", "names"),
    [
        pytest.param({"foo.url": "redis://h"}, ["foo"], id="one"),
        pytest.param(
            {"foo.url": "redis://h", "bar.url": "unix:///r.sock", "b2.url": "embedded://"},
            ["b2", "bar", "foo"],
            id="several",
        ),
        pytest.param({"sqlalchemy.url": "postgresql://h"}, [], id="another scheme"),
        pytest.param({"redis.sessions.url": "redis://h"}, [], id="a further dot"),
        pytest.param({"my-redis.url": "redis://h"}, [], id="not an identifier"),
        pytest.param({".url": "redis://h", "url": "redis://h"}, [], id="no name"),
        pytest.param({"foo.uri": "redis://h"}, [], id="not url"),
        pytest.param({"foo.url": 5, "bar.url": None}, [], id="not text"),
        pytest.param({5: "redis://h"}, [], id="a key that is not text"),
        pytest.param({"foo.url": "redis"}, [], id="a word that is also a scheme"),
        pytest.param({}, [], id="nothing"),
        pytest.param(
            {"baseplate_redis.clients": "foo bar", "other.url": "redis://h"},
            ["bar", "foo"],
            id="named explicitly",
        ),
        pytest.param({"baseplate_redis.clients": "foo, bar"}, ["bar", "foo"], id="with commas"),
        pytest.param({"baseplate_redis.clients": "\n foo\n bar\n"}, ["bar", "foo"], id="in lines"),
        pytest.param({"baseplate_redis.clients": ["foo", "bar"]}, ["bar", "foo"], id="a list"),
        pytest.param({"baseplate_redis.clients": "foo foo"}, ["foo"], id="named twice"),
        pytest.param(
            {"baseplate_redis.clients": "", "foo.url": "redis://h"}, [], id="explicitly none"
        ),
    ],
)
def test_the_clients_are_found_in_the_settings(app_config: Any, names: list[str]) -> None:
    named = PackageSettings.from_config(app_config).clients
    assert discovered_clients(app_config, named) == names


def test_the_package_has_defaults() -> None:
    assert PackageSettings.from_config({}) == PackageSettings(None, "auto", False, False)


@pytest.mark.parametrize(
    ("key", "raw", "value"),
    [
        ("server_span", "Never", "never"),
        ("server_span", "always", "always"),
        ("trust_trace_headers", "true", True),
        ("trust_trace_headers", False, False),
        ("health_details", "true", True),
        ("clients", "foo bar", ["foo", "bar"]),
        ("queues", "jobs mails", ["jobs", "mails"]),
        ("print_spans", "true", True),
    ],
)
def test_a_setting_of_the_package_is_read(key: str, raw: Any, value: Any) -> None:
    settings = PackageSettings.from_config({f"baseplate_redis.{key}": raw})
    assert getattr(settings, key) == value


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("server_span", "yes", "'yes' is not one of auto, always and never"),
        ("server_span", "", "'' is not one of auto, always and never"),
        (
            "trust_trace_headers",
            "maybe",
            "'maybe' is neither true nor false; write true or false",
        ),
        (
            "clients",
            None,
            "None is not a list of names; write names with spaces or commas between them",
        ),
        ("client", "foo", "unknown setting; did you mean baseplate_redis.clients?"),
        (
            "url",
            "redis://h",
            "unknown setting; the settings are clients, server_span, trust_trace_headers, "
            "health_details, prometheus, queues and print_spans",
        ),
        ("sever_span", "auto", "unknown setting; did you mean baseplate_redis.server_span?"),
    ],
)
def test_a_malformed_setting_of_the_package_is_refused(key: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        PackageSettings.from_config({f"baseplate_redis.{key}": value})
    assert str(caught.value) == f"baseplate_redis.{key}: {message}"


def test_keys_of_the_package_with_a_further_dot_belong_to_another_package() -> None:
    app_config = {"baseplate_redis.foo.bar": "x"}
    assert PackageSettings.from_config(app_config) == PackageSettings()
