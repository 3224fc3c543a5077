"""Real servers with ACL users and unix sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from pyramid_baseplate_redis import MonitoredRedisConnection, pool_from_config

from ..support.servers import KINDS, RecordedSpans, Server, attributes, running_server

MakeClient = Callable[..., MonitoredRedisConnection]


@pytest.fixture
def make_client() -> Iterator[MakeClient]:
    """Make the client ``foo`` with the settings given, quick to give up."""
    pools: list[redis.ConnectionPool] = []

    def make(url: str, **settings: str) -> MonitoredRedisConnection:
        own = {"socket_connect_timeout": "1 second", "socket_timeout": "1 second"} | settings
        config = {"foo.url": url} | {f"foo.{key}": value for key, value in own.items()}
        pools.append(pool_from_config(config, "foo."))
        return MonitoredRedisConnection("foo", None, pools[-1])

    yield make
    for pool in pools:
        pool.disconnect()


# Users


@pytest.fixture(scope="module", params=KINDS)
def guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with a user who may only touch the keys of his application."""
    user = ("app", "on", ">s3cret/#?@", "~app:*", "+@all", "-flushall")
    options = ("--user", *user, "--requirepass", "default-password")
    with running_server(request.param, tmp_path_factory.mktemp("guarded"), *options) as server:
        yield server


def test_a_user_by_settings(guarded: Server, make_client: MakeClient) -> None:
    client = make_client(guarded.url, username="app", password="s3cret/#?@")
    assert client.acl_whoami() == "app"


def test_a_user_in_the_url(guarded: Server, make_client: MakeClient) -> None:
    url = f"redis://app:s3cret%2F%23%3F%40@127.0.0.1:{guarded.port}"
    assert make_client(url).acl_whoami() == "app"


def test_a_user_whose_password_is_in_a_file(
    guarded: Server, make_client: MakeClient, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text("s3cret/#?@\n")
    client = make_client(guarded.url, username="app", password_file=str(password))
    assert client.acl_whoami() == "app"


def test_a_password_alone_is_the_default_users(guarded: Server, make_client: MakeClient) -> None:
    assert make_client(guarded.url, password="default-password").acl_whoami() == "default"


@pytest.mark.parametrize("protocol", ["2", "3"])
@pytest.mark.parametrize("username", ["app", "default", "nobody"])
def test_a_wrong_password_is_an_authentication_error(
    guarded: Server, make_client: MakeClient, protocol: str, username: str
) -> None:
    client = make_client(guarded.url, username=username, password="wrong", protocol=protocol)
    with pytest.raises(redis.AuthenticationError) as raised:
        client.ping()
    assert "wrong" not in str(raised.value)


def test_without_a_password_there_is_no_access(guarded: Server, make_client: MakeClient) -> None:
    with pytest.raises(redis.AuthenticationError):
        make_client(guarded.url).ping()


def test_a_failed_login_takes_no_connection_out_of_the_pool(
    guarded: Server, make_client: MakeClient
) -> None:
    client = make_client(
        guarded.url, password="wrong", max_connections="2", pool_timeout="50 milliseconds"
    )
    for _ in range(5):
        with pytest.raises(redis.AuthenticationError):
            client.ping()


@pytest.mark.parametrize(
    "call",
    [lambda client: client.get("other:key"), lambda client: client.flushall()],
    ids=["key", "command"],
)
def test_what_a_user_may_not_do_is_reported_by_the_span(
    guarded: Server,
    make_client: MakeClient,
    spans: RecordedSpans,
    call: Callable[[redis.Redis], object],
) -> None:
    client = make_client(guarded.url, username="app", password="s3cret/#?@")
    client.set("app:key", "value")
    spans.clear()
    with pytest.raises(redis.exceptions.NoPermissionError):
        call(client)
    (span,) = spans.all
    found = attributes(span)
    assert (found["error.type"], found["db.response.status_code"]) == (
        "NOPERM",
        "NOPERM",
    )


def test_what_a_user_may_not_do_in_a_pipeline_is_reported_by_the_span(
    guarded: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(guarded.url, username="app", password="s3cret/#?@")
    with pytest.raises(redis.exceptions.NoPermissionError):
        client.pipeline("bad").get("app:key").get("other:key").execute()
    assert attributes(spans.one("foo.pipeline_bad"))["db.response.status_code"] == "NOPERM"


# Unix sockets


@pytest.fixture(scope="module", params=KINDS)
def unix_socket(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    socket_directory: Path,
) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("unix")
    path = str(socket_directory / f"{request.param}.sock")
    user = ("--user", "app", "on", ">secret", "~*", "&*", "+@all")
    with running_server(request.param, directory, "--unixsocket", path, *user):
        yield path


def test_a_unix_socket(unix_socket: str, make_client: MakeClient) -> None:
    client = make_client(f"unix://{unix_socket}")
    client.set("key", "value")
    assert client.get("key") == b"value"


def test_a_unix_socket_is_the_spans_server_address(
    unix_socket: str, make_client: MakeClient, spans: RecordedSpans
) -> None:
    make_client(f"unix://{unix_socket}?db=2").ping()
    found = attributes(spans.one("foo.PING"))
    assert (found["server.address"], found["db.namespace"]) == (unix_socket, "2")
    assert "server.port" not in found


def test_a_user_on_a_unix_socket(unix_socket: str, make_client: MakeClient) -> None:
    assert make_client(f"unix://app:secret@{unix_socket}").acl_whoami() == "app"


def test_a_unix_socket_that_isnt_there_is_an_error(
    make_client: MakeClient, socket_directory: Path
) -> None:
    with pytest.raises(redis.ConnectionError):
        make_client(f"unix://{socket_directory}/nobody.sock").ping()
