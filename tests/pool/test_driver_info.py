"""The name and the version of this package in the server's list of clients."""

from __future__ import annotations

from importlib import metadata
from typing import Any
from unittest import mock

import pytest
import redis

from pyramid_baseplate_redis import (
    cluster_pool_from_config,
    pool_from_config,
    sentinel_pool_from_config,
)
from pyramid_baseplate_redis.pool import connection_kwargs

from ..support.servers import Server
from ..support.topologies import Cluster, SentinelSet

OURS = f"redis-py(pyramid_baseplate_redis_v{metadata.version('pyramid_baseplate_redis')})"


def lib_names(client: redis.Redis, name: str) -> set[str]:
    """The names of the libraries of the connections whose ``client_name`` is ``name``."""
    listed: Any = client.client_list()
    return {each["lib-name"] for each in listed if each["name"] == name}


def lib_name(server: Server, **keywords: Any) -> tuple[str, str]:
    """The name and the version of the library that a pool's connection shows."""
    pool = pool_from_config({"foo.url": server.url}, "foo.", **keywords)
    info: Any = redis.Redis(connection_pool=pool).client_info()
    return info["lib-name"], info["lib-ver"]


def test_the_server_lists_this_package_and_redis_py_s_version(valkey: Server) -> None:
    assert lib_name(valkey) == (OURS, metadata.version("redis"))


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({"driver_info": redis.DriverInfo(name="mine", lib_version="7")}, ("mine", "7")),
        ({"driver_info": None}, ("", "")),
        pytest.param(
            {"lib_name": "mine", "lib_version": "7"},
            ("mine", "7"),
            marks=pytest.mark.filterwarnings("ignore::DeprecationWarning"),
        ),
    ],
)
def test_the_application_s_arguments_win(
    valkey: Server, keywords: dict[str, Any], expected: tuple[str, str]
) -> None:
    assert lib_name(valkey, **keywords) == expected


def test_connections_do_not_look_up_versions(valkey: Server) -> None:
    pool = pool_from_config({"foo.url": valkey.url}, "foo.")
    with mock.patch("importlib.metadata.version") as version:
        pool.release(pool.get_connection())
    assert version.call_count == 0


def test_the_nodes_of_a_cluster_list_it(valkey_cluster: Cluster) -> None:
    config = {"foo.url": valkey_cluster.url, "foo.client_name": "driver"}
    cluster = cluster_pool_from_config(config, "foo.").cluster()
    cluster.set("key", "value")
    listed: Any = cluster.client_list(target_nodes=cluster.get_node_from_key("key"))
    names = {each["lib-name"] for each in listed if each["name"] == "driver"}
    assert names == {OURS}


def test_behind_sentinel_the_primary_and_the_sentinels_list_it(
    valkey_sentinels: SentinelSet,
) -> None:
    config = {"foo.url": valkey_sentinels.url, "foo.client_name": "driver"}
    pool = sentinel_pool_from_config(config, "foo.")
    client = redis.Redis(connection_pool=pool)
    assert lib_names(client, "driver") == {OURS}
    assert lib_names(pool.sentinel_manager.sentinels[0], "driver") == {OURS}


def test_a_package_that_was_copied_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)

    info = connection_kwargs._driver_info()

    assert info.formatted_name == "redis-py(pyramid_baseplate_redis_vunknown)"
