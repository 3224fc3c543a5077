"""No password, whatever its characters, in anything that people, logs or telemetry get to see."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import pathlib
import string
import tempfile
import traceback
from collections.abc import Iterable, Iterator
from typing import Any
from unittest import mock
from urllib.parse import quote, quote_plus

import pytest
import redis
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationError as PyramidConfigurationError

from pyramid_baseplate_redis import (
    ConfigurationError,
    MonitoredRedisConnection,
    RedisContextFactory,
    pool_from_config,
)
from pyramid_baseplate_redis.interfaces import IRedisContextFactory
from pyramid_baseplate_redis.settings.sources import load_client_settings
from pyramid_baseplate_redis.settings.url import parse_url

from ..support.servers import RecordedSpans, Server, running_server

SHORTEST_FRAGMENT = 6
PLAIN = "Kreuzworträtsel-QZX"  # for what doesn't depend on a password's characters

# Few ASCII letters and no digits: words, ports and addresses in memory are made of them.
_ANY = st.characters(
    exclude_categories=["Cs"], exclude_characters=f"{string.ascii_letters}{string.digits}\x00"
)
# The last four are, to a URL parser that normalises, the first ones.
_SPECIAL = st.sampled_from(
    "/#?@%:[]\\'\"` &=+;,$<>{}|^~!*()GHJKghjk§äßЖ密🔑℀\uff0f\uff03\uff1f\uff20"
)
SECRETS = st.text(st.one_of(_SPECIAL, _ANY), min_size=8, max_size=40)

in_memory = settings(max_examples=100, deadline=None)
with_an_application = settings(max_examples=20, deadline=None)
with_a_server = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

URLS_WITH_AN_ENCODED_SECRET = [
    "redis://:{}@localhost/1",
    "redis://user:{}@localhost:6379",
    "rediss://:{}@localhost",
    "unix://:{}@/run/redis.sock",
    "unix://user:{}@/run/redis.sock?db=2",
    "embedded://:{}@/directory",
    "redis://localhost?password={}",
    "redis://:{}@localhost:port",
    "redis://:{}@localhost/1/2",
    "redis://:{}@localhost?nonsense=1",
    "redis://:{}@localhost?max_connections=0",
    "redis://:{}@localhost?password=another",
    "redis://another:secret@localhost?password={}",
    "reddis://:{}@localhost",
    "rediss://localhost?ssl_password={}",
    "redis://localhost?ssl_password={}",
    "embedded:///directory?password={}",
    "redis://localhost?socket_timeout={}",
    "redis://localhost?{}=1",
    "redis://{}@localhost",
]
URLS_WITH_A_RAW_SECRET = [
    "redis://:{}@localhost/1",
    "redis://user:{}@localhost:6379/1",
    "rediss://:{}@localhost",
    "unix://:{}@/run/redis.sock",
    "embedded://:{}@/directory",
    "redis://localhost?password={}",
    "redis://localhost/1?password={}&db=2",
    "rediss://localhost?ssl_password={}",
    "{}://:{}@localhost",
    "redis:/:{}@localhost",
    "redis:{}@localhost",
]


URLS_ELSEWHERE = [*URLS_WITH_AN_ENCODED_SECRET, *URLS_WITH_A_RAW_SECRET]


@contextlib.contextmanager
def url_elsewhere(key: str, url: str) -> Iterator[dict[str, str]]:
    """The settings of a client whose URL is in an environment variable or in a file.

    No fixture: Hypothesis calls a test many times with the same one.
    """
    if key == "url_env":
        with mock.patch.dict(os.environ, TEST_REDIS_URL=url):
            yield {"foo.url_env": "TEST_REDIS_URL"}
    else:
        with tempfile.TemporaryDirectory() as directory:
            file = pathlib.Path(directory, "redis_url")
            file.write_bytes(url.encode())
            yield {"foo.url_file": str(file)}


def fragments(secret: str) -> set[str]:
    """Every piece of a secret, raw or percent-encoded, that is long enough to give it away."""
    forms = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret)}
    forms |= {form.lower() for form in forms}
    forms |= {repr(form)[1:-1] for form in forms}
    return {piece for form in forms for piece in pieces(form)}


def pieces(text: str) -> set[str]:
    starts = range(len(text) - SHORTEST_FRAGMENT + 1)
    return {text[start : start + SHORTEST_FRAGMENT] for start in starts}


def leaked(secret: str, texts: Iterable[str]) -> set[str]:
    """The fragments of a secret that appear in what was said."""
    told = "\n".join(set(texts))
    return fragments(secret) & (pieces(told) | pieces(told.lower()))


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and every other that it is chained to."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        error = waiting.pop()
        if error is not None and id(error) not in seen:
            seen.add(id(error))
            yield error
            waiting += [error.__cause__, error.__context__]


def told_by_error(error: BaseException) -> Iterator[str]:
    for link in chain(error):
        yield str(link)
        yield repr(link)
        yield repr(vars(link))
    yield "".join(traceback.format_exception(error))


def told_by_pool(pool: redis.BlockingConnectionPool) -> Iterator[str]:
    """What the objects made of a pool say about themselves."""
    return told_by_factory(RedisContextFactory(pool, "foo"))


def told_by_factory(factory: RedisContextFactory) -> Iterator[str]:
    pool = factory.connection_pool
    client = factory.make_object_for_context("foo", None)
    plain = redis.Redis(connection_pool=pool)
    for thing in (
        pool,
        pool.make_connection(),
        factory,
        client,
        client.client_telemetry,
        client.pipeline("name"),
        client.message_queue("queue"),
        client.lock("lock"),
        client.pubsub(),
        plain,
        getattr(pool, "client_settings", None),
    ):
        yield repr(thing)
        yield str(thing)


def told_about(app_config: dict[str, Any]) -> list[str]:
    """All that is said when a client's settings are read and its objects are made."""
    try:
        of_client = load_client_settings(app_config, "foo.")
        texts = [repr(of_client), str(of_client.shown()), of_client.url]
        pool = pool_from_config(app_config, "foo.")
    except ConfigurationError as error:
        return list(told_by_error(error))
    return [*texts, *told_by_pool(pool)]


