"""Password files are read for each connection, and wrong passwords are not retried."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Iterator

import pytest
import redis

from pyramid_baseplate_redis import ConfigurationError, MonitoredRedisConnection

from ...support.servers import Server, running_server
from .conftest import client, make_pool, wait_until


def test_a_wrong_password_is_never_retried(guarded: Server) -> None:
    pool = make_pool(guarded.url, retries="10", password="wrong-secret")
    started = time.monotonic()
    with pytest.raises(redis.AuthenticationError):
        MonitoredRedisConnection("foo", None, pool).ping()
    assert time.monotonic() - started < 1  # ten retries with backoff take four


@pytest.fixture
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose password is ``first-secret``."""
    directory = tmp_path_factory.mktemp("guarded")
    with running_server("valkey", directory, "--requirepass", "first-secret") as server:
        yield server


@pytest.fixture
def password_file(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "password"
    path.write_text("first-secret")
    return path


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_password_is_read_from_a_file(
    guarded: Server, password_file: pathlib.Path, ending: str
) -> None:
    password_file.write_bytes(f"first-secret{ending}".encode())
    with client(guarded.url, password_file=str(password_file)) as redis_client:
        assert redis_client.ping()


def test_a_password_file_goes_with_a_user_name(
    valkey: Server, acl_user: tuple[str, str], password_file: pathlib.Path
) -> None:
    name, password = acl_user
    password_file.write_text(password)
    with client(valkey.url, username=name, password_file=str(password_file)) as redis_client:
        assert redis_client.acl_whoami() in (b"app", "app")


def test_a_rotated_password_is_picked_up_by_the_next_connection(
    guarded: Server, password_file: pathlib.Path
) -> None:
    with client(guarded.url, password_file=str(password_file)) as redis_client:
        redis_client.config_set("requirepass", "second-secret")
        password_file.write_text("second-secret")
        redis_client.connection_pool.disconnect()
        assert redis_client.ping()


def test_a_password_that_was_rotated_on_the_server_alone_is_an_error(
    guarded: Server, password_file: pathlib.Path
) -> None:
    with client(guarded.url, password_file=str(password_file)) as redis_client:
        redis_client.config_set("requirepass", "second-secret")
        redis_client.connection_pool.disconnect()
        with pytest.raises(redis.AuthenticationError):
            redis_client.ping()


def test_a_missing_password_file_is_an_error_when_the_pool_is_built(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / "missing"
    with pytest.raises(ConfigurationError) as caught:
        make_pool("redis://localhost", password_file=str(path))
    assert str(caught.value) == "foo.password_file: cannot read the file: No such file or directory"


def test_a_directory_in_place_of_a_password_file_is_an_error_when_the_pool_is_built(
    tmp_path: pathlib.Path,
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_pool("redis://localhost", password_file=str(tmp_path))
    assert str(caught.value) == "foo.password_file: cannot read the file: Is a directory"


def test_a_file_name_that_no_system_takes_is_an_error_when_the_pool_is_built() -> None:
    with pytest.raises(ConfigurationError, match=r"^foo\.password_file: "):
        make_pool("redis://localhost", password_file="a\x00b")


def test_a_password_file_that_went_missing_is_an_authentication_error(
    guarded: Server, password_file: pathlib.Path
) -> None:
    with client(guarded.url, password_file=str(password_file)) as redis_client:
        password_file.unlink()
        with pytest.raises(redis.AuthenticationError) as caught:
            redis_client.ping()
    assert str(caught.value) == (
        "foo.password_file: cannot read the file: No such file or directory"
    )


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_password_file_is_an_authentication_error(
    guarded: Server, password_file: pathlib.Path, content: str
) -> None:
    password_file.write_text(content)
    with (
        client(guarded.url, password_file=str(password_file)) as redis_client,
        pytest.raises(redis.AuthenticationError) as caught,
    ):
        redis_client.ping()
    assert str(caught.value) == "foo.password_file: the file is empty"


def test_a_password_file_that_is_not_utf_8_is_an_authentication_error(
    guarded: Server, password_file: pathlib.Path
) -> None:
    password_file.write_bytes(b"first-secret\xff")
    with (
        client(guarded.url, password_file=str(password_file)) as redis_client,
        pytest.raises(redis.AuthenticationError) as caught,
    ):
        redis_client.ping()
    assert str(caught.value) == ("foo.password_file: cannot read the file: UnicodeDecodeError")


def test_a_connection_whose_password_cannot_be_read_is_closed_and_leaks_no_slot(
    guarded: Server, password_file: pathlib.Path
) -> None:
    settings = {"password_file": str(password_file), "max_connections": "1", "pool_timeout": "0 s"}
    with client(guarded.url, **settings) as redis_client:
        password_file.unlink()
        for _ in range(3):
            with pytest.raises(redis.AuthenticationError):
                redis_client.ping()
        password_file.write_text("first-secret")
        wait_until(lambda: redis_client.info("clients")["connected_clients"] == 1)
