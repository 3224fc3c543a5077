"""Keyword arguments of a pool, which win over the client's settings."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from redis.backoff import NoBackoff
from redis.retry import Retry

from pyramid_baseplate_redis.pool.factory import background_settings
from pyramid_baseplate_redis.settings.client import ClientSettings
from pyramid_baseplate_redis.settings.sources import load_client_settings

URL = "redis://localhost"


def settings_of(url: str = URL, **own: str) -> ClientSettings:
    return load_client_settings(
        {"foo.url": url, **{f"foo.{key}": value for key, value in own.items()}}, "foo."
    )


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("timeout", 5.0),
        ("socket_timeout", 0.2),
        ("max_connections", 50),
        ("client_name", None),
        ("ssl_min_version", int(ssl.TLSVersion.TLSv1_2)),
    ],
)
def test_a_setting_becomes_the_keyword_argument_that_redis_py_takes(
    keyword: str, value: Any
) -> None:
    argument = settings_of(socket_timeout="200 ms").keyword_argument(keyword)

    assert (argument, type(argument)) == (value, type(value))


@pytest.mark.parametrize("value", [3, None, ssl.TLSVersion.TLSv1_3])
def test_a_keyword_argument_wins_and_keeps_its_type(value: Any) -> None:
    settings = settings_of(socket_timeout="200 ms").overridden_by({"socket_timeout": value})

    assert settings.keyword_argument("socket_timeout") is value
    assert settings.socket_timeout.total_seconds() == 0.2


def test_later_keyword_arguments_win_over_earlier_ones() -> None:
    settings = settings_of().overridden_by({"timeout": 1, "db": 2}).overridden_by({"timeout": 3})

    assert settings.keywords == {"timeout": 3, "db": 2}


@pytest.mark.parametrize(("retry", "retries"), [(Retry(NoBackoff(), 1), 0), (None, 3)])
def test_redis_pys_own_retries_turn_off_the_setting(retry: Any, retries: int) -> None:
    assert settings_of(retries="3").overridden_by({"retry": retry}).retries == retries


def test_the_keyword_arguments_show_no_secret() -> None:
    assert "secret" not in repr(settings_of().overridden_by({"password": "secret"}))


def test_a_client_for_background_work_leaves_out_what_only_requests_use() -> None:
    settings = settings_of(
        "redis+cluster://localhost",
        read_from_replicas="true",
        retries="3",
        track_key_reads_sample_rate="1%",
    ).overridden_by({"decode_responses": True, "timeout": 1, "username": "user", "db": 0})

    background = background_settings(settings, {"db": 1})

    assert background.keywords == {"username": "user", "db": 1}
    assert background.max_connections == 1
    assert background.retries == 0
    assert background.track_key_reads_sample_rate == 0
    assert not background.read_from_replicas
