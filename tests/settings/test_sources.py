"""URLs in the environment and in files: how they are read, refused, shown and found."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import redis
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationExecutionError

from pyramid_baseplate_redis import ConfigurationError, pool_from_config
from pyramid_baseplate_redis.interfaces import IRedisContextFactory
from pyramid_baseplate_redis.pool.credentials import PasswordFile
from pyramid_baseplate_redis.settings.client import ClientSettings
from pyramid_baseplate_redis.settings.discovery.clients import discovered_clients
from pyramid_baseplate_redis.settings.package import PackageSettings
from pyramid_baseplate_redis.settings.sources import load_client_settings, read_url
from pyramid_baseplate_redis.settings.tls import check_files

from ..support.servers import Server

SECRET = "correct-horse-battery"
VARIABLE = "the environment variable TEST_REDIS_URL"
A_URL = "a URL such as redis://localhost:6379/0"
ELSEWHERE = (
    "(if foo.* belongs to something else, list the Redis clients in baseplate_redis.clients; "
    "then no other prefix is read)"
)
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


def refusal(app_config: dict[str, Any]) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        check_files(load_client_settings(app_config, "foo."))
    return caught.value


def told(error: BaseException) -> str:
    """An error, and that it is chained to no other, which may tell more."""
    assert (error.__cause__, error.__context__) == (None, None)
    return str(error)


# URLs in the environment and in files


@KEYS
@pytest.mark.parametrize("ending", ["", "\n", "\r\n", " \n\n"], ids=repr)
def test_a_url_is_read_from_elsewhere(elsewhere: Elsewhere, key: str, ending: str) -> None:
    settings = load_client_settings(elsewhere(key, f"redis://:p%40ss@h:7/3{ending}"), "foo.")
    url = settings.parsed_url
    assert (url.host, url.port, settings.db, settings.password) == ("h", 7, 3, "p@ss")


@KEYS
def test_a_pool_is_made_from_a_url_elsewhere(
    elsewhere: Elsewhere, valkey: Server, key: str
) -> None:
    pool = pool_from_config(elsewhere(key, valkey.url), "foo.")
    with redis.Redis(connection_pool=pool) as client:
        assert client.ping()
    pool.disconnect()


@KEYS
def test_a_url_elsewhere_is_not_read_again(elsewhere: Elsewhere, valkey: Server, key: str) -> None:
    pool = pool_from_config(elsewhere(key, valkey.url), "foo.")
    elsewhere(key, "redis://127.0.0.1:1")
    with redis.Redis(connection_pool=pool) as client:
        assert client.ping()
    pool.disconnect()


def test_a_file_may_be_given_as_a_path(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "redis_url"
    path.write_text("redis://h")
    assert load_client_settings({"foo.url_file": path}, "foo.").url_file == str(path)


def test_the_environment_may_be_passed_in() -> None:
    assert read_url("url_env", "SOME_NAME", {"SOME_NAME": "redis://h"}) == "redis://h"


@KEYS
def test_a_setting_beside_a_url_elsewhere_is_read(elsewhere: Elsewhere, key: str) -> None:
    settings = load_client_settings(elsewhere(key, "redis://h?protocol=2", retries="3"), "foo.")
    assert (settings.retries, settings.protocol) == (3, 2)


@KEYS
@pytest.mark.parametrize(
    ("url", "others", "message"),
    [
        (f"localhost/{SECRET}", {}, "{}: is not a URL; write one such as redis://localhost:6379/0"),
        (
            f"reddis://:{SECRET}@h",
            {},
            "{}: has an unknown scheme; did you mean redis://?",
        ),
        (
            "redis://h/abc",
            {},
            "{}: has a path that is not a database number; write it like redis://localhost:6379/0",
        ),
        (
            f"redis://h?max_connections={SECRET}",
            {},
            "{}: its query argument max_connections has a malformed value; write it as in "
            "foo.max_connections",
        ),
        (f"redis://h?{SECRET}=1", {}, "{}: has an unknown query argument"),
        ("redis://h?url_env=X", {}, "{}: has an unknown query argument"),
        (
            "redis://h?url_file=X",
            {},
            "{}: has an unknown query argument; did you mean ssl_keyfile?",
        ),
        ("redis://u@h?username=v", {}, "{}: has two values for username"),
    ],
)
def test_a_malformed_url_elsewhere_is_refused_with_an_exact_message(
    elsewhere: Elsewhere, key: str, url: str, others: dict[str, str], message: str
) -> None:
    place = {"url_env": VARIABLE, "url_file": "the file"}[key]
    error = refusal(elsewhere(key, url, **others))
    assert told(error) == message.format(f"foo.{key}: {place}")


@KEYS
@pytest.mark.parametrize(
    ("url", "others", "message"),
    [
        (
            f"redis://:{SECRET}@h",
            {"password": "x"},
            "foo.password: the URL of {} has one as well; write it in one place only",
        ),
        (
            "redis://h?protocol=2",
            {"protocol": "3"},
            "foo.protocol: the URL of {} has one as well; write it in one place only",
        ),
        (
            "redis://h",
            {"ssl_ca_certs": "/ca.pem"},
            "foo.ssl_ca_certs: needs TLS; write rediss:// in the URL of {}, or leave it out",
        ),
        (
            f"redis://:{SECRET}@h",
            {"password_file": "/run/secrets/redis"},
            "foo.password_file: there is a password as well; write it in one place only",
        ),
    ],
)
def test_a_setting_that_contradicts_a_url_elsewhere_is_refused(
    elsewhere: Elsewhere, key: str, url: str, others: dict[str, str], message: str
) -> None:
    assert told(refusal(elsewhere(key, url, **others))) == message.format(f"foo.{key}")


def test_a_variable_that_is_not_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_REDIS_URL", raising=False)
    assert told(refusal({"foo.url_env": "TEST_REDIS_URL"})) == (
        f"foo.url_env: {VARIABLE} is not set; set it to {A_URL} {ELSEWHERE}"
    )


@KEYS
@pytest.mark.parametrize("nothing", ["", " ", "\n"], ids=repr)
def test_an_empty_place_is_refused(elsewhere: Elsewhere, key: str, nothing: str) -> None:
    place = {"url_env": VARIABLE, "url_file": "the file"}[key]
    assert told(refusal(elsewhere(key, nothing))) == (
        f"foo.{key}: {place} is empty; write {A_URL} into it {ELSEWHERE}"
    )


def test_a_variable_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(ValueError, match=f"^{VARIABLE} is not UTF-8$"):
        read_url("url_env", "TEST_REDIS_URL", {"TEST_REDIS_URL": os.fsdecode(b"redis://\xff")})


def no_file(directory: pathlib.Path) -> str:
    return str(directory / "missing")


def a_directory(directory: pathlib.Path) -> str:
    return str(directory)


def not_utf_8(directory: pathlib.Path) -> str:
    (directory / "redis_url").write_bytes(b"redis://:correct-horse-battery\xff@h")
    return str(directory / "redis_url")


def not_a_path(directory: pathlib.Path) -> str:
    return "a\x00b"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (no_file, "No such file or directory"),
        (a_directory, "Is a directory"),
        (not_utf_8, "UnicodeDecodeError"),
        (not_a_path, "ValueError"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(
    tmp_path: pathlib.Path, path: Callable[[pathlib.Path], str], reason: str
) -> None:
    assert told(refusal({"foo.url_file": path(tmp_path)})) == (
        f"foo.url_file: cannot read the file: {reason}; write the path of one that contains "
        f"{A_URL} {ELSEWHERE}"
    )


@pytest.mark.parametrize(
    "name", [f"redis://:{SECRET}@h", f"${SECRET}", SECRET, "", " ", "1A", "A B", "\n", "Ä", 5]
)
def test_what_is_no_name_of_a_variable_is_refused_and_not_shown(name: Any) -> None:
    assert told(refusal({"foo.url_env": name})) == (
        "foo.url_env: is not the name of an environment variable; write one such as REDIS_URL "
        f"{ELSEWHERE}"
    )


def test_a_url_in_place_of_a_files_path_is_refused_and_not_shown() -> None:
    assert told(refusal({"foo.url_file": f"redis://:{SECRET}@h"})) == (
        f"foo.url_file: is a URL; write the path of a file that contains the URL {ELSEWHERE}"
    )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["url", "url_env"], "foo.url_env: conflicts with foo.url"),
        (["url_file", "url"], "foo.url_file: conflicts with foo.url"),
        (["url_env", "url_file"], "foo.url_file: conflicts with foo.url_env"),
        (["url", "url_env", "url_file"], "foo.url_file: conflicts with foo.url and foo.url_env"),
    ],
)
def test_two_places_for_one_url_are_refused(keys: list[str], message: str) -> None:
    values = {"url": "redis://h", "url_env": "TEST_REDIS_URL", "url_file": "/redis_url"}
    app_config = {f"foo.{key}": values[key] for key in keys}
    assert told(refusal(app_config)) == f"{message}; write the URL in one place only"


def test_the_settings_alone_read_nothing(elsewhere: Elsewhere) -> None:
    with pytest.raises(ConfigurationError, match=r"^foo\.url_env: "):
        ClientSettings.from_config(elsewhere("url_env", "redis://h"), "foo.")


# What is shown of them


EVERYTHING = (
    "rediss://theuser:thepassword@thehost.example:7777/5?client_name=theclient"
    "&ssl_ca_certs=/thecertificates&max_connections=7654"
)
PARTS = ["rediss", "theuser", "thepassword", "thehost", "7777", "theclient", "thecert", "7654"]


@KEYS
def test_nothing_of_a_url_elsewhere_is_shown(elsewhere: Elsewhere, key: str) -> None:
    settings = load_client_settings(elsewhere(key, EVERYTHING), "foo.")
    text = f"{settings!r} {settings} {settings.shown()} {settings.url}"
    assert [part for part in PARTS if part in text] == []


def test_all_parts_of_a_url_among_the_settings_but_its_password_are_shown() -> None:
    # So that the test above means something.
    text = repr(load_client_settings({"foo.url": EVERYTHING}, "foo."))
    assert [part for part in PARTS if part not in text] == ["thepassword"]


@KEYS
def test_where_a_url_comes_from_is_shown(elsewhere: Elsewhere, key: str) -> None:
    app_config = elsewhere(key, EVERYTHING)
    shown = load_client_settings(app_config, "foo.").shown()
    assert (shown[key], "url" in shown) == (app_config[f"foo.{key}"], False)


@KEYS
def test_a_setting_beside_a_url_elsewhere_is_shown(elsewhere: Elsewhere, key: str) -> None:
    shown = load_client_settings(elsewhere(key, EVERYTHING, retries="3"), "foo.").shown()
    assert (shown["retries"], shown["max_connections"]) == (3, "***")


@KEYS
@pytest.mark.parametrize("argument", ["ssl_ca_certs", "ssl_certfile", "ssl_ca_path"])
def test_a_path_that_only_a_url_elsewhere_has_is_not_shown(
    elsewhere: Elsewhere, key: str, argument: str
) -> None:
    error = refusal(elsewhere(key, f"rediss://h?{argument}=/thecertificates"))
    assert "thecert" not in told(error)
    assert str(error).startswith(f"foo.{argument}: ")


def test_a_path_in_place_of_a_password_is_not_shown_by_a_chained_error() -> None:
    told(refusal({"foo.url": "redis://h", "foo.password_file": SECRET}))


def test_a_malformed_password_file_is_not_shown_by_a_chained_error(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "password"
    path.write_bytes(b"correct-horse-battery\xff")
    with pytest.raises(redis.AuthenticationError) as caught:
        PasswordFile("foo.password_file", None, str(path)).get_credentials()
    told(caught.value)


# Clients found in the settings


@KEYS
@pytest.mark.parametrize(
    ("content", "names"),
    [
        pytest.param("redis://h", ["foo"], id="a Redis URL"),
        pytest.param("valkeys://h\n", ["foo"], id="another Redis URL"),
        pytest.param("postgresql://h", [], id="somebody else's URL"),
        pytest.param("http://h", [], id="another URL of somebody else's"),
        pytest.param("localhost:6379", ["foo"], id="no scheme"),
        pytest.param("redi://h", ["foo"], id="nearly a Redis URL"),
        pytest.param("", ["foo"], id="empty"),
    ],
)
def test_a_client_whose_url_is_elsewhere_is_found(
    elsewhere: Elsewhere, key: str, content: str, names: list[str]
) -> None:
    assert discovered_clients(elsewhere(key, content), None, read_url) == names


@pytest.mark.parametrize(
    ("app_config", "names"),
    [
        pytest.param({"foo.url_env": "NOT_SET_AT_ALL"}, ["foo"], id="a variable that isn't set"),
        pytest.param({"foo.url_env": "redis://h"}, ["foo"], id="no name of a variable"),
        pytest.param({"foo.url_file": "/no/such/file"}, ["foo"], id="a file that isn't there"),
        pytest.param({"foo.bar.url_env": "NOT_SET_AT_ALL"}, [], id="a further dot"),
        pytest.param({"foo-bar.url_env": "NOT_SET_AT_ALL"}, [], id="not an identifier"),
        pytest.param({"url_env": "NOT_SET_AT_ALL"}, [], id="no name"),
        pytest.param({"foo.url": "redis://h", "foo.url_env": "NOT_SET"}, ["foo"], id="both"),
        pytest.param(
            {"baseplate_redis.clients": "bar", "foo.url_env": "NOT_SET_AT_ALL"},
            ["bar"],
            id="named explicitly",
        ),
    ],
)
def test_a_client_that_may_have_lost_its_url_is_found(
    app_config: dict[str, str], names: list[str]
) -> None:
    # An error then; a client that is missing would be told by nobody.
    named = PackageSettings.from_config(app_config).clients
    assert discovered_clients(app_config, named, read_url) == names


@KEYS
def test_an_application_has_the_client_whose_url_is_elsewhere(
    elsewhere: Elsewhere, key: str
) -> None:
    config = Configurator(settings=elsewhere(key, EVERYTHING.partition("?")[0]))
    config.include("pyramid_baseplate_redis")
    config.commit()
    assert config.registry.queryUtility(IRedisContextFactory, "foo") is not None
    found = dict(config.introspector.get("redis clients", "foo"))
    assert key in found
    assert [part for part in PARTS if part in str(found)] == []


@KEYS
def test_an_application_leaves_a_url_of_another_package_alone(
    elsewhere: Elsewhere, key: str
) -> None:
    config = Configurator(settings=elsewhere(key, "postgresql://h", nonsense="x"))
    config.include("pyramid_baseplate_redis")
    config.commit()
    assert config.registry.queryUtility(IRedisContextFactory, "foo") is None


@pytest.mark.parametrize("clients", [{}, {"baseplate_redis.clients": "foo"}])
def test_a_forgotten_variable_is_an_error_when_the_application_is_built(
    clients: dict[str, str],
) -> None:
    config = Configurator(settings={"foo.url_env": "NOT_SET_AT_ALL", **clients})
    config.include("pyramid_baseplate_redis")
    with pytest.raises(ConfigurationExecutionError, match=r"foo\.url_env: .*NOT_SET_AT_ALL is not"):
        config.make_wsgi_app()


@pytest.mark.parametrize(
    "own",
    [
        pytest.param("session", id="a name that Pyramid has"),
        pytest.param("foo", id="a name that the application has"),
    ],
)
def test_a_name_that_is_taken_is_refused_with_the_key_of_its_url(
    monkeypatch: pytest.MonkeyPatch, own: str
) -> None:
    monkeypatch.setenv("TEST_REDIS_URL", "redis://h")
    config = Configurator(settings={f"{own}.url_env": "TEST_REDIS_URL"})
    config.include("pyramid_baseplate_redis")
    if own == "foo":
        config.add_request_method(lambda request: "mine", own, reify=True)
    with pytest.raises(ConfigurationExecutionError, match=rf"{own}\.url_env: .*request\.{own}"):
        config.commit()
