"""A refused login: the password is in no local variable of the error's tracebacks.

Sentry, ``pytest --showlocals`` and Pyramid's debug toolbar show these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import redis
from redis.credentials import CredentialProvider
from redis.exceptions import RedisClusterException

from pyramid_baseplate_redis import MonitoredRedisConnection, pool_from_config
from pyramid_baseplate_redis.cluster.client import MonitoredRedisClusterConnection
from pyramid_baseplate_redis.cluster.pool import cluster_pool_from_config

from ..support.servers import Server, running_server

PASSWORD = "s3cr3t-passw0rd"
OF_TESTS = ("test_", "refused", "<lambda>")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with another password."""
    directory = tmp_path_factory.mktemp("guarded")
    with running_server("valkey", directory, "--requirepass", "right") as server:
        yield server


class Provider(CredentialProvider):
    def get_credentials(self) -> tuple[str]:
        made = PASSWORD
        return (made,)


class FailingProvider(CredentialProvider):
    def get_credentials(self) -> tuple[str]:
        made = PASSWORD
        raise redis.AuthenticationError(f"expired: {len(made)}")


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, its causes and its contexts."""
    seen: set[int] = set()
    left = [error]
    while left:
        each = left.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            left += [each.__cause__, each.__context__]


def frames(error: BaseException) -> Iterator[FrameType]:
    """The frames of an error's tracebacks, without those of the tests, which have the settings."""
    for each in chain(error):
        traceback = each.__traceback__
        while traceback is not None:
            code = traceback.tb_frame.f_code
            if code.co_filename != __file__ or not code.co_name.startswith(OF_TESTS):
                yield traceback.tb_frame
            traceback = traceback.tb_next


def leaks(error: BaseException) -> list[str]:
    """The local variables that show the password, as ``function: variable``."""
    return [
        f"{frame.f_code.co_name}: {name}"
        for frame in frames(error)
        for name, value in frame.f_locals.items()
        if PASSWORD in repr(value)
    ]


def refused(call: Callable[[], object]) -> BaseException:
    with pytest.raises((redis.RedisError, RedisClusterException)) as raised:
        call()
    assert len(list(frames(raised.value))) > 3
    return raised.value


SETTINGS = {
    "password": {"password": PASSWORD},
    "user and password": {"username": "me", "password": PASSWORD},
    "RESP3": {"protocol": "3", "password": PASSWORD},
    "RESP3 with a user": {"protocol": "3", "username": "me", "password": PASSWORD},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize("retries", ["0", "1"])
def test_of_a_server(guarded: Server, settings: dict[str, str], retries: str) -> None:
    own = {f"foo.{key}": value for key, value in settings.items()}
    pool = pool_from_config({"foo.url": guarded.url, "foo.retries": retries, **own}, "foo.")
    client = MonitoredRedisConnection("foo", connection_pool=pool)
    assert leaks(refused(client.ping)) == []
    assert leaks(refused(lambda: client.pipeline().get("key").execute())) == []
    assert leaks(refused(lambda: client.pubsub().subscribe("channel"))) == []
    assert leaks(refused(client.client)) == []


def test_with_the_password_in_the_url(guarded: Server) -> None:
    url = guarded.url.replace("redis://", f"redis://me:{PASSWORD}@")
    pool = pool_from_config({"foo.url": url}, "foo.")
    assert leaks(refused(pool.get_connection)) == []


def test_with_the_password_in_a_file(guarded: Server, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(PASSWORD)
    settings = {"foo.url": guarded.url, "foo.password_file": str(tmp_path / "password")}
    assert leaks(refused(pool_from_config(settings, "foo.").get_connection)) == []


@pytest.mark.parametrize("provider", [Provider, FailingProvider])
def test_with_a_credential_provider(guarded: Server, provider: type[CredentialProvider]) -> None:
    pool = pool_from_config({"foo.url": guarded.url}, "foo.", credential_provider=provider())
    assert leaks(refused(pool.get_connection)) == []


def test_of_a_server_that_hangs_up_during_the_login(guarded: Server) -> None:
    class HangsUp(redis.Connection):  # type: ignore[misc]  # redis-py's class is Any here
        def send_packed_command(self, command: Any, check_health: bool = True) -> None:
            self.disconnect()
            self._sock = self._connect()
            self._sock.close()
            super().send_packed_command(command, check_health)

    pool = pool_from_config(
        {"foo.url": guarded.url, "foo.password": PASSWORD}, "foo.", connection_class=HangsUp
    )
    assert leaks(refused(pool.get_connection)) == []


def test_of_a_sentinel(guarded: Server) -> None:
    settings = {
        "foo.url": f"redis+sentinel://127.0.0.1:{guarded.port}/primary",
        "foo.sentinel_password": PASSWORD,
    }
    assert leaks(refused(pool_from_config(settings, "foo.").get_connection)) == []


@pytest.mark.parametrize("read_from", ["primary", "replica"])
def test_of_a_server_that_sentinels_name(guarded: Server, read_from: str) -> None:
    settings = {
        "foo.url": "redis+sentinel://127.0.0.1/primary",
        "foo.password": PASSWORD,
        "foo.read_from": read_from,
    }
    pool = pool_from_config(settings, "foo.")
    manager: Any = pool.sentinel_manager  # type: ignore[attr-defined]
    manager.discover_master = lambda name: (guarded.host, guarded.port)
    manager.discover_slaves = lambda name: [(guarded.host, guarded.port)]
    assert leaks(refused(pool.get_connection)) == []


@pytest.mark.parametrize("protocol", ["2", "3"])
def test_of_a_node_of_a_cluster(guarded: Server, protocol: str) -> None:
    settings = {
        "foo.url": f"redis+cluster://127.0.0.1:{guarded.port}",
        "foo.password": PASSWORD,
        "foo.protocol": protocol,
    }
    pool = cluster_pool_from_config(settings, "foo.")
    client = MonitoredRedisClusterConnection("foo", None, pool)
    assert leaks(refused(lambda: client.get("key"))) == []


def test_what_the_application_was_handling_keeps_its_variables(guarded: Server) -> None:
    def fail() -> None:
        precious = "precious"
        raise ValueError(len(precious))

    def connect_after_a_failure() -> None:
        try:
            fail()
        except ValueError:
            pool.get_connection()

    pool = pool_from_config({"foo.url": guarded.url, "foo.password": PASSWORD}, "foo.")
    with pytest.raises(redis.AuthenticationError) as raised:
        connect_after_a_failure()
    (context,) = [each for each in chain(raised.value) if isinstance(each, ValueError)]
    assert context.__traceback__ is not None
    assert context.__traceback__.tb_next is not None
    assert context.__traceback__.tb_next.tb_frame.f_locals == {"precious": "precious"}
