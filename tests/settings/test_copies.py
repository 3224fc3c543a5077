"""Copies of the settings: as a dictionary without secrets, never as a pickle."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from typing import Any

import pytest
from redis.credentials import UsernamePasswordCredentialProvider

from pyramid_baseplate_redis.settings.client import ClientSettings
from pyramid_baseplate_redis.settings.url import parse_url

SECRET = "correct-horse-battery"
CERTIFICATE = "-----BEGIN correct-horse-battery"
WITH_A_SECRET: list[dict[str, str]] = [
    {"url": f"redis://:{SECRET}@h"},
    {"url": f"redis://user:{SECRET}@h"},
    {"url": f"redis://{SECRET}@h"},
    {"url": f"redis://h?password={SECRET}"},
    {"url": f"redis://h?username={SECRET}"},
    {"url": "redis://h", "password": SECRET},
    {"url": "redis://h", "password_file": f"/run/{SECRET}"},
    {"url": "rediss://h", "ssl_certfile": "/c", "ssl_password": SECRET},
    {"url": "rediss://h", "ssl_ca_data": CERTIFICATE},
    {"url": "redis+sentinel://h/m", "sentinel_password": SECRET},
    {"url": "redis+sentinel://h/m", "sentinel_password_file": f"/run/{SECRET}"},
]
ROWS = pytest.mark.parametrize("given", WITH_A_SECRET, ids=str)


def settings_of(given: dict[str, str]) -> ClientSettings:
    pairs = {f"foo.{key}": value for key, value in given.items()}
    return ClientSettings.from_config(pairs, "foo.")


@ROWS
def test_a_dictionary_of_the_settings_has_no_secret(given: dict[str, str]) -> None:
    found = dataclasses.asdict(settings_of(given))
    assert SECRET not in repr(found)
    assert SECRET not in json.dumps(found, default=str)
    assert SECRET not in repr(dataclasses.astuple(settings_of(given)))
    assert (found["prefix"], found["retries"]) == ("foo.", 0)


@pytest.mark.parametrize(
    "keywords",
    [
        {"password": SECRET},
        {"credential_provider": UsernamePasswordCredentialProvider("user", SECRET)},
        {"anything": {"nested": SECRET}},
    ],
)
def test_a_dictionary_of_the_settings_has_only_the_names_of_keyword_arguments(
    keywords: dict[str, Any],
) -> None:
    settings = settings_of({"url": "redis://h"}).overridden_by(keywords)
    assert dataclasses.asdict(settings)["keywords"] == dict.fromkeys(keywords, "***")
    assert dict(settings.keywords) == keywords


@ROWS
def test_the_settings_are_not_pickled(given: dict[str, str]) -> None:
    with pytest.raises(TypeError, match=r"^ClientSettings cannot be pickled: it may contain"):
        pickle.dumps(settings_of(given))


def test_a_url_is_not_pickled() -> None:
    with pytest.raises(TypeError, match=r"^RedisURL cannot be pickled: it may contain a password"):
        pickle.dumps(parse_url(f"redis://:{SECRET}@h"))


@pytest.mark.parametrize("url", [f"redis://:{SECRET}@h", f"redis://h?ssl_password={SECRET}"])
def test_a_dictionary_of_a_url_has_no_secret(url: str) -> None:
    assert SECRET not in repr(dataclasses.asdict(parse_url(url)))


@ROWS
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, dataclasses.replace])
def test_copies_and_changed_settings_keep_their_secrets(given: dict[str, str], copied: Any) -> None:
    settings = settings_of(given)
    found = copied(settings)
    assert found == settings
    assert (found.password, found.ssl_password) == (settings.password, settings.ssl_password)


@pytest.mark.parametrize("key", ["password", "username"])
def test_a_keyword_argument_of_a_pool_is_plain_text(key: str) -> None:
    # RQ writes the repr of a pool's keyword arguments into the source code of its workers.
    settings = settings_of({"url": "redis://h", key: "a"})
    assert repr(settings.keyword_argument(key)) == "'a'"


def test_a_user_name_beside_a_password_is_shown() -> None:
    settings = settings_of({"url": "redis://user@h", "password": SECRET})
    assert "username='user'" in repr(settings)