def told_by_span(span: ReadableSpan) -> Iterator[str]:
    yield span.name
    yield repr(dict(span.attributes or {}))
    yield repr([(event.name, event.attributes) for event in span.events])
    yield repr(span.status.description)


def told_by_records(records: Iterable[logging.LogRecord]) -> Iterator[str]:
    for record in records:
        yield record.getMessage()
        yield record.exc_text or ""
        if record.exc_info and record.exc_info[1] is not None:
            yield from told_by_error(record.exc_info[1])


@functools.cache
def said_anyway() -> set[str]:
    """The pieces of what is said about a secret that none of the generated ones resembles."""
    texts = []
    for url in [*URLS_WITH_AN_ENCODED_SECRET, *URLS_WITH_A_RAW_SECRET]:
        texts += told_about({"foo.url": url.replace("{}", "ΩΩΩΩΩΩΩΩ")})
    for url in URLS_ELSEWHERE:
        with url_elsewhere("url_env", url.replace("{}", "ΩΩΩΩΩΩΩΩ")) as app_config:
            texts += told_about(app_config)
    for key in ("password", "ssl_password", "pasword", "url", "url_env", "url_file"):
        texts += told_about({"foo.url": "rediss://localhost", f"foo.{key}": "ΩΩΩΩΩΩΩΩ"})
    return pieces("\n".join(texts))


def assume_telling(secret: str) -> None:
    """Pass over a secret of which a piece is part of the messages whatever the secret."""
    assume(not fragments(secret) & said_anyway())


def test_the_search_finds_a_secret_that_leaked() -> None:
    # So that the tests below mean something.
    assert leaked("a/b c%d?e@", ["it is a/b c%d?e@"])
    assert leaked("a/b c%d?e@", [f"it is {quote('a/b c%d?e@', safe='')}"])
    assert leaked("abcdefghijkl", ["a piece of it: defghi"])
    assert leaked("ABCDEFGH", ["in lower case: abcdefgh"])


def test_the_search_finds_a_secret_behind_an_error() -> None:
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


ELSEWHERE = st.sampled_from(["url_env", "url_file"])


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


# A server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a password that nobody guesses."""
    with running_server(
        "valkey", tmp_path_factory.mktemp("guarded"), "--requirepass", "the-right-one"
    ) as server:
        yield server


