"""Passwords of the servers and of the Sentinels: where they are used, and that none is shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from pyramid_baseplate_redis import is_retryable, sentinel_pool_from_config

from ...support.topologies import SentinelSet, running_sentinels
from .conftest import NOWHERE, SECRETS, MakeFoo, error_of, told


def test_no_password_is_shown(tmp_path: Path) -> None:
    pool = sentinel_pool_from_config(
        {
            "foo.url": NOWHERE.replace("//", f"//user:{SECRETS[0]}@"),
            "foo.sentinel_password": SECRETS[1],
        },
        "foo.",
    )
    sentinels = pool.sentinel_manager.sentinels
    shown = [pool, pool.sentinel_manager, *sentinels, pool.make_connection()]
    shown += [client.connection_pool for client in sentinels]
    shown += [client.connection_pool.make_connection() for client in sentinels]
    text = " ".join(map(repr, shown))
    assert not [secret for secret in SECRETS if secret in text]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelSet]:
    """A Sentinel set in which nobody gets in without the passwords."""
    directory = tmp_path_factory.mktemp("guarded")
    with running_sentinels(
        "valkey", directory, username="app", password=SECRETS[0], sentinel_username="watch",
        sentinel_password=SECRETS[1],
    ) as sentinels:  # fmt: skip
        yield sentinels


@pytest.mark.parametrize("protocol", ["2", "3"])
def test_passwords_let_it_in(guarded: SentinelSet, make_foo: MakeFoo, protocol: str) -> None:
    foo = make_foo(
        guarded, sentinel_username="watch", sentinel_password=SECRETS[1], protocol=protocol
    )
    assert foo.ping()


def test_passwords_are_read_from_files(
    guarded: SentinelSet, make_foo: MakeFoo, tmp_path: Path
) -> None:
    for name, secret in zip(("servers", "sentinels"), SECRETS, strict=True):
        (tmp_path / name).write_text(f"{secret}\n")
    foo = make_foo(
        f"redis+sentinel://app@{guarded.addresses}/mymaster",
        password_file=str(tmp_path / "servers"),
        sentinel_username="watch",
        sentinel_password_file=str(tmp_path / "sentinels"),
    )
    assert foo.ping()


@pytest.mark.parametrize("password", ["hidden", None])
def test_sentinels_that_refuse_the_password_are_an_authentication_error(
    guarded: SentinelSet, make_foo: MakeFoo, password: str | None
) -> None:
    own = {"sentinel_password": password} if password else {}
    error = error_of(make_foo(guarded, **own).ping)
    assert isinstance(error, redis.AuthenticationError)
    assert is_retryable(error) is False
    assert f"asked Sentinels {guarded.sentinels[0].host}:" in str(error)
    assert not [secret for secret in (*SECRETS, "hidden") if secret in told(error)]


@pytest.mark.parametrize("read_from", ["primary", "replica"])
def test_a_server_that_refuses_the_password_is_named_in_the_error(
    guarded: SentinelSet, make_foo: MakeFoo, read_from: str
) -> None:
    url = guarded.url.replace(SECRETS[0], "hidden")
    own = {"sentinel_username": "watch", "sentinel_password": SECRETS[1], "read_from": read_from}
    error = error_of(make_foo(url, **own).ping)
    assert isinstance(error, redis.AuthenticationError)
    assert str(error).startswith("foo: ")
    assert str(error).endswith(f"({guarded.primary().address})")
    assert not [secret for secret in (*SECRETS, "hidden") if secret in told(error)]
