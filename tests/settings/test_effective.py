"""Where each setting that holds for a client comes from."""

from __future__ import annotations

import dataclasses
import ssl
from pathlib import Path
from typing import Any

import pytest
from redis.backoff import NoBackoff
from redis.retry import Retry

from pyramid_baseplate_redis import cluster_pool_from_config, pool_from_config
from pyramid_baseplate_redis.settings.client import SETTINGS
from pyramid_baseplate_redis.settings.effective import effective_settings

URL = "redis://localhost:6379/0"


def found(settings: dict[str, Any], **kwargs: Any) -> dict[str, tuple[str, str]]:
    """The value and the origin of each setting of a pool."""
    pool = pool_from_config({f"foo.{key}": value for key, value in settings.items()}, "foo.")
    if kwargs:
        pool = pool_from_config(
            {f"foo.{key}": value for key, value in settings.items()}, "foo.", **kwargs
        )
    assert pool.client_settings is not None
    return {key: (value, origin) for key, value, origin in effective_settings(pool.client_settings)}


def test_what_is_not_set_is_a_default() -> None:
    assert found({"url": URL})["pool_timeout"] == ("5 seconds", "default")


def test_what_stands_in_the_settings_is_the_ini_files() -> None:
    settings = found({"url": URL, "pool_timeout": "200ms", "max_connections": "50"})

    assert settings["pool_timeout"] == ("200 milliseconds", ".ini")
    assert settings["max_connections"] == ("50", ".ini")  # although it is the default


def test_the_url_is_shown_without_its_password() -> None:
    settings = found({"url": "redis://user:secret@localhost/1"})

    assert settings["url"] == ("redis://user:***@localhost:6379/1", ".ini")
    assert settings["username"] == ("user", "URL")
    assert settings["password"] == ("***", "URL")


def test_a_query_argument_is_the_urls() -> None:
    assert found({"url": f"{URL}?timeout=2"})["pool_timeout"] == ("2 seconds", "URL")


def test_a_url_in_an_environment_variable_is_reported_by_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TEST_REDIS_URL", f"{URL}?client_name=secret")

    settings = found({"url_env": "TEST_REDIS_URL"})

    origin = "environment variable TEST_REDIS_URL"
    assert settings["url"] == ("***", origin)
    assert settings["client_name"] == ("***", origin)
    assert settings["url_env"] == ("TEST_REDIS_URL", ".ini")


def test_a_url_in_a_file_is_reported_by_the_setting(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(URL)

    assert found({"url_file": str(file)})["url"] == ("***", "file (foo.url_file)")


def test_a_password_in_a_file_is_reported_by_the_setting(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("secret")

    settings = found({"url": URL, "password_file": str(file)})

    assert settings["password"] == ("***", "file (foo.password_file)")
    assert settings["password_file"] == ("***", ".ini")


def test_a_keyword_argument_wins_and_is_shown_in_the_settings_unit() -> None:
    settings = found(
        {"url": f"{URL}?socket_timeout=1", "pool_timeout": "1 second"},
        timeout=0.5,
        socket_timeout=3,
    )

    assert settings["pool_timeout"] == ("500 milliseconds", "keyword argument")
    assert settings["socket_timeout"] == ("3 seconds", "keyword argument")


def test_a_keyword_argument_that_is_none_is_shown_so() -> None:
    assert found({"url": URL}, socket_timeout=None)["socket_timeout"][0] == "none"


@pytest.mark.parametrize(
    ("keyword", "value", "shown"),
    [
        ("password", "secret", "***"),
        ("username", "secret", "***"),  # alone, as in redis://secret@host
        ("db", 3, "3"),
        ("socket_keepalive_options", {"secret": 1}, "dict"),
    ],
)
def test_a_keyword_argument_shows_no_secret(keyword: str, value: Any, shown: str) -> None:
    assert found({"url": URL}, **{keyword: value})[keyword] == (shown, "keyword argument")


def test_a_user_name_with_a_password_is_shown() -> None:
    settings = found({"url": URL}, username="user", password="secret")

    assert settings["username"] == ("user", "keyword argument")


def test_redis_pys_own_retries_take_the_place_of_the_setting() -> None:
    settings = found({"url": URL, "retries": "3"}, retry=Retry(NoBackoff(), 1))

    assert settings["retries"] == ("0", "keyword argument")
    assert settings["retry"] == ("Retry", "keyword argument")


def test_a_clusters_settings_are_reported_likewise() -> None:
    pool = cluster_pool_from_config({"foo.url": "redis+cluster://h"}, "foo.", socket_timeout=3)

    settings = {item.key: item for item in effective_settings(pool.client_settings)}

    assert settings["socket_timeout"] == ("socket_timeout", "3 seconds", "keyword argument")
    assert settings["require_full_coverage"] == ("require_full_coverage", "true", "default")


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+sentinel", "redis+cluster"])
def test_what_is_shown_reads_as_a_setting(scheme: str) -> None:
    service = "/mymaster" if scheme.endswith("sentinel") else ""
    kwargs = {"prefix": "foo."}
    config = {"foo.url": f"{scheme}://localhost{service}"}
    pool: Any = (
        cluster_pool_from_config(config, **kwargs)
        if scheme.endswith("cluster")
        else pool_from_config(config, **kwargs)
    )

    for key, value, _ in effective_settings(pool.client_settings):
        if key != "url" and value:
            assert SETTINGS[key].metadata["parse"](value) == getattr(pool.client_settings, key)


def test_a_tls_version_is_shown_as_it_is_written() -> None:
    settings = found({"url": "rediss://localhost"}, ssl_min_version=ssl.TLSVersion.TLSv1_3)

    assert settings["ssl_min_version"] == ("TLSv1.3", "keyword argument")


def test_what_is_remembered_of_the_settings_makes_no_two_of_them() -> None:
    pool = pool_from_config({"foo.url": URL}, "foo.", socket_timeout=3)
    settings = pool.client_settings
    assert settings is not None

    assert settings == dataclasses.replace(settings, keywords={}, in_config=frozenset())
    assert hash(settings)
