"""No password that a server is sent in any error, log record or span."""

from __future__ import annotations

import contextlib
import logging
import pathlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import redis
from hypothesis import assume, given

from pyramid_baseplate_redis import MonitoredRedisConnection, pool_from_config

from ..support.secrets import (
    PLAIN,
    SECRETS,
    assume_telling,
    leaked,
    told_by_error,
    told_by_pool,
    told_by_records,
    told_by_span,
    with_a_server,
)
from ..support.servers import RecordedSpans, Server, running_server

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
