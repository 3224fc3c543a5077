"""No password of the settings in anything that people, logs or introspection get to see."""

from __future__ import annotations

import pathlib
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationError as PyramidConfigurationError

from pyramid_baseplate_redis.interfaces import IRedisContextFactory
from pyramid_baseplate_redis.settings.url import parse_url

from ..support.secrets import (
    ELSEWHERE,
    PLAIN,
    SECRETS,
    URLS_ELSEWHERE,
    URLS_WITH_A_RAW_SECRET,
    URLS_WITH_AN_ENCODED_SECRET,
    assume_telling,
    in_memory,
    leaked,
    told_about,
    told_by_error,
    told_by_factory,
    url_elsewhere,
    with_an_application,
)


def test_the_search_finds_a_secret_that_leaked() -> None:
    # So that the tests below mean something.
    assert leaked("a/b c%d?e@", ["it is a/b c%d?e@"])
    assert leaked("a/b c%d?e@", [f"it is {quote('a/b c%d?e@', safe='')}"])
    assert leaked("abcdefghijkl", ["a piece of it: defghi"])
    assert leaked("ABCDEFGH", ["in lower case: abcdefgh"])


def test_the_search_finds_a_secret_in_the_context_of_an_error() -> None:
    error = KeyError("x")
    error.__context__ = ValueError("abcdefghijkl")
    error.__suppress_context__ = True
    assert leaked("abcdefghijkl", told_by_error(error))


# Settings


@in_memory
@given(SECRETS, st.sampled_from(URLS_WITH_AN_ENCODED_SECRET))
def test_a_percent_encoded_password_in_a_url_is_not_shown(secret: str, url: str) -> None:
    assume_telling(secret)
    app_config = {"foo.url": url.format(quote(secret, safe=""))}
    assert not leaked(secret, told_about(app_config))


@in_memory
@given(SECRETS, st.sampled_from(URLS_WITH_A_RAW_SECRET))
@example("p[ass]word", "redis://:{}@localhost/1")
@example("pass/word#with?all@of%it", "redis://:{}@localhost/1")
@example("pass℀word", "redis://:{}@localhost/1")
def test_a_password_that_was_pasted_raw_into_a_url_is_not_shown(secret: str, url: str) -> None:
    assume_telling(secret)
    app_config = {"foo.url": url.replace("{}", secret)}
    assert not leaked(secret, told_about(app_config))


@in_memory
@given(SECRETS)
def test_a_password_that_was_pasted_in_place_of_the_user_name_is_not_shown(secret: str) -> None:
    assume_telling(secret)
    assume(":" not in secret)  # what is before it would be a user name indeed
    assert not leaked(secret, told_about({"foo.url": f"redis://{secret}@localhost"}))


@in_memory
@given(SECRETS)
def test_a_password_that_was_pasted_without_a_host_is_not_shown(secret: str) -> None:
    assume_telling(secret)
    assume("@" not in secret)  # what is behind it would be a host indeed
    assert not leaked(secret, told_about({"foo.url": f"redis://:{secret}"}))


@in_memory
@given(
    SECRETS,
    st.sampled_from(
        [
            {},
            {"foo.username": "user"},
            {"foo.url": "redis://:another@localhost"},
            {"foo.url": "redis://localhost?password=another"},
            {"foo.url": "embedded://"},
            {"foo.url": "nonsense"},
            {"foo.password_file": "/run/secrets/redis"},
            {"foo.retries": "nonsense"},
            {"foo.nonsense": "1"},
        ]
    ),
)
def test_a_password_among_the_settings_is_not_shown(secret: str, others: dict[str, str]) -> None:
    assume_telling(secret)
    app_config = {"foo.url": "redis://localhost", "foo.password": secret, **others}
    assert not leaked(secret, told_about(app_config))


@in_memory
@given(SECRETS, st.sampled_from(["redis", "rediss", "unix", "embedded"]))
def test_the_password_of_a_key_is_not_shown(secret: str, scheme: str) -> None:
    assume_telling(secret)
    app_config = {"foo.url": f"{scheme}:///x", "foo.ssl_password": secret}
    assert not leaked(secret, told_about(app_config))


@in_memory
@given(SECRETS, st.sampled_from(["pasword", "passwd", "auth", "secret", "ssl_pasword"]))
def test_a_password_under_an_unknown_key_is_not_shown(secret: str, key: str) -> None:
    assume_telling(secret)
    app_config = {"foo.url": "redis://localhost", f"foo.{key}": secret}
    assert not leaked(secret, told_about(app_config))


@in_memory
@given(SECRETS, st.sampled_from(URLS_WITH_AN_ENCODED_SECRET), ELSEWHERE)
def test_a_percent_encoded_password_in_a_url_elsewhere_is_not_shown(
    secret: str, url: str, key: str
) -> None:
    assume_telling(secret)
    with url_elsewhere(key, url.format(quote(secret, safe=""))) as app_config:
        assert not leaked(secret, told_about(app_config))


@in_memory
@given(SECRETS, st.sampled_from(URLS_WITH_A_RAW_SECRET), ELSEWHERE)
def test_a_password_that_was_pasted_raw_into_a_url_elsewhere_is_not_shown(
    secret: str, url: str, key: str
) -> None:
    assume_telling(secret)
    with url_elsewhere(key, url.replace("{}", secret)) as app_config:
        assert not leaked(secret, told_about(app_config))


