"""The settings of a client: defaults, native values, the URL's query arguments."""

from __future__ import annotations

import dataclasses
import pathlib
import ssl
from datetime import timedelta
from typing import Any

import plaster
import pytest

from pyramid_baseplate_redis import ConfigurationError
from pyramid_baseplate_redis.settings.client import ClientSettings

SECRET = "correct-horse-battery"


def read(url: Any = "redis://localhost", **others: Any) -> ClientSettings:
    """The settings of a client named foo."""
    pairs = {f"foo.{key}": value for key, value in others.items()}
    return ClientSettings.from_config({"foo.url": url, **pairs}, "foo.")


@pytest.mark.parametrize("prefix", ["foo", "", "."], ids=["without a dot", "empty", "only a dot"])
def test_a_prefix_without_a_name_and_a_dot_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ClientSettings.from_config({"foo.url": "redis://h"}, prefix)
    assert str(caught.value) == 'prefix: must end with a dot, such as "foo."'


def test_every_default_is_our_own() -> None:
    settings = read("redis://localhost")
    defaults = {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if field.name not in ("prefix", "parsed_url", "in_url", "in_config", "keywords")
    }
    assert defaults == {
        "url_env": None,
        "url_file": None,
        "max_connections": 50,
        "pool_timeout": timedelta(seconds=5),
        "socket_connect_timeout": timedelta(seconds=5),
        "socket_timeout": timedelta(seconds=5),
        "deadline": None,
        "socket_keepalive": True,
        "health_check_interval": timedelta(0),
        "max_idle_time": timedelta(minutes=10),
        "max_lifetime": timedelta(hours=1),
        "leak_warning": timedelta(0),
        "retries": 0,
        "retry_budget": timedelta(seconds=5),
        "breaker_failures": 0,
        "breaker_reset": timedelta(seconds=5),
        "required": True,
        "health_timeout": timedelta(seconds=1),
        "protocol": None,
        "decode_responses": False,
        "client_name": None,
        "username": None,
        "password": None,
        "password_file": None,
        "ssl_ca_certs": None,
        "ssl_ca_path": None,
        "ssl_ca_data": None,
        "ssl_certfile": None,
        "ssl_keyfile": None,
        "ssl_password": None,
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
        "ssl_ciphers": None,
        "sentinel_username": None,
        "sentinel_password": None,
        "sentinel_password_file": None,
        "min_other_sentinels": 0,
        "read_from": "primary",
        "read_from_replicas": False,
        "load_balancing": "round_robin",
        "require_full_coverage": True,
        "trace": "all",
        "trace_query_text": "off",
        "trace_exclude": frozenset(),
        "trace_min_duration": timedelta(0),
        "metrics": True,
        "track_key_reads_sample_rate": 0.0,
        "track_key_writes_sample_rate": 0.0,
    }


@pytest.mark.parametrize(
    ("key", "raw", "value"),
    [
        ("max_connections", "99", 99),
        ("max_connections", "1", 1),
        ("max_connections", "65535", 65535),
        ("pool_timeout", "3 seconds", timedelta(seconds=3)),
        ("pool_timeout", "0 seconds", timedelta(0)),
        ("socket_connect_timeout", "3 seconds", timedelta(seconds=3)),
        ("socket_timeout", "200 milliseconds", timedelta(milliseconds=200)),
        ("socket_keepalive", "no", False),
        ("health_check_interval", "30s", timedelta(seconds=30)),
        ("retries", "3", 3),
        ("protocol", "2", 2),
        ("decode_responses", "true", True),
        ("client_name", "web-1", "web-1"),
        ("username", "app", "app"),
        ("password", " a b ", " a b "),
        ("password", "a/b#c?d@e%f", "a/b#c?d@e%f"),
        ("password_file", "/run/secrets/redis", "/run/secrets/redis"),
        ("ssl_ca_certs", "/ca.pem", "/ca.pem"),
        ("ssl_ca_path", "/etc/ssl/certs", "/etc/ssl/certs"),
        ("ssl_ca_data", "-----BEGIN", "-----BEGIN"),
        ("ssl_certfile", "/cert.pem", "/cert.pem"),
        ("ssl_cert_reqs", "NONE", "none"),
        ("ssl_check_hostname", "off", False),
        ("ssl_min_version", "TLSv1.3", ssl.TLSVersion.TLSv1_3),
        ("ssl_ciphers", "ECDHE+AESGCM", "ECDHE+AESGCM"),
        ("trace", "children", "children"),
        ("trace_query_text", "Keys", "keys"),
        ("trace_min_duration", "2 milliseconds", timedelta(milliseconds=2)),
        ("trace_exclude", "ping, publish", frozenset({"PING", "PUBLISH"})),
    ],
)
def test_a_setting_is_read_from_its_text(key: str, raw: str, value: Any) -> None:
    url = "rediss://localhost" if key.startswith("ssl_") else "redis://localhost"
    assert getattr(read(url, **{key: raw}), key) == value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_connections", 99),
        ("pool_timeout", timedelta(seconds=3)),
        ("socket_connect_timeout", timedelta(seconds=3)),
        ("socket_timeout", timedelta(milliseconds=200)),
        ("socket_keepalive", False),
        ("health_check_interval", timedelta(seconds=30)),
        ("retries", 3),
        ("protocol", 2),
        ("decode_responses", True),
        ("ssl_check_hostname", False),
        ("ssl_min_version", ssl.TLSVersion.TLSv1_3),
        ("trace_exclude", frozenset({"PING"})),
    ],
)
def test_a_setting_may_have_its_type_already(key: str, value: Any) -> None:
    url = "rediss://localhost" if key.startswith("ssl_") else "redis://localhost"
    assert getattr(read(url, **{key: value}), key) == value


