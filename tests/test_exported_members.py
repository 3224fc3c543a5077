"""The public names: exactly these, all importable, each documented."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib.resources import files

import pytest

import pyramid_baseplate_redis
from pyramid_baseplate_redis.testing import application

PUBLIC_NAMES = [
    "BlockingConnectionPool",
    "CircuitOpenError",
    "ClientHealth",
    "ClusterConnectionPool",
    "ClusterRedisClient",
    "ClusterRedisContextFactory",
    "ConfigurationError",
    "DeadLetter",
    "DeadlineExceededError",
    "DurableMessage",
    "DurableMessageQueue",
    "ForkedConnectionError",
    "HotKey",
    "LeaseLostError",
    "MessageFormatError",
    "MessageQueue",
    "MessageQueueError",
    "MonitoredRedisClusterConnection",
    "MonitoredRedisClusterPipeline",
    "MonitoredRedisConnection",
    "MonitoredRedisPipeline",
    "PoolReleaseError",
    "PoolStats",
    "PoolTimeoutError",
    "QueueFullError",
    "QueueStats",
    "QueuedMessage",
    "RedisClient",
    "RedisContextFactory",
    "SentinelBlockingConnectionPool",
    "SentinelRedisClient",
    "ServerContext",
    "TimedOutError",
    "Timespan",
    "cluster_pool_from_config",
    "hot_keys",
    "includeme",
    "is_retryable",
    "ping_all",
    "pool_from_config",
    "request_totals_tween_factory",
    "sentinel_pool_from_config",
    "server_context",
    "server_span_tween_factory",
]
PUBLIC_CLASSES = [
    name for name in PUBLIC_NAMES if inspect.isclass(getattr(pyramid_baseplate_redis, name))
]


def test_the_public_names_are_exactly_these() -> None:
    assert sorted(pyramid_baseplate_redis.__all__) == PUBLIC_NAMES


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_a_public_name_can_be_imported(name: str) -> None:
    assert getattr(pyramid_baseplate_redis, name) is not None


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_a_public_name_has_a_docstring_of_its_own(name: str) -> None:
    assert (getattr(pyramid_baseplate_redis, name).__doc__ or "").strip()


@pytest.mark.parametrize("name", PUBLIC_CLASSES)
def test_every_public_method_of_a_public_class_has_a_docstring(name: str) -> None:
    members = vars(getattr(pyramid_baseplate_redis, name)).items()
    bare = [
        key
        for key, member in members
        if not key.startswith("_")
        and (inspect.isfunction(member) or isinstance(member, property))
        and not inspect.getdoc(member)
    ]
    assert bare == []


def test_a_star_import_gives_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from pyramid_baseplate_redis import *", names)
    assert sorted(names.keys() - {"__builtins__"}) == PUBLIC_NAMES


def test_everything_else_without_an_underscore_is_a_module_of_the_package() -> None:
    public = {
        name: value
        for name, value in vars(pyramid_baseplate_redis).items()
        if not name.startswith("_") and name not in PUBLIC_NAMES
    }
    allowed = {"annotations", "TYPE_CHECKING"}
    others = {name for name, value in public.items() if not inspect.ismodule(value)}
    assert others <= allowed


def test_the_public_names_of_the_testing_kit_are_exactly_these() -> None:
    assert sorted(application.__all__) == [
        "add_clients",
        "dummy_request",
        "flush",
        "for_tests",
        "includeme",
        "plain_client",
    ]
    assert all((getattr(application, name).__doc__ or "").strip() for name in application.__all__)


def test_the_package_is_marked_as_typed() -> None:
    assert files("pyramid_baseplate_redis").joinpath("py.typed").is_file()


def test_a_script_that_only_wants_a_pool_does_not_load_the_configurator() -> None:
    code = (
        "import sys; from pyramid_baseplate_redis import pool_from_config; "
        "pool_from_config({'redis.url': 'redis://localhost'}); "
        "sys.exit('pyramid.config' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
