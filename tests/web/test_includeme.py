"""``config.include()``: errors name the setting, and nothing is opened or started."""

from __future__ import annotations

import pathlib
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pyramid import testing
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationExecutionError

import pyramid_baseplate_redis
from pyramid_baseplate_redis import (
    ConfigurationError,
    MessageQueue,
    MonitoredRedisConnection,
    RedisClient,
)

from ..support.configurators import NOWHERE, client_names, introspectable, refusal, request_of
from ..support.servers import free_port

MakeConfig = Callable[..., Configurator]


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


def lines_of_error(config: Configurator) -> list[str]:
    """The lines of the error with which an application isn't built, as Pyramid prints it."""
    with pytest.raises(ConfigurationExecutionError) as caught:
        config.make_wsgi_app()
    return str(caught.value).split("\n")


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"foo__url": NOWHERE, "foo__retries": "many"}, "foo.retries"),
        ({"foo__url": f"{NOWHERE} # x"}, "foo.url"),
        ({"session__url": NOWHERE}, "session.url"),
        ({"baseplate_redis__client": "foo"}, "baseplate_redis.client"),
        ({"baseplate_redis__clients": "foo"}, "foo.url"),
        ({"foo__url": NOWHERE, "jobs__queue": "foo", "jobs__lease": "1 s"}, "jobs.lease"),
        ({"foo__url": NOWHERE, "session__queue": "foo"}, "session.queue"),
        ({"foo__url": NOWHERE, "jobs__durable": "x", "jobs__queue": "foo"}, "jobs.durable"),
    ],
    ids=str,
)
def test_an_error_ends_with_its_message_and_its_key(
    make_config: MakeConfig, settings: dict[str, str], key: str
) -> None:
    lines = lines_of_error(make_config(**settings))
    assert f"ConfigurationError'>: {key}: " in lines[0]
    assert lines[1:] == ["  in:", f"  {key}"]


def test_an_error_of_a_declared_client_names_the_line_that_declares_it(
    make_config: MakeConfig,
) -> None:
    config = make_config(foo__url=NOWHERE, foo__retries="many")
    config.add_redis_client("foo")  # this line
    assert lines_of_error(config)[-2:] == [
        '    config.add_redis_client("foo")  # this line',
        "  foo.retries",
    ]


def test_an_error_of_a_declared_queue_names_the_line_that_declares_it(
    make_config: MakeConfig,
) -> None:
    config = make_config(foo__url=NOWHERE)
    config.add_message_queue("jobs", "bar")  # this line
    assert lines_of_error(config)[-2:] == [
        '    config.add_message_queue("jobs", "bar")  # this line',
        "  message queue jobs",
    ]


def test_the_traceback_has_no_frame_that_read_the_settings(make_config: MakeConfig) -> None:
    config = make_config(foo__url="redis://:the-secret@localhost", foo__retries="many")
    with pytest.raises(ConfigurationExecutionError) as caught:
        config.make_wsgi_app()
    found = [str(frame.path) for frame in caught.traceback]
    assert [path for path in found if "/pyramid_baseplate_redis/settings/" in path] == []


@pytest.mark.parametrize(
    ("settings", "category", "name", "place"),
    [
        ({"foo__url": NOWHERE}, "redis clients", "foo", "foo.url"),
        ({"foo__url": NOWHERE, "jobs__queue": "foo"}, "redis message queues", "jobs", "jobs.queue"),
    ],
)
def test_introspection_shows_the_setting_that_declares_a_client_or_queue(
    make_config: MakeConfig, settings: dict[str, str], category: str, name: str, place: str
) -> None:
    config = make_config(**settings)
    config.commit()
    info = introspectable(config, category, name).action_info
    assert str(info) == place


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


@pytest.mark.slow("starts pserve")
def test_pserve_ends_with_the_message_and_the_key(unreachable_ini: pathlib.Path) -> None:
    with unreachable_ini.open("a") as file:
        file.write("foo.socket_timeout = 3\n[server:main]\nuse = egg:waitress#main\n")
    done = subprocess.run(
        [sys.executable, "-m", "pyramid.scripts.pserve", str(unreachable_ini)],
        env={"PYTHONPATH": f"{unreachable_ini.parent}:{':'.join(sys.path)}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    message, place, key = done.stderr.splitlines()[-3:]
    assert "foo.socket_timeout: '3' has no unit; write a number and a unit, such as" in message
    assert (done.returncode, place, key) == (1, "  in:", "  foo.socket_timeout")
