"""A comment after a value, or a second line, is reported as what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyramid_baseplate_redis import ConfigurationError
from pyramid_baseplate_redis.settings.client import ClientSettings
from pyramid_baseplate_redis.settings.package import PackageSettings
from pyramid_baseplate_redis.settings.sources import load_client_settings
from pyramid_baseplate_redis.settings.tls import check_files

COMMENT = "has a comment after the value; comments must stand on a line of their own"
LINES = (
    "has more than one line; an indented line continues the value above it, so start each setting "
    "at the beginning of a line"
)
SECRET = "correct-horse-battery"


def message_of(**settings: str) -> str:
    given = {"url": "redis://h", **settings}
    with pytest.raises(ConfigurationError) as caught:
        check_files(load_client_settings({f"foo.{key}": given[key] for key in given}, "foo."))
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    return str(caught.value)


@pytest.mark.parametrize("comment", [" # the primary", "  ; the primary", "\t# the primary"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("url", f"redis://:{SECRET}@localhost/0"),
        ("url_env", "REDIS_URL"),
        ("url_file", "/run/secrets/redis_url"),
        ("socket_timeout", "3 seconds"),
        ("max_connections", "10"),
        ("metrics", "true"),
        ("trace", "off"),
        ("trace_exclude", "PING"),
        ("client_name", "web"),
        ("username", "web"),
        ("password_file", "/run/secrets/redis"),
    ],
)
def test_a_comment_after_a_value_is_called_that(key: str, value: str, comment: str) -> None:
    others = {} if key.startswith("url") else {"url": "redis://h"}
    with pytest.raises(ConfigurationError) as caught:
        check_files(
            load_client_settings({f"foo.{key}": value + comment, **_of_foo(others)}, "foo.")
        )
    assert str(caught.value).partition(" (if ")[0] == f"foo.{key}: {COMMENT}"
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def _of_foo(settings: dict[str, str]) -> dict[str, str]:
    return {f"foo.{key}": value for key, value in settings.items()}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("url", "redis://localhost/0\nfoo.socket_timeout = 3 seconds"),
        ("socket_timeout", "3 seconds\nfoo.retries = 1"),
        ("username", "web\nfoo.password = x"),
    ],
)
def test_a_continuation_line_is_called_that(key: str, value: str) -> None:
    assert message_of(**{key: value}) == f"foo.{key}: {LINES}"


@pytest.mark.parametrize("names", ["foo bar  # the main ones", "\nfoo\nbar ; the main ones"])
@pytest.mark.parametrize("key", ["clients", "queues"])
def test_a_comment_after_a_list_of_names_is_called_that(key: str, names: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        PackageSettings.from_config({f"baseplate_redis.{key}": names})
    assert str(caught.value) == f"baseplate_redis.{key}: {COMMENT}"


def test_an_empty_first_line_is_no_continuation() -> None:
    settings = ClientSettings.from_config({"foo.url": "\nredis://h/3"}, "foo.")
    assert settings.db == 3


@pytest.mark.parametrize("password", ["a #b", "a ; b", f"{SECRET}\n"])
def test_a_password_may_look_like_a_comment(password: str) -> None:
    settings = ClientSettings.from_config(
        {"foo.url": "redis://h", "foo.password": password}, "foo."
    )
    assert settings.password == password


def test_a_password_in_a_url_is_not_taken_for_a_comment() -> None:
    # "redis://:a" alone is no URL, so the "#" belongs to the password.
    assert "percent-encode" in message_of(url="redis://:a #b@localhost")


def test_a_path_may_look_like_a_comment(tmp_path: Path) -> None:
    path = tmp_path / "ca #1.pem"
    path.write_text("x")
    settings = load_client_settings(
        {"foo.url": "redis://h", "foo.password_file": str(path)}, "foo."
    )
    check_files(settings)


def test_a_certificate_has_several_lines() -> None:
    settings = {"foo.url": "rediss://h", "foo.ssl_ca_data": "-----BEGIN\nabc\n-----END"}
    assert ClientSettings.from_config(settings, "foo.").ssl_ca_data == settings["foo.ssl_ca_data"]
