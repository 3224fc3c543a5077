"""From settings to a pool, and to a client of an application."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
import webtest
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationExecutionError

from pyramid_baseplate_redis import (
    BlockingConnectionPool,
    ConfigurationError,
    SentinelBlockingConnectionPool,
    SentinelRedisClient,
    pool_from_config,
    sentinel_pool_from_config,
)

from ...support.servers import Server
from ...support.topologies import SentinelSet
from .conftest import NOWHERE, pool_of

# From settings to a pool


def test_the_pool_is_ours_and_redis_pys() -> None:
    pool = sentinel_pool_from_config({"foo.url": NOWHERE}, "foo.")
    assert isinstance(pool, SentinelBlockingConnectionPool)
    assert isinstance(pool, BlockingConnectionPool)
    assert isinstance(pool, redis.BlockingConnectionPool)


def test_pool_from_config_makes_the_same() -> None:
    pool = pool_from_config({"foo.url": NOWHERE}, "foo.")
    assert isinstance(pool, SentinelBlockingConnectionPool)


def test_a_url_that_leads_to_no_sentinel_is_refused() -> None:
    with pytest.raises(ConfigurationError) as caught:
        sentinel_pool_from_config({"foo.url": "redis://:hidden@localhost/0"}, "foo.")
    assert str(caught.value) == (
        "foo.url: is not a Sentinel URL. Write it like "
        "redis+sentinel://host1:26379,host2:26379/mymaster/0"
    )


def test_the_urls_user_password_and_database_are_for_the_servers() -> None:
    url = "redis+sentinel://user:pass@one:1,two/mymaster/3"
    pool = sentinel_pool_from_config({"foo.url": url}, "foo.")
    keywords = pool.connection_kwargs
    assert (keywords["username"], keywords["password"], keywords["db"]) == ("user", "pass", 3)
    for client in pool.sentinel_manager.sentinels:
        its = client.connection_pool.connection_kwargs
        assert (its["username"], its["password"], its.get("db", 0)) == (None, None, 0)


def test_the_sentinels_are_those_of_the_url() -> None:
    pool = sentinel_pool_from_config({"foo.url": "redis+sentinel://one:1,two/mymaster"}, "foo.")
    assert pool.sentinel_manager.addresses == "one:1, two:26379"
    assert pool.service_name == "mymaster"


def test_the_sentinels_have_a_user_and_a_password_of_their_own() -> None:
    settings = {"foo.sentinel_username": "watch", "foo.sentinel_password": "word"}
    pool = sentinel_pool_from_config({"foo.url": NOWHERE, **settings}, "foo.")
    assert (pool.connection_kwargs["username"], pool.connection_kwargs["password"]) == (None, None)
    for client in pool.sentinel_manager.sentinels:
        its = client.connection_pool.connection_kwargs
        assert (its["username"], its["password"]) == ("watch", "word")


@pytest.mark.parametrize(
    ("reply", "connect", "shares", "waiting"),
    [
        (4.0, 2.0, (2.0, 1.0), 3.0),
        (None, 2.0, (None, 1.0), 1.0),
        (4.0, None, (2.0, None), 2.0),
        (None, None, (None, None), 7.0),
    ],
)
def test_asking_all_sentinels_takes_no_longer_than_one_server(
    reply: float | None,
    connect: float | None,
    shares: tuple[float | None, float | None],
    waiting: float,
) -> None:
    settings = {"foo.url": "redis+sentinel://one,two/mymaster", "foo.pool_timeout": "7 seconds"}
    made = sentinel_pool_from_config(
        settings, "foo.", socket_timeout=reply, socket_connect_timeout=connect
    )
    for client in made.sentinel_manager.sentinels:
        pool = client.connection_pool
        its = pool.connection_kwargs
        assert (its["socket_timeout"], its["socket_connect_timeout"]) == shares
        assert (pool.timeout, pool.max_connections) == (waiting, 5)
        assert its["health_check_interval"] == 5.0
        assert not pool.maint_notifications_enabled()


@pytest.mark.parametrize("role", ["servers", "Sentinels"])
def test_rediss_is_tls_to_the_servers_and_to_the_sentinels(role: str, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(authority))
    settings = {"foo.url": "rediss+sentinel://h/mymaster", "foo.ssl_ca_certs": str(authority)}
    pool = sentinel_pool_from_config(settings, "foo.")
    (sentinel,) = pool.sentinel_manager.sentinels
    made: Any = (pool if role == "servers" else pool_of(sentinel)).make_connection()
    assert isinstance(made, redis.SSLConnection)
    assert made.ca_certs == str(authority)


def test_keyword_arguments_reach_the_sentinels_too() -> None:
    settings = {"foo.url": "rediss+sentinel://h/mymaster"}
    pool = sentinel_pool_from_config(
        settings, "foo.", ssl_ca_certs="/ca.pem", socket_timeout=0.5, socket_connect_timeout=0.25
    )
    (sentinel,) = pool.sentinel_manager.sentinels
    its = sentinel.connection_pool.connection_kwargs
    assert its["ssl_ca_certs"] == "/ca.pem"
    assert (its["socket_timeout"], its["socket_connect_timeout"]) == (0.5, 0.25)


# In an application


def test_an_application_includes_it_like_any_other_client(
    valkeys: SentinelSet, make_config: Callable[..., Configurator]
) -> None:
    config = make_config(foo__url=valkeys.url)
    config.add_route("home", "/")
    config.add_view(lambda request: request.foo.incr("hits"), route_name="home", renderer="json")
    app = webtest.TestApp(config.make_wsgi_app())
    assert [app.get("/").json, app.get("/").json] == [1, 2]


def test_an_application_is_built_while_no_sentinel_is_there(
    make_config: Callable[..., Configurator],
) -> None:
    make_config(foo__url=NOWHERE).make_wsgi_app()


def test_a_sentinel_client_may_be_declared(
    valkeys: SentinelSet, make_config: Callable[..., Configurator]
) -> None:
    config = make_config(foo__url=valkeys.url)
    config.add_redis_client("foo", SentinelRedisClient(max_connections=3))
    config.add_route("home", "/")
    config.add_view(
        lambda request: request.foo.connection_pool.max_connections, route_name="home",
        renderer="json",
    )  # fmt: skip
    assert webtest.TestApp(config.make_wsgi_app()).get("/").json == 3


def test_a_declared_sentinel_client_insists_on_sentinels(
    make_config: Callable[..., Configurator], valkey: Server
) -> None:
    config = make_config(foo__url=valkey.url)
    config.add_redis_client("foo", SentinelRedisClient())
    with pytest.raises(ConfigurationExecutionError) as caught:
        config.make_wsgi_app()
    assert (
        "foo.url: is not a Sentinel URL. Write it like "
        "redis+sentinel://host1:26379,host2:26379/mymaster/0"
    ) in str(caught.value)
