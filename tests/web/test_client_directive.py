"""What the package adds to a Configurator: directives, discovery, introspectables, conflicts."""

from __future__ import annotations

import pathlib
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from pyramid import testing
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationConflictError, ConfigurationExecutionError
from pyramid.request import Request, apply_request_extensions

import pyramid_baseplate_redis
from pyramid_baseplate_redis import (
    ConfigurationError,
    MessageQueue,
    MonitoredRedisConnection,
    RedisClient,
    RedisContextFactory,
)
from pyramid_baseplate_redis.interfaces import IMessageQueueFactory, IRedisContextFactory

from ..support.servers import RecordedSpans, Server, free_port

MakeConfig = Callable[..., Configurator]
NOWHERE = "redis://localhost:1"
DIRECTIVES = pytest.mark.parametrize("directive", ["add_redis_client", "add_message_queue"])


def factory_of(config: Configurator, name: str = "foo") -> Any:
    factory = config.registry.queryUtility(IRedisContextFactory, name)
    assert factory is None or isinstance(factory, RedisContextFactory)
    return factory


def client_names(config: Configurator) -> list[str]:
    return sorted(name for name, _ in config.registry.getUtilitiesFor(IRedisContextFactory))


def request_of(config: Configurator) -> Any:
    """A request with everything that the application adds to requests."""
    request = Request.blank("/")
    request.registry = config.registry
    apply_request_extensions(request)
    return request


def refusal(config: Configurator) -> ConfigurationError:
    """Our own error, with which an application isn't built."""
    with pytest.raises(ConfigurationExecutionError) as caught:
        config.make_wsgi_app()
    error = caught.value.evalue
    assert isinstance(error, ConfigurationError)
    return error


def introspectable(config: Configurator, category: str, name: str) -> Any:
    return config.introspector.get(category, name)


# Names


