"""``add_redis_client()`` and the clients found in the settings: names, discovery, conflicts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationConflictError, ConfigurationExecutionError

from pyramid_baseplate_redis import (
    ConfigurationError,
    MonitoredRedisConnection,
    RedisClient,
    RedisContextFactory,
)
from pyramid_baseplate_redis.interfaces import IRedisContextFactory

from ..support.configurators import NOWHERE, client_names, introspectable, refusal, request_of
from ..support.servers import RecordedSpans, Server

MakeConfig = Callable[..., Configurator]
DIRECTIVES = pytest.mark.parametrize("directive", ["add_redis_client", "add_message_queue"])


def factory_of(config: Configurator, name: str = "foo") -> Any:
    factory = config.registry.queryUtility(IRedisContextFactory, name)
    assert factory is None or isinstance(factory, RedisContextFactory)
    return factory


# Names


@DIRECTIVES
@pytest.mark.parametrize(
    "name",
    [
        "registry", "context", "matchdict", "matched_route", "root", "view_name", "subpath",
        "traversed", "virtual_root", "virtual_root_path", "exception", "exc_info",
        "request_iface", "invoke_subrequest", "environ", "session", "response",
        "url", "params", "GET", "POST", "body", "method", "path", "user_agent", "identity",
        "route_url", "add_finished_callback", "override_renderer", "wrapped_view", "__class__",
    ],
)  # fmt: skip
def test_a_name_that_a_request_has_already_is_refused(
    make_config: MakeConfig, directive: str, name: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        getattr(make_config(), directive)(name)
    assert str(caught.value) == (
        f"{name}: request.{name} is Pyramid's own; choose another name for the Redis client or "
        "message queue"
    )


@DIRECTIVES
@pytest.mark.parametrize("name", ["foo-bar", "1foo", "", "foo.bar", "foo bar"])
def test_a_name_that_is_not_an_identifier_is_refused(
    make_config: MakeConfig, directive: str, name: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        getattr(make_config(), directive)(name)
    assert str(caught.value) == (
        f"{name}: {name!r} is not a Python identifier, so request.{name} can't be written"
    )


@DIRECTIVES
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("tm", "request.tm is pyramid_tm's transaction manager"),
        ("span", "request.span is the request's OpenTelemetry span"),
        ("class", "class is a keyword of Python, so request.class can't be written"),
        ("None", "None is a keyword of Python, so request.None can't be written"),
    ],
)
def test_a_name_that_is_taken_is_refused_with_the_reason(
    make_config: MakeConfig, directive: str, name: str, problem: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        getattr(make_config(), directive)(name)
    assert str(caught.value) == (
        f"{name}: {problem}; choose another name for the Redis client or message queue"
    )


@DIRECTIVES
@pytest.mark.parametrize("name", [None, 5, b"foo"])
def test_a_name_that_is_not_text_is_refused(
    make_config: MakeConfig, directive: str, name: Any
) -> None:
    with pytest.raises(ConfigurationError, match="is not a Python identifier"):
        getattr(make_config(), directive)(name)


@pytest.mark.parametrize(
    "name", ["foo", "redis", "cache2", "_private", "Sessions", "baseplate_redis2"]
)
def test_any_other_identifier_is_a_name(make_config: MakeConfig, name: str) -> None:
    config = make_config(**{f"{name}.url": NOWHERE})
    config.add_redis_client(name)
    config.commit()
    assert isinstance(getattr(request_of(config), name), MonitoredRedisConnection)


@pytest.mark.parametrize("name", ["context", "session", "class"])
def test_a_name_found_in_the_settings_is_refused_with_its_key(
    make_config: MakeConfig, name: str
) -> None:
    message = str(refusal(make_config(**{f"{name}.url": NOWHERE})))
    assert message.startswith(f"{name}.url: ")
    assert "baseplate_redis.clients" in message  # which leaves the key to whoever else uses it


@pytest.mark.parametrize("clients", ["context", "foo.bar", "foo-bar"])
def test_a_name_among_the_clients_is_refused_with_its_key(
    make_config: MakeConfig, clients: str
) -> None:
    message = str(refusal(make_config(baseplate_redis__clients=clients)))
    assert message.startswith("baseplate_redis.clients: ")
    assert clients in message


# Discovery


def test_a_client_is_found_in_the_settings(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE)
    config.commit()
    assert client_names(config) == ["foo"]


def test_several_clients_are_found_in_the_settings(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE, cache__url="unix:///r.sock", db__url="mysql://h")
    config.commit()
    assert client_names(config) == ["cache", "foo"]


def test_clients_named_explicitly_leave_every_other_prefix_alone(make_config: MakeConfig) -> None:
    config = make_config(
        baseplate_redis__clients="foo", foo__url=NOWHERE, other__url=NOWHERE, other__nonsense="x"
    )
    config.commit()
    assert client_names(config) == ["foo"]


def test_clients_named_explicitly_come_beside_declared_ones(make_config: MakeConfig) -> None:
    config = make_config(baseplate_redis__clients="foo", foo__url=NOWHERE, bar__url=NOWHERE)
    config.add_redis_client("bar")
    config.commit()
    assert client_names(config) == ["bar", "foo"]


def test_a_client_named_explicitly_needs_a_url(make_config: MakeConfig) -> None:
    config = make_config(baseplate_redis__clients="foo")
    assert str(refusal(config)) == (
        "foo.url: is missing; write a URL such as redis://localhost:6379/0"
    )


def test_no_settings_are_no_clients(make_config: MakeConfig) -> None:
    config = make_config()
    config.commit()
    assert client_names(config) == []


def test_settings_added_later_are_seen_by_discovery(make_config: MakeConfig) -> None:
    config = make_config()
    config.add_settings({"foo.url": NOWHERE})
    config.commit()
    assert client_names(config) == ["foo"]


def test_settings_added_later_are_seen_by_a_declared_client(make_config: MakeConfig) -> None:
    config = make_config()
    config.add_redis_client("foo")
    config.add_settings({"foo.url": NOWHERE, "foo.max_connections": "7"})
    config.commit()
    assert factory_of(config).connection_pool.max_connections == 7


def test_settings_changed_later_are_seen(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE, foo__max_connections="6")
    config.add_settings({"foo.max_connections": "7"})
    config.commit()
    assert factory_of(config).connection_pool.max_connections == 7


# Declared clients


def test_a_declared_client_beats_the_discovered_one(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE, foo__max_connections="6")
    config.add_redis_client("foo", RedisClient("my-pool", max_connections=7))
    config.commit()
    factory = factory_of(config)
    assert (factory.redis_client_name, factory.connection_pool.max_connections) == ("my-pool", 7)


def test_a_declared_client_reads_its_settings_by_default(make_config: MakeConfig) -> None:
    config = make_config(baseplate_redis__clients="", foo__url=NOWHERE, foo__max_connections="7")
    config.add_redis_client("foo")
    config.commit()
    assert factory_of(config).connection_pool.max_connections == 7


def test_an_application_has_one_pool_for_each_client(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE, bar__url=NOWHERE)
    config.commit()
    pools = [request_of(config).foo.connection_pool for _ in range(2)]
    assert pools[0] is pools[1] is not request_of(config).bar.connection_pool


def one_module(config: Configurator) -> None:
    config.add_redis_client("foo")


def another_module(config: Configurator) -> None:
    config.add_redis_client("foo", RedisClient("another"))


def test_two_modules_that_declare_one_client_are_in_conflict(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE)
    config.include(one_module)
    config.include(another_module)
    with pytest.raises(ConfigurationConflictError) as caught:
        config.commit()
    assert "('redis clients', 'foo')" in str(caught.value)


def test_a_client_that_is_declared_twice_is_in_conflict(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE)
    config.add_redis_client("foo")
    config.add_redis_client("foo")
    with pytest.raises(ConfigurationConflictError):
        config.commit()


def test_the_application_overrides_the_client_of_a_module(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE)
    config.include(one_module)
    config.add_redis_client("foo", RedisClient("my-own"))
    config.commit()
    assert factory_of(config).redis_client_name == "my-own"


def test_a_client_and_a_request_method_of_one_name_are_in_conflict(
    make_config: MakeConfig,
) -> None:
    config = make_config(foo__url=NOWHERE)
    config.add_redis_client("foo")
    config.add_request_method(lambda request: None, "foo", reify=True)
    with pytest.raises(ConfigurationConflictError):
        config.commit()


# Introspectables


def test_a_client_is_introspectable(make_config: MakeConfig) -> None:
    config = make_config(
        foo__url="redis://user:the-secret@localhost:7/3", foo__socket_timeout="200 ms"
    )
    config.commit()
    found = introspectable(config, "redis clients", "foo")
    assert {
        "title": found.title,
        "type": found.type_name,
        "name": found["name"],
        "url": found["url"],
        "socket_timeout": found["socket_timeout"],
        "max_connections": found["max_connections"],
        "password": found["password"],
    } == {
        "title": "foo",
        "type": "redis client",
        "name": "foo",
        "url": "redis://user:***@localhost:7/3",
        "socket_timeout": timedelta(milliseconds=200),
        "max_connections": 50,
        "password": "***",
    }


@pytest.mark.parametrize("declare", [True, False], ids=["declared", "discovered"])
def test_no_introspectable_has_a_password(make_config: MakeConfig, declare: bool) -> None:
    config = make_config(foo__url="redis://localhost", foo__password="the-secret")
    if declare:
        config.add_redis_client("foo")
    config.commit()
    assert "the-secret" not in str(config.introspector.categorized())
    assert "the-secret" not in str(dict(introspectable(config, "redis clients", "foo")))


def test_what_a_client_adds_to_requests_is_introspectable(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE)
    config.commit()
    assert introspectable(config, "request extensions", "foo") is not None


# Side by side


def test_several_clients_go_to_their_own_servers(
    make_config: MakeConfig, server: Server, spans: RecordedSpans
) -> None:
    config = make_config(
        foo__url=server.url,
        sessions__url=server.url.replace("/0", "/1"),
        cache__url=server.url.replace("/0", "/2"),
    )
    config.commit()
    request = request_of(config)
    databases = {
        name: getattr(request, name).client_info()["db"] for name in ("foo", "sessions", "cache")
    }
    assert databases == {"foo": 0, "sessions": 1, "cache": 2}
    assert spans.names == ["foo.CLIENT INFO", "sessions.CLIENT INFO", "cache.CLIENT INFO"]


def test_an_attribute_of_the_application_s_own_doesnt_replace_a_discovered_client(
    make_config: MakeConfig,
) -> None:
    config = make_config(foo__url=NOWHERE)
    config.add_request_method(lambda request: "mine", "foo", reify=True)
    with pytest.raises(ConfigurationExecutionError, match=r"foo\.url: the application already d"):
        config.commit()


def test_what_is_no_client_is_refused(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_config().add_redis_client("foo", "redis://:the-secret@localhost")
    assert str(caught.value) == "foo: str is not a RedisClient"
