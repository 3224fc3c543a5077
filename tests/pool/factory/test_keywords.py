"""Keyword arguments of pool_from_config(): they win over the settings."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import redis
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationExecutionError
from redis.backoff import NoBackoff
from redis.cache import CacheConfig, DefaultCache
from redis.retry import Retry

from pyramid_baseplate_redis import (
    BlockingConnectionPool,
    ConfigurationError,
    RedisClient,
    cluster_pool_from_config,
    pool_from_config,
    sentinel_pool_from_config,
)

from ...support.servers import Server
from .conftest import Listener, client, client_of, make_pool


@pytest.mark.parametrize(
    ("key", "text", "keyword", "value"),
    [
        ("max_connections", "7", "max_connections", 8),
        ("pool_timeout", "7 seconds", "timeout", 8),
    ],
)
def test_a_keyword_argument_of_the_pool_wins_over_the_settings(
    key: str, text: str, keyword: str, value: Any
) -> None:
    pool = make_pool("redis://localhost", **{key: text, f"__{keyword}": value})
    assert getattr(pool, keyword) == value


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("socket_timeout", "7 seconds", 8.0),
        ("socket_timeout", "7 seconds", None),
        ("socket_connect_timeout", "7 seconds", 8.0),
        ("socket_keepalive", "true", False),
        ("health_check_interval", "7 seconds", 8),
        ("client_name", "settings", "keyword"),
        ("protocol", "3", 2),
    ],
)
def test_a_keyword_argument_of_the_connection_wins_over_the_settings(
    key: str, text: str, value: Any
) -> None:
    pool = make_pool("redis://localhost", **{key: text, f"__{key}": value})
    assert getattr(pool.make_connection(), key) == value


def test_a_keyword_argument_wins_over_the_url(valkey: Server) -> None:
    pool = make_pool("redis://localhost:1/5", __port=valkey.port, __db=2)
    with client_of(pool) as redis_client:
        assert redis_client.client_info()["db"] == 2


def test_retry_as_a_keyword_argument_wins_over_retries(listener: Listener) -> None:
    listener.hang_up()
    pool = make_pool(listener.url, retries="5", __retry=Retry(NoBackoff(), 1))
    assert listener.attempts(redis.Redis(connection_pool=pool).ping) == 2


def test_a_password_as_a_keyword_argument_wins_over_the_settings(
    valkey: Server, acl_user: tuple[str, str]
) -> None:
    name, password = acl_user
    with client(valkey.url, username=name, password="wrong", __password=password) as redis_client:
        assert redis_client.acl_whoami() in (b"app", "app")


def test_a_password_as_a_keyword_argument_wins_over_the_password_file(
    valkey: Server, acl_user: tuple[str, str], tmp_path: pathlib.Path
) -> None:
    name, password = acl_user
    file = tmp_path / "password"
    file.write_text("wrong")
    pool = make_pool(valkey.url, username=name, password_file=str(file), __password=password)
    with client_of(pool) as redis_client:
        assert redis_client.acl_whoami() in (b"app", "app")


def test_a_user_name_as_a_keyword_argument_goes_with_the_password_file(
    valkey: Server, acl_user: tuple[str, str], tmp_path: pathlib.Path
) -> None:
    name, password = acl_user
    file = tmp_path / "password"
    file.write_text(password)
    pool = make_pool(valkey.url, username="wrong", password_file=str(file), __username=name)
    with client_of(pool) as redis_client:
        assert redis_client.acl_whoami() in (b"app", "app")


@pytest.mark.parametrize("settings", [{"password": "wrong"}, {"username": "x"}])
def test_a_credential_provider_as_a_keyword_argument_wins_over_the_settings(
    valkey: Server, acl_user: tuple[str, str], settings: dict[str, str]
) -> None:
    provider = redis.UsernamePasswordCredentialProvider(*acl_user)
    with client(valkey.url, **settings, __credential_provider=provider) as redis_client:
        assert redis_client.acl_whoami() in (b"app", "app")


@pytest.mark.parametrize(
    ("url", "keyword", "connection_class"),
    [
        ("redis://h", "nonsense", "Connection"),
        ("redis://h", "ssl_ca_certs", "Connection"),
        ("redis://h", "path", "Connection"),
        ("unix:///r.sock", "host", "UnixDomainSocketConnection"),
        ("rediss://h", "ssl_nonsense", "SSLConnection"),
    ],
)
def test_an_unknown_keyword_argument_is_an_error_when_the_pool_is_built(
    url: str, keyword: str, connection_class: str
) -> None:
    with pytest.raises(TypeError) as caught:
        make_pool(url, **{f"__{keyword}": 1})
    assert str(caught.value) == (
        f"unexpected keyword argument {keyword!r}: neither BlockingConnectionPool nor "
        f"{connection_class} has it"
    )


class TakesAnything:
    """A connection as redis-py's own tests make them: not derived from redis-py's classes."""

    def __init__(self, **kwargs: Any) -> None:
        self.kwargs = kwargs

    def connect(self) -> None: ...

    def disconnect(self) -> None: ...

    def can_read(self) -> bool:
        return False

    def should_reconnect(self) -> bool:
        return False


class PassesAnythingOn(redis.Connection):
    def __init__(self, *args: Any, label: str = "", **kwargs: Any) -> None:
        self.label = label
        super().__init__(*args, **kwargs)


class TakesNothingElse(redis.Connection):
    def __init__(self, host: str, port: int) -> None:
        super().__init__(host=host, port=port)


def test_a_connection_class_that_takes_any_keyword_argument_gets_it() -> None:
    pool = make_pool("redis://h", __connection_class=TakesAnything, __made_up=1)
    assert pool.make_connection().kwargs["made_up"] == 1


def test_a_connection_class_that_is_not_redis_pys_is_used_again() -> None:
    pool = make_pool("redis://h", __connection_class=TakesAnything)
    connection = pool.get_connection()
    pool.release(connection)
    assert pool.get_connection() is connection


def test_a_connection_class_may_pass_its_keyword_arguments_on(valkey: Server) -> None:
    with client(valkey.url, __connection_class=PassesAnythingOn, __label="mine") as redis_client:
        assert redis_client.ping()
        assert redis_client.connection_pool.make_connection().label == "mine"


def test_a_keyword_argument_that_a_connection_class_does_not_pass_on_is_refused() -> None:
    with pytest.raises(TypeError, match="nor TakesNothingElse has it"):
        BlockingConnectionPool(
            connection_class=TakesNothingElse, host="h", port=1, socket_timeout=3
        )


CACHING = {"cache_config": CacheConfig(), "cache": DefaultCache(CacheConfig())}
URLS = {"": "redis://h", "sentinel_": "redis+sentinel://h/primary", "cluster_": "redis+cluster://h"}


@pytest.mark.parametrize("keyword", CACHING)
@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("", pool_from_config),
        ("sentinel_", sentinel_pool_from_config),
        ("cluster_", cluster_pool_from_config),
    ],
)
def test_client_side_caching_is_refused_when_the_pool_is_built(
    kind: str, make: Callable[..., Any], keyword: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make({"foo.url": URLS[kind]}, "foo.", **{keyword: CACHING[keyword]})
    assert str(caught.value) == (
        f"foo.{keyword}: redis-py's client-side caching deadlocks when threads share a client. "
        "Remove this keyword argument."
    )


@pytest.mark.parametrize("url", URLS.values())
def test_client_side_caching_is_refused_when_the_application_is_built(
    make_config: Callable[..., Configurator], url: str
) -> None:
    config = make_config(foo__url=url)
    config.add_redis_client("foo", RedisClient(cache_config=CacheConfig()))
    with pytest.raises(ConfigurationExecutionError, match=r"foo\.cache_config: redis-py"):
        config.make_wsgi_app()


def test_client_side_caching_may_be_turned_off_explicitly() -> None:
    assert make_pool("redis://h", __cache=None, __cache_config=None).cache is None