@DIRECTIVES
@pytest.mark.parametrize(
    "name",
    [
        "registry", "context", "matchdict", "matched_route", "root", "view_name", "subpath",
        "traversed", "virtual_root", "virtual_root_path", "exception", "exc_info",
        "request_iface", "invoke_subrequest", "tm", "span", "environ", "session", "response",
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
@pytest.mark.parametrize("name", ["foo-bar", "1foo", "", "foo.bar", "foo bar", "class", "None"])
def test_a_name_that_is_not_an_identifier_is_refused(
    make_config: MakeConfig, directive: str, name: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        getattr(make_config(), directive)(name)
    assert str(caught.value) == (
        f"{name}: {name!r} is not a Python identifier, so request.{name} can't be written"
    )


@DIRECTIVES
@pytest.mark.parametrize("name", [None, 5, b"foo"])
def test_a_name_that_is_not_text_is_refused(
    make_config: MakeConfig, directive: str, name: Any
) -> None:
    with pytest.raises(ConfigurationError, match="is not a Python identifier"):
        getattr(make_config(), directive)(name)


@pytest.mark.parametrize("name", ["foo", "redis", "cache2", "_private", "Sessions"])
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


# Errors


@pytest.mark.parametrize("declare", [True, False], ids=["declared", "discovered"])
def test_a_malformed_setting_is_an_error_when_the_application_is_built(
    make_config: MakeConfig, declare: bool
) -> None:
    config = make_config(foo__url=NOWHERE, foo__socket_timeout="3")
    if declare:
        config.add_redis_client("foo")
    assert str(refusal(config)) == (
        "foo.socket_timeout: '3' has no unit; write a number and a unit, such as \"3 seconds\" or "
        '"200 milliseconds"'
    )


def test_the_error_that_pyramid_raises_carries_our_message(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE, foo__retries="many")
    with pytest.raises(ConfigurationExecutionError, match=r"foo\.retries: 'many' is not a whole"):
        config.make_wsgi_app()


def test_an_error_of_a_declared_client_names_the_line_that_declares_it(
    make_config: MakeConfig,
) -> None:
    config = make_config(foo__url=NOWHERE, foo__retries="many")
    config.add_redis_client("foo")  # this line
    with pytest.raises(ConfigurationExecutionError, match="# this line"):
        config.make_wsgi_app()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("client", "foo", "unknown setting; did you mean baseplate_redis.clients?"),
        ("server_span", "on", "'on' is not one of auto, always and never"),
        (
            "trust_trace_headers",
            "perhaps",
            "'perhaps' is neither true nor false; write true or false",
        ),
    ],
)
def test_a_malformed_setting_of_the_package_is_an_error_when_the_application_is_built(
    make_config: MakeConfig, key: str, value: str, message: str
) -> None:
    config = make_config(**{f"baseplate_redis.{key}": value})
    assert str(refusal(config)) == f"baseplate_redis.{key}: {message}"


def test_an_unknown_keyword_argument_is_an_error_when_the_application_is_built(
    make_config: MakeConfig,
) -> None:
    config = make_config(foo__url=NOWHERE)
    config.add_redis_client("foo", RedisClient(nonsense=1))
    with pytest.raises(ConfigurationExecutionError) as caught:
        config.make_wsgi_app()
    assert isinstance(caught.value.evalue, TypeError)


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


def a_queue(config: Configurator) -> None:
    config.add_message_queue("jobs", "foo")


def another_queue(config: Configurator) -> None:
    config.add_message_queue("jobs", "bar")


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


# Message queues


def test_a_message_queue_uses_the_only_client(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE)
    config.add_message_queue("jobs")
    config.commit()
    request = request_of(config)
    assert request.jobs.client is request.foo


def test_a_message_queue_uses_the_client_that_it_names(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE, bar__url=NOWHERE)
    config.add_message_queue("jobs", "bar")
    config.commit()
    request = request_of(config)
    assert request.jobs.client is request.bar


def test_a_message_queue_may_be_declared_before_its_client(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE, bar__url=NOWHERE)
    config.add_message_queue("jobs", client="bar")
    config.add_redis_client("bar")
    config.commit()
    assert config.registry.getUtility(IMessageQueueFactory, "jobs").client == "bar"


def test_a_message_queue_is_one_object_for_a_whole_request(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE)
    config.add_message_queue("jobs")
    config.commit()
    request = request_of(config)
    assert isinstance(request.jobs, MessageQueue)
    assert request.jobs is request.jobs


def test_a_message_queue_is_kept_in_the_list_of_its_name(
    make_config: MakeConfig, server: Server, spans: RecordedSpans
) -> None:
    config = make_config(foo__url=server.url)
    config.add_message_queue("jobs")
    config.commit()
    request = request_of(config)
    request.jobs.put(b"a message")
    assert request.foo.lrange("jobs", 0, -1) == [b"a message"]
    assert spans.names == ["foo.RPUSH", "foo.LRANGE"]


@pytest.mark.parametrize(
    ("client", "message"),
    [
        (None, "message queue jobs: name one of the Redis clients; configured: bar, foo"),
        ("baz", "message queue jobs: there is no Redis client 'baz'; configured: bar, foo"),
    ],
    ids=["ambiguous", "unknown"],
)
def test_a_message_queue_whose_client_is_not_clear_is_refused(
    make_config: MakeConfig, client: str | None, message: str
) -> None:
    config = make_config(foo__url=NOWHERE, bar__url=NOWHERE)
    config.add_message_queue("jobs", client)
    assert str(refusal(config)) == message


def test_a_message_queue_without_any_client_is_refused(make_config: MakeConfig) -> None:
    config = make_config()
    config.add_message_queue("jobs")
    assert str(refusal(config)) == (
        "message queue jobs: name one of the Redis clients; configured: none"
    )


def test_two_modules_that_declare_one_queue_are_in_conflict(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE, bar__url=NOWHERE)
    config.include(a_queue)
    config.include(another_queue)
    with pytest.raises(ConfigurationConflictError) as caught:
        config.commit()
    assert "('redis message queues', 'jobs')" in str(caught.value)


def test_a_queue_and_a_declared_client_of_one_name_are_in_conflict(
    make_config: MakeConfig,
) -> None:
    config = make_config(foo__url=NOWHERE)
    config.add_redis_client("foo")
    config.add_message_queue("foo")
    with pytest.raises(ConfigurationConflictError):
        config.commit()


def test_a_queue_and_a_discovered_client_of_one_name_are_refused(
    make_config: MakeConfig,
) -> None:
    config = make_config(foo__url=NOWHERE)
    config.add_message_queue("foo")
    with pytest.raises((ConfigurationConflictError, ConfigurationExecutionError), match="foo"):
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


def test_a_message_queue_is_introspectable(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE)
    config.add_message_queue("jobs")
    config.commit()
    found = introspectable(config, "redis message queues", "jobs")
    assert (found.title, found.type_name, dict(found)) == (
        "jobs",
        "redis message queue",
        {"name": "jobs", "client": "foo"},
    )


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


# Including


@pytest.mark.parametrize(
    "again", ["pyramid_baseplate_redis", pyramid_baseplate_redis, pyramid_baseplate_redis.includeme]
)
def test_to_include_the_package_twice_is_harmless(make_config: MakeConfig, again: Any) -> None:
    config = make_config(foo__url=NOWHERE)
    config.include(again)
    config.commit()
    assert client_names(config) == ["foo"]


def module_that_needs_it(config: Configurator) -> None:
    config.include("pyramid_baseplate_redis")
    config.add_redis_client("foo")


def test_a_module_may_include_the_package_beside_the_application(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE)
    config.include(module_that_needs_it)
    config.commit()
    assert client_names(config) == ["foo"]


def test_a_module_alone_may_include_the_package() -> None:
    config = Configurator(settings={"foo.url": NOWHERE})
    config.include(module_that_needs_it)
    config.commit()
    assert isinstance(request_of(config).foo, MonitoredRedisConnection)


@pytest.fixture
def autocommit() -> Iterator[Configurator]:
    with testing.testConfig(settings={"foo.url": NOWHERE}) as config:
        config.include("pyramid_baseplate_redis")
        yield config


def test_an_autocommitting_configurator_finds_clients(autocommit: Configurator) -> None:
    assert isinstance(request_of(autocommit).foo, MonitoredRedisConnection)


def test_an_autocommitting_configurator_takes_declared_clients(autocommit: Configurator) -> None:
    autocommit.add_settings({"bar.url": NOWHERE})
    autocommit.add_redis_client("bar")
    assert isinstance(request_of(autocommit).bar, MonitoredRedisConnection)


def test_an_autocommitting_configurator_takes_a_declared_client_over_a_discovered_one(
    autocommit: Configurator,
) -> None:
    autocommit.add_redis_client("foo", RedisClient("my-own"))
    assert request_of(autocommit).foo.redis_client_name == "my-own"


def test_an_autocommitting_configurator_takes_message_queues(autocommit: Configurator) -> None:
    autocommit.add_message_queue("jobs")
    assert isinstance(request_of(autocommit).jobs, MessageQueue)


def test_an_autocommitting_configurator_may_include_the_package_twice(
    autocommit: Configurator,
) -> None:
    autocommit.include("pyramid_baseplate_redis")
    assert client_names(autocommit) == ["foo"]


def test_an_autocommitting_configurator_raises_our_error_itself() -> None:
    with (
        testing.testConfig(settings={"foo.url": NOWHERE, "foo.retries": "many"}) as config,
        pytest.raises(ConfigurationError, match=r"^foo\.retries: 'many' is not a whole number"),
    ):
        config.include("pyramid_baseplate_redis")


# Nothing is opened or started while an application is built


def test_no_socket_is_opened_while_an_application_is_built(make_config: MakeConfig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]
        config = make_config(
            foo__url=f"redis://127.0.0.1:{port}",
            bar__url=f"rediss://127.0.0.1:{port}",
            foo__health_check_interval="1 s",
        )
        config.add_message_queue("jobs", "foo")
        config.make_wsgi_app()
        request = request_of(config)
        assert None not in (request.foo, request.bar, request.jobs)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_no_embedded_server_is_started_while_an_application_is_built(
    make_config: MakeConfig, tmp_path: pathlib.Path
) -> None:
    directory = tmp_path / "data"
    make_config(foo__url=f"embedded://{directory}").make_wsgi_app()
    assert not directory.exists()


@pytest.fixture
def unreachable_ini(tmp_path: pathlib.Path) -> pathlib.Path:
    """The .ini file of an application whose Redis isn't there."""
    (tmp_path / "unreachable.py").write_text(
        textwrap.dedent(
            """
            from pyramid.config import Configurator


            def main(global_config, **settings):
                config = Configurator(settings=settings)
                config.include("pyramid_baseplate_redis")
                config.add_message_queue("jobs", "foo")
                config.add_route("front", "/front")
                config.add_view(lambda request: request.foo.get("key"), route_name="front")
                return config.make_wsgi_app()
            """
        )
    )
    ini = tmp_path / "unreachable.ini"
    ini.write_text(
        "[app:main]\n"
        "use = call:unreachable:main\n"
        f"foo.url = redis://127.0.0.1:{free_port()}/0\n"
        f"bar.url = unix://{tmp_path}/missing.sock\n"
    )
    return ini


@pytest.mark.parametrize(
    ("script", "arguments", "found"),
    [("proutes", [], "/front"), ("pviews", ["/front"], "lambda"), ("ptweens", [], "server_span")],
)
def test_a_script_of_pyramid_builds_an_application_whose_redis_is_unreachable(
    unreachable_ini: pathlib.Path, script: str, arguments: list[str], found: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"pyramid.scripts.{script}", str(unreachable_ini), *arguments],
        env={"PYTHONPATH": f"{unreachable_ini.parent}:{':'.join(sys.path)}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, found in done.stdout) == (0, True), done.stderr


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
