"""A login that fails because no password is configured: the error says what to write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from pyramid_baseplate_redis import MonitoredRedisConnection, pool_from_config

from ..support.servers import Server, running_server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that wants the password ``right``."""
    directory: Path = tmp_path_factory.mktemp("guarded")
    with running_server("valkey", directory, "--requirepass", "right") as server:
        yield server


def refusal(url: str, **settings: str) -> str:
    """Return the text of the error that a first command raises."""
    own = {"foo.url": url, **{f"foo.{key}": value for key, value in settings.items()}}
    client = MonitoredRedisConnection("foo", None, pool_from_config(own, "foo."))
    with pytest.raises(redis.AuthenticationError) as caught:
        client.ping()
    return str(caught.value)


@pytest.mark.parametrize("protocol", ["2", "3"])
def test_without_a_password_the_setting_is_named(guarded: Server, protocol: str) -> None:
    assert refusal(guarded.url, protocol=protocol).endswith(
        "; the server wants a password: write foo.password or foo.password_file"
    )


def test_a_user_name_without_a_password_is_asked_about(guarded: Server) -> None:
    text = refusal(f"redis://right@127.0.0.1:{guarded.port}")
    assert text.endswith("In a URL a password follows a colon: redis://:password@host")
    assert "right" not in text.replace("right@", "")


def test_a_wrong_password_has_no_hint(guarded: Server) -> None:
    assert ";" not in refusal(guarded.url, password="wrong")
