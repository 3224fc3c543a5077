"""A password in a file: how it is made, read and rotated while the application runs."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plaster
import pytest
import redis

from pyramid_baseplate_redis import MonitoredRedisConnection, pool_from_config

from ...support.servers import Server, running_server
from .deployment import CODE


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory with the files that make_secrets.py writes."""
    subprocess.run([sys.executable, str(CODE / "make_secrets.py")], cwd=tmp_path, check=True)
    return tmp_path


@pytest.fixture
def server(directory: Path) -> Iterator[Server]:
    """A server with these users, as in compose.secrets.yaml."""
    users = str(directory / "users.acl")
    with running_server("valkey", directory, "--aclfile", users) as server:
        yield server


def settings(directory: Path, server: Server) -> dict[str, Any]:
    """Return the settings of secrets.ini, with the addresses of this test."""
    text = (CODE / "secrets.ini").read_text()
    copy = directory / "secrets.ini"
    replaced = {"redis:6379": f"127.0.0.1:{server.port}", "/run/secrets": str(directory)}
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    copy.write_text(text)
    return dict(plaster.get_settings(str(copy), "app:main"))


@pytest.fixture
def client(directory: Path, server: Server) -> Iterator[MonitoredRedisConnection]:
    pool = pool_from_config(settings(directory, server), "foo.")
    yield MonitoredRedisConnection("foo", None, pool)
    pool.disconnect()


def test_the_files_can_be_read_by_their_owner_only(directory: Path) -> None:
    for name in ("redis_password", "users.acl"):
        assert (directory / name).stat().st_mode & 0o077 == 0


def test_the_application_logs_in_and_no_other_client_does(
    client: MonitoredRedisConnection, server: Server
) -> None:
    assert client.acl_whoami() == "myapp"
    with redis.Redis(port=server.port) as outside, pytest.raises(redis.AuthenticationError):
        outside.ping()


def test_the_password_is_in_none_of_the_files_that_are_kept(directory: Path) -> None:
    password = (directory / "redis_password").read_text()
    assert len(password) > 40
    users = (directory / "users.acl").read_text()
    assert password not in users
    assert hashlib.sha256(password.encode()).hexdigest() in users


def test_a_rotation_needs_no_restart(
    client: MonitoredRedisConnection, directory: Path, server: Server
) -> None:
    old = (directory / "redis_password").read_text()
    assert client.ping()

    # The steps of the page: the server accepts both; the file has the new one; the old one goes.
    client.acl_setuser("myapp", passwords=["+a-new-password"], enabled=True)
    (directory / "redis_password").write_text("a-new-password\n")
    client.acl_setuser("myapp", passwords=[f"-{old}"], enabled=True)

    assert client.ping(), "an open connection stays logged in"
    with redis.Redis(port=server.port, username="myapp", password="a-new-password") as outside:
        assert outside.client_kill_filter(user="myapp", skipme=True) == 1
    assert client.ping(), "a new connection reads the file"


def test_without_the_new_file_new_connections_fail_and_the_error_has_no_password(
    client: MonitoredRedisConnection, directory: Path
) -> None:
    old = (directory / "redis_password").read_text()
    client.acl_setuser("myapp", passwords=["+a-new-password", f"-{old}"], enabled=True)
    client.connection_pool.disconnect()
    with pytest.raises(redis.AuthenticationError) as raised:
        client.ping()
    assert str(raised.value).startswith("foo: ")
    assert f"127.0.0.1:{client.connection_pool.connection_kwargs['port']}" in str(raised.value)
    assert old not in str(raised.value)


def test_connections_are_replaced_within_ten_minutes(directory: Path, server: Server) -> None:
    pool: Any = pool_from_config(settings(directory, server), "foo.")
    assert pool.client_settings.max_lifetime.total_seconds() == 600


def test_no_ini_file_has_a_password() -> None:
    for file in CODE.glob("*.ini"):
        assert "password =" not in file.read_text()
        assert "@" not in file.read_text()