@in_memory
@given(SECRETS, st.sampled_from([{"foo.password": "x"}, {"foo.url": "redis://h"}]), ELSEWHERE)
def test_a_password_in_a_url_elsewhere_that_is_contradicted_is_not_shown(
    secret: str, others: dict[str, str], key: str
) -> None:
    assume_telling(secret)
    with url_elsewhere(key, f"redis://:{quote(secret, safe='')}@localhost") as app_config:
        assert not leaked(secret, told_about({**app_config, **others}))


@in_memory
@given(SECRETS, st.sampled_from(["{}", *URLS_ELSEWHERE]), ELSEWHERE)
def test_a_url_that_was_pasted_in_place_of_where_it_is_is_not_shown(
    secret: str, url: str, key: str
) -> None:
    assume_telling(secret)
    assert not leaked(secret, told_about({f"foo.{key}": url.replace("{}", secret)}))


@pytest.mark.parametrize("ending", [b"", b"\n"])
def test_a_file_that_is_no_text_is_not_shown(tmp_path: pathlib.Path, ending: bytes) -> None:
    file = tmp_path / "redis_url"
    file.write_bytes(b"redis://:QZXJKVWY\xff@localhost" + ending)
    assert not leaked("QZXJKVWY", told_about({"foo.url_file": str(file)}))


@pytest.mark.parametrize("key", ["password", "ssl_password", "url", "url_env", "url_file"])
@pytest.mark.parametrize("secret", [b"QZXJKVWY-bytes", ["QZXJKVWY-list"], {"QZXJKVWY-set"}])
def test_a_password_that_is_not_text_is_not_shown(key: str, secret: Any) -> None:
    app_config = {"foo.url": "rediss://localhost", f"foo.{key}": secret}
    assert not leaked("QZXJKVWY", told_about(app_config))


@in_memory
@given(SECRETS)
def test_the_url_as_it_was_taken_apart_does_not_show_the_password(secret: str) -> None:
    assume_telling(secret)
    encoded = quote(secret, safe="")
    url = parse_url(f"redis://:{encoded}@localhost/1?password={encoded}")
    assert not leaked(secret, [repr(url), str(url)])


@pytest.mark.parametrize("value", ["nonsense", "-1", ""])
def test_what_is_not_secret_is_shown_where_it_helps(value: str) -> None:
    # The opposite mistake would be messages that say nothing.
    assert repr(value) in told_about({"foo.url": "redis://h", "foo.trace": value})[0]


# The application


def told_by_application(app_config: dict[str, Any]) -> list[str]:
    """All that is said while an application is built, and all that can be looked up in it."""
    config = Configurator(settings=app_config)
    config.include("pyramid_baseplate_redis")
    try:
        config.commit()
    except PyramidConfigurationError as error:
        return list(told_by_error(error))
    found = [
        repr(dict(item["introspectable"]))
        for _, items in config.introspector.categorized()
        for item in items
    ]
    factories = config.registry.getUtilitiesFor(IRedisContextFactory)
    return [*found, *(text for _, factory in factories for text in told_by_factory(factory))]


def test_the_introspectables_tell_of_the_client() -> None:
    # What the tests below look through.
    texts = told_by_application({"foo.url": f"redis://user:{PLAIN}@localhost/3"})
    assert any("redis://user:***@localhost:6379/3" in text for text in texts)


@with_an_application
@given(SECRETS, st.sampled_from(["redis://:{}@localhost", "redis://localhost?password={}"]))
def test_no_introspectable_shows_a_password_of_the_url(secret: str, url: str) -> None:
    assume_telling(secret)
    app_config = {"foo.url": url.format(quote(secret, safe=""))}
    assert not leaked(secret, told_by_application(app_config))


@with_an_application
@given(SECRETS)
def test_no_introspectable_shows_a_password_in_place_of_the_user_name(secret: str) -> None:
    assume_telling(secret)
    app_config = {"foo.url": f"redis://{quote(secret, safe='')}@localhost"}
    assert not leaked(secret, told_by_application(app_config))


@with_an_application
@given(SECRETS)
def test_no_introspectable_shows_a_password_of_the_settings(secret: str) -> None:
    assume_telling(secret)
    app_config = {"foo.url": "redis://localhost", "foo.password": secret}
    assert not leaked(secret, told_by_application(app_config))


@with_an_application
@given(SECRETS, ELSEWHERE)
def test_no_introspectable_shows_a_password_of_a_url_elsewhere(secret: str, key: str) -> None:
    assume_telling(secret)
    with url_elsewhere(key, f"redis://:{quote(secret, safe='')}@localhost") as app_config:
        assert not leaked(secret, told_by_application(app_config))


@with_an_application
@given(SECRETS, st.sampled_from(["redis://:{}@h:port", "redis://:x/{}@h"]), ELSEWHERE)
def test_no_error_of_the_application_shows_a_password_of_a_url_elsewhere(
    secret: str, url: str, key: str
) -> None:
    assume_telling(secret)
    with url_elsewhere(key, url.replace("{}", secret)) as app_config:
        assert not leaked(secret, told_by_application(app_config))


@with_an_application
@given(SECRETS, st.sampled_from(["nonsense://:{}@h", "redis://:{}@h:port", "redis://:x/{}@h"]))
def test_no_error_of_the_application_shows_a_password(secret: str, url: str) -> None:
    assume_telling(secret)
    app_config = {"foo.url": url.replace("{}", secret), "baseplate_redis.clients": "foo"}
    assert not leaked(secret, told_by_application(app_config))