def place_in_settings(secret: str, server: Server, file: pathlib.Path) -> dict[str, str]:
    return {"foo.url": server.url, "foo.password": secret}


def place_in_url(secret: str, server: Server, file: pathlib.Path) -> dict[str, str]:
    return {"foo.url": server.url.replace("://", f"://:{quote(secret, safe='')}@")}


def place_in_file(secret: str, server: Server, file: pathlib.Path) -> dict[str, str]:
    file.write_bytes(secret.encode())
    return {"foo.url": server.url, "foo.password_file": str(file)}


def place_in_url_in_file(secret: str, server: Server, file: pathlib.Path) -> dict[str, str]:
    file.write_text(place_in_url(secret, server, file)["foo.url"])
    return {"foo.url_file": str(file)}


PLACES = pytest.mark.parametrize(
    "place", [place_in_settings, place_in_url, place_in_file, place_in_url_in_file]
)


def told_by_commands(
    app_config: dict[str, str], spans: RecordedSpans, caplog: pytest.LogCaptureFixture
) -> list[str]:
    """All that is said about a few commands on a real server: errors, spans, logs, objects."""
    spans.clear()
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="redis")
    texts = []
    pool = pool_from_config({**app_config, "foo.trace_query_text": "keys"}, "foo.")
    client = MonitoredRedisConnection("foo", None, pool)
    for call in (client.ping, client.pipeline("name").get("key").execute):
        try:
            call()
        except redis.RedisError as error:
            texts += told_by_error(error)
    texts += told_by_pool(pool)
    pool.disconnect()
    texts += [text for span in spans.all for text in told_by_span(span)]
    return [*texts, *told_by_records(caplog.records)]