@pytest.mark.parametrize("key", ["password_file", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile"])
def test_a_file_may_be_given_as_a_path(key: str) -> None:
    settings = read("rediss://localhost", **{key: pathlib.Path("/some/file")})
    assert getattr(settings, key) == "/some/file"


@pytest.mark.parametrize(
    ("native", "name"),
    [
        (ssl.CERT_NONE, "none"),
        (ssl.CERT_OPTIONAL, "optional"),
        (ssl.CERT_REQUIRED, "required"),
    ],
)
def test_certificate_requirements_may_be_those_of_the_ssl_module(native: Any, name: str) -> None:
    assert read("rediss://localhost", ssl_cert_reqs=native).ssl_cert_reqs == name


@pytest.mark.parametrize(
    ("argument", "key", "value"),
    [
        ("max_connections=7", "max_connections", 7),
        ("timeout=2", "pool_timeout", timedelta(seconds=2)),
        ("timeout=0", "pool_timeout", timedelta(0)),
        ("socket_timeout=0.5", "socket_timeout", timedelta(seconds=0.5)),
        ("socket_connect_timeout=3", "socket_connect_timeout", timedelta(seconds=3)),
        ("health_check_interval=30", "health_check_interval", timedelta(seconds=30)),
        ("socket_keepalive=False", "socket_keepalive", False),
        ("protocol=2", "protocol", 2),
        ("decode_responses=True", "decode_responses", True),
        ("decode_responses=False", "decode_responses", False),
        ("decode_responses=no", "decode_responses", False),
        ("decode_responses=0", "decode_responses", False),
        ("client_name=web-1", "client_name", "web-1"),
        ("username=app", "username", "app"),
        ("password=a%2Fb%40c", "password", "a/b@c"),
        ("db=3", "db", 3),
        ("ssl_cert_reqs=none", "ssl_cert_reqs", "none"),
        ("ssl_check_hostname=False", "ssl_check_hostname", False),
        ("ssl_ca_certs=/ca.pem", "ssl_ca_certs", "/ca.pem"),
    ],
)
def test_a_query_argument_of_the_url_is_a_setting(argument: str, key: str, value: Any) -> None:
    scheme = "rediss" if argument.startswith("ssl_") else "redis"
    assert getattr(read(f"{scheme}://localhost?{argument}"), key) == value


@pytest.mark.parametrize(
    ("url", "others"),
    [
        ("redis://u@h", {"username": "u"}),
        ("redis://h?protocol=2", {"protocol": "2"}),
        ("redis://h?timeout=5", {"pool_timeout": "5 seconds"}),
        ("redis://h/3?db=3", {}),
    ],
)
def test_what_is_said_twice_alike_is_no_contradiction(url: str, others: dict[str, str]) -> None:
    assert read(url, **others).parsed_url.host == "h"


@pytest.mark.parametrize(
    ("url", "database"),
    [
        ("redis://h", 0),
        ("redis://h/", 0),
        ("redis://h/3", 3),
        ("redis://h?db=3", 3),
        ("unix:///r.sock?db=3", 3),
        ("embedded:///d?db=3", 3),
    ],
)
def test_the_database_is_the_path_or_a_query_argument(url: str, database: int) -> None:
    assert read(url).db == database


def test_a_percent_sign_is_doubled_in_an_ini_file(tmp_path: pathlib.Path) -> None:
    ini = tmp_path / "development.ini"
    ini.write_text("[app:main]\nfoo.url = redis://:p%%40ss@h\nfoo.client_name = 100%%\n")
    settings = ClientSettings.from_config(plaster.get_settings(str(ini), "app:main"), "foo.")
    assert (settings.password, settings.client_name) == ("p@ss", "100%")


def test_keys_with_a_further_dot_belong_to_another_package() -> None:
    settings = ClientSettings.from_config(
        {"redis.url": "redis://h", "redis.sessions.secret": SECRET, "redis.sessions.nonsense": "x"}
    )
    assert SECRET not in repr(settings)


def test_keys_of_other_prefixes_are_passed_over() -> None:
    app_config = {"foo.url": "redis://h", "bar.nonsense": "x", "foobar.nonsense": "x", "foo": "x"}
    assert ClientSettings.from_config(app_config, "foo.").name == "foo"


def test_keys_that_are_not_text_are_passed_over() -> None:
    app_config: dict[Any, Any] = {"foo.url": "redis://h", 5: "x", ("foo.", "x"): "x"}
    assert ClientSettings.from_config(app_config, "foo.").name == "foo"


def test_the_settings_of_a_client_are_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        read().retries = 3  # type: ignore[misc]


def test_what_is_shown_of_the_settings_leaves_out_what_is_absent() -> None:
    assert None not in read().shown().values()


def test_the_repr_shows_a_password_as_stars() -> None:
    text = repr(read("redis://localhost", username="app", password=SECRET, retries="3"))
    assert text.startswith("ClientSettings(prefix='foo.', url='redis://app:***@localhost:6379/0'")
    assert "password='***'" in text
    assert "retries=3" in text


def test_a_user_name_beside_a_password_is_shown() -> None:
    assert read(f"redis://app:{SECRET}@h").shown()["username"] == "app"


def test_a_user_name_that_stands_alone_is_not_shown() -> None:
    # redis://secret@host is a common slip for redis://:secret@host.
    settings = read(f"redis://{SECRET}@h")
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings.shown())
