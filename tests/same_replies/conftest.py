"""Servers on which every command that redis-py parses may be called."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import pytest

from ..support.servers import KINDS, RecordedSpans, Server, free_port, running_server
from ..support.topologies import Cluster, SentinelSet, Topology

T = TypeVar("T", bound=Topology)

# How often a server looks whether a blocking command has waited long enough.
_HZ = "100"


def _permissive(kind: str, factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with DEBUG, and with a file of users."""
    directory = factory.mktemp(f"{kind}-permissive")
    users = directory / "users.acl"
    users.touch()
    options = ["--enable-debug-command", "local", "--aclfile", str(users), "--hz", _HZ]
    with running_server(kind, directory, *options) as server:
        yield server


@pytest.fixture(autouse=True)
def _forgotten_spans(spans: RecordedSpans) -> None:
    """Keep no spans of thousands of commands."""


@pytest.fixture(scope="module")
def permissive_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Valkey that refuses nothing."""
    yield from _permissive("valkey", tmp_path_factory)


@pytest.fixture(scope="module", params=KINDS[1:])
def permissive_redis(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Debian's Redis and Redis 8.2, likewise."""
    yield from _permissive(request.param, tmp_path_factory)


@pytest.fixture(scope="module")
def lone_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A node of a Cluster that knows no other."""
    # By default the port of the cluster bus is the server's plus 10,000: it may not exist.
    options = ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
    with running_server("valkey", tmp_path_factory.mktemp("lone-node"), *options) as server:
        yield server


@pytest.fixture(scope="module")
def quick_cluster(valkey_cluster: Cluster) -> Iterator[Cluster]:
    """A Cluster whose blocking commands end in time."""
    yield from _quick(valkey_cluster)


@pytest.fixture(scope="module")
def quick_sentinels(valkey_sentinels: SentinelSet) -> Iterator[SentinelSet]:
    """A Sentinel set, likewise."""
    yield from _quick(valkey_sentinels)


def _quick(topology: T) -> Iterator[T]:
    topology.tidy()  # tests of failovers may have come before
    before = [node.client.config_get("hz") for node in topology.nodes]
    for node in topology.nodes:
        node.client.config_set("hz", _HZ)
    yield topology
    for node, setting in zip(topology.nodes, before, strict=True):
        node.client.config_set("hz", setting["hz"])
