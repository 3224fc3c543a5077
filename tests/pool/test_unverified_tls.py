"""A warning is logged where TLS does not verify the server."""

from __future__ import annotations

import logging
import pathlib
import ssl
from collections.abc import Callable
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import pool_from_config
from pyramid_baseplate_redis.pool.factory import pool_kwargs
from pyramid_baseplate_redis.settings.sources import load_client_settings

KEYS = pytest.mark.parametrize("key", ["url_env", "url_file"])

# The settings of the client foo whose URL is in a variable or a file: with that key and content.
Elsewhere = Callable[..., dict[str, Any]]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Elsewhere:
    def put(key: str, content: str, **others: Any) -> dict[str, Any]:
        monkeypatch.setenv("TEST_REDIS_URL", content)
        (tmp_path / "redis_url").write_text(content)
        place = "TEST_REDIS_URL" if key == "url_env" else str(tmp_path / "redis_url")
        return {f"foo.{key}": place, **{f"foo.{name}": value for name, value in others.items()}}

    return put


@pytest.fixture
def warnings(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], list[str]]:
    """The warnings logged since the test began, in a process that hasn't warned of anything."""
    monkeypatch.setattr("pyramid_baseplate_redis.settings.tls._warned", set())
    caplog.set_level(logging.WARNING, logger="pyramid_baseplate_redis.settings")
    return lambda: [record.getMessage() for record in caplog.records]


UNVERIFIED = "the server's certificate is not verified and may belong to anyone. Write required"
OPTIONAL = "Python decides whether the server's certificate is verified. Write required"
ANY_HOST = "the server's certificate may be that of another host. Write true"


@pytest.mark.parametrize(
    ("url", "settings", "kwargs", "message"),
    [
        ("rediss://h", {"ssl_cert_reqs": "none"}, {}, f"ssl_cert_reqs: none: {UNVERIFIED}"),
        ("rediss://h", {"ssl_cert_reqs": "optional"}, {}, f"ssl_cert_reqs: optional: {OPTIONAL}"),
        (
            "rediss://h",
            {"ssl_check_hostname": "false"},
            {},
            f"ssl_check_hostname: false: {ANY_HOST}",
        ),
        (
            "rediss://h",
            {"ssl_cert_reqs": "none", "ssl_check_hostname": "false"},
            {},
            f"ssl_cert_reqs: none: {UNVERIFIED}",
        ),
        (
            "valkeys://h?ssl_cert_reqs=none",
            {},
            {},
            f"ssl_cert_reqs: none, in the query of foo.url: {UNVERIFIED}",
        ),
        (
            "rediss://h?ssl_check_hostname=false",
            {},
            {},
            f"ssl_check_hostname: false, in the query of foo.url: {ANY_HOST}",
        ),
        *(
            (
                "rediss://h",
                {},
                {"ssl_cert_reqs": native},
                f"ssl_cert_reqs: none, a keyword argument: {UNVERIFIED}",
            )
            for native in ("none", None, ssl.CERT_NONE)
        ),
        (
            "rediss://h",
            {},
            {"ssl_cert_reqs": ssl.CERT_OPTIONAL},
            f"ssl_cert_reqs: optional, a keyword argument: {OPTIONAL}",
        ),
        (
            "rediss://h",
            {"ssl_check_hostname": "true"},
            {"ssl_check_hostname": False},
            f"ssl_check_hostname: false, a keyword argument: {ANY_HOST}",
        ),
        (
            "redis://h",
            {},
            {"connection_class": redis.SSLConnection, "ssl_cert_reqs": "none"},
            f"ssl_cert_reqs: none, a keyword argument: {UNVERIFIED}",
        ),
    ],
)
def test_tls_without_verification_is_warned_of(
    warnings: Callable[[], list[str]],
    url: str,
    settings: dict[str, str],
    kwargs: dict[str, Any],
    message: str,
) -> None:
    own = {f"foo.{key}": value for key, value in settings.items()}
    pool_kwargs(load_client_settings({"foo.url": url, **own}, "foo.").overridden_by(kwargs))
    assert warnings() == [f"foo.{message}, or leave it out."]


@KEYS
def test_a_warning_of_tls_names_the_key_that_leads_to_the_url(
    elsewhere: Elsewhere, warnings: Callable[[], list[str]], key: str
) -> None:
    app_config = elsewhere(key, "rediss://thehost?ssl_cert_reqs=none")
    pool_kwargs(load_client_settings(app_config, "foo."))
    (message,) = warnings()
    assert f"none, in the query of the URL of foo.{key}: " in message
    assert "thehost" not in message


@pytest.mark.parametrize(
    ("url", "settings", "kwargs"),
    [
        ("rediss://h", {}, {}),
        ("rediss://h", {"ssl_cert_reqs": "required", "ssl_check_hostname": "true"}, {}),
        ("rediss://h", {"ssl_cert_reqs": "none"}, {"ssl_cert_reqs": "required"}),
        ("redis://h", {}, {}),
        ("unix:///r.sock", {}, {}),
    ],
)
def test_there_is_no_warning_where_all_is_verified_or_there_is_no_tls(
    warnings: Callable[[], list[str]], url: str, settings: dict[str, str], kwargs: dict[str, Any]
) -> None:
    own = {f"foo.{key}": value for key, value in settings.items()}
    pool_kwargs(load_client_settings({"foo.url": url, **own}, "foo.").overridden_by(kwargs))
    assert warnings() == []


def test_there_is_one_warning_for_each_client_and_process(
    warnings: Callable[[], list[str]],
) -> None:
    for prefix in ("foo.", "bar.", "foo."):
        pool = pool_from_config(
            {f"{prefix}url": "rediss://127.0.0.1:1", f"{prefix}ssl_cert_reqs": "none"}, prefix
        )
        for _ in range(3):
            pool.make_connection()
    assert [message.partition(":")[0] for message in warnings()] == [
        "foo.ssl_cert_reqs",
        "bar.ssl_cert_reqs",
    ]


def test_a_keyword_argument_that_turns_verification_off_is_warned_of(
    warnings: Callable[[], list[str]],
) -> None:
    pool_from_config({"foo.url": "rediss://h"}, "foo.", ssl_cert_reqs="none")
    assert [message.partition(":")[0] for message in warnings()] == ["foo.ssl_cert_reqs"]