@PLACES
@with_a_server
@given(secret=SECRETS)
def test_a_wrong_password_is_not_shown(
    place: Any,
    secret: str,
    guarded: Server,
    tmp_path: pathlib.Path,
    spans: RecordedSpans,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assume_telling(secret)
    app_config = place(secret, guarded, tmp_path / "password")
    texts = told_by_commands(app_config, spans, caplog)
    assert not leaked(secret, texts)


@PLACES
def test_a_wrong_password_is_an_authentication_error(
    place: Any, guarded: Server, tmp_path: pathlib.Path, spans: RecordedSpans
) -> None:
    app_config = place(PLAIN, guarded, tmp_path / "password")
    client = MonitoredRedisConnection("foo", None, pool_from_config(app_config, "foo."))
    with pytest.raises(redis.AuthenticationError) as caught:
        client.ping()
    span = spans.one("foo.PING")
    assert not leaked(PLAIN, [*told_by_error(caught.value), *told_by_span(span)])
    assert not span.status.is_ok


@pytest.fixture
def acl_admin(valkey: Server) -> Iterator[redis.Redis]:
    with redis.Redis(port=valkey.port) as admin:
        yield admin
        admin.execute_command("ACL", "DELUSER", "app")


@PLACES
@with_a_server
@given(secret=SECRETS)
def test_the_right_password_works_and_is_not_shown(
    place: Any,
    secret: str,
    valkey: Server,
    acl_admin: redis.Redis,
    tmp_path: pathlib.Path,
    spans: RecordedSpans,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assume_telling(secret)
    assume(not secret.endswith(("\r", "\n")))  # a file's last line break isn't the password's
    password = f">{secret}".encode()
    acl_admin.execute_command("ACL", "SETUSER", "app", "reset", "on", password, "~*", "+@all")
    app_config = place(secret, valkey, tmp_path / "password")
    app_config |= {"foo.username": "app"}
    texts = told_by_commands(app_config, spans, caplog)
    assert not leaked(secret, texts)
    assert all(span.status.is_ok for span in spans.all)


# Commands whose arguments are secrets


def commands_with(secret: str) -> dict[str, tuple[str, ...]]:
    return {
        "foo.AUTH": ("AUTH", secret),
        "foo.AUTH with a user": ("AUTH", "nobody", secret),
        "foo.HELLO": ("HELLO", "3", "AUTH", "nobody", secret),
        "foo.ACL SETUSER": ("ACL SETUSER", "app", f">{secret}"),
        "foo.ACL": ("ACL", "SETUSER", "app", f">{secret}"),
        "foo.CONFIG SET": ("CONFIG SET", "masterauth", secret),
        "foo.CONFIG": ("CONFIG", "SET", "masterauth", secret),
        "foo.MIGRATE": ("MIGRATE", "h", "1", "k", "0", "1", "AUTH2", "nobody", secret),
    }


NAMES = list(commands_with(""))
MODES = ["sanitized", "keys"]


@pytest.fixture
def shown_client(valkey: Server, acl_admin: redis.Redis) -> Iterator[Any]:
    """Make a client that shows as much of its commands as it may."""
    pools = []

    def make(mode: str) -> MonitoredRedisConnection:
        pool = pool_from_config({"foo.url": valkey.url, "foo.trace_query_text": mode}, "foo.")
        pools.append(pool)
        return MonitoredRedisConnection("foo", None, pool)

    yield make
    for pool in pools:
        pool.disconnect()


def run(call: Any, *args: Any) -> None:
    """Whether the server likes the command makes no difference here."""
    with contextlib.suppress(redis.RedisError):
        call(*args)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_a_command_that_takes_a_password_does_not_show_it(
    name: str, mode: str, shown_client: Any, spans: RecordedSpans
) -> None:
    run(shown_client(mode).execute_command, *commands_with(PLAIN)[name])
    span = spans.one(name.partition(" with")[0])
    assert not leaked(PLAIN, told_by_span(span))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", [str, str.lower], ids=["as it is", "in lower case"])
def test_a_command_given_as_one_string_does_not_show_its_password(
    name: str, mode: str, change: Any, shown_client: Any, spans: RecordedSpans
) -> None:
    run(shown_client(mode).execute_command, change(" ".join(commands_with(PLAIN)[name])))
    (span,) = spans.all
    assert not leaked(PLAIN, told_by_span(span))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_a_command_given_as_bytes_does_not_show_its_password(
    name: str, mode: str, shown_client: Any, spans: RecordedSpans
) -> None:
    args = [arg.encode() for arg in commands_with(PLAIN)[name]]
    run(shown_client(mode).execute_command, *args)
    (span,) = spans.all
    assert not leaked(PLAIN, told_by_span(span))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_a_command_in_a_pipeline_does_not_show_its_password(
    name: str, mode: str, shown_client: Any, spans: RecordedSpans
) -> None:
    pipeline = shown_client(mode).pipeline("p", transaction=False)
    pipeline.execute_command(*commands_with(PLAIN)[name])
    pipeline.execute_command(" ".join(commands_with(PLAIN)[name]))
    run(pipeline.execute)
    assert not leaked(PLAIN, told_by_span(spans.one("foo.pipeline_p")))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_a_command_sent_at_once_from_a_pipeline_does_not_show_its_password(
    name: str, mode: str, shown_client: Any, spans: RecordedSpans
) -> None:
    with shown_client(mode).pipeline("p") as pipeline:
        pipeline.watch("key")
        run(pipeline.immediate_execute_command, *commands_with(PLAIN)[name])
        run(pipeline.immediate_execute_command, " ".join(commands_with(PLAIN)[name]))
    assert not leaked(PLAIN, [text for span in spans.all for text in told_by_span(span)])


@pytest.mark.parametrize(
    "args",
    [
        pytest.param(("SET", "key", PLAIN), id="in its place"),
        pytest.param((f"SET key {PLAIN}",), id="one string"),
        pytest.param(("SET key", PLAIN), id="a string with the key"),
        pytest.param(("HSET key field", PLAIN), id="a string with the key and the field"),
        pytest.param(("set key", PLAIN), id="lower case"),
        pytest.param(("  SET   key", PLAIN), id="more spaces"),
        pytest.param(("SETEX key", "10", PLAIN), id="a value behind a number"),
        pytest.param(("MSET a 1", "b", PLAIN), id="every other argument"),
    ],
)
def test_a_value_is_not_taken_for_a_key(
    args: tuple[str, ...], shown_client: Any, spans: RecordedSpans
) -> None:
    run(shown_client("keys").execute_command, *args)
    (span,) = spans.all
    assert not leaked(PLAIN, told_by_span(span))
