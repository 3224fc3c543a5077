"""The tables have every command whose reply redis-py parses."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from itertools import product
from typing import Any

import pytest
import redis

from ..support.servers import Server
from ..support.topologies import Cluster, SentinelSet
from .clients import KEY, plain_client, plain_cluster
from .comparison import Preparation, disconnect
from .entries import Group
from .outcomes import alone
from .tables import (
    CLUSTERS,
    CONNECTIONS,
    LONE_NODE,
    NODES,
    ON_ONE_SERVER,
    SENTINELS,
)

_NEWER = "no server here knows it yet; what they refuse is compared"
_FAILOVER = "changes which node is the primary; refusals are compared"

NOT_COMPARED = {
    "ARINFO": _NEWER,
    "CLUSTER FAILOVER": _FAILOVER,
    "CLUSTER REPLICATE": "changes which node is a replica; a refusal is compared",
    "CONFIG REWRITE": "the servers here have no configuration file; the refusal is compared",
    "HIMPORT DISCARD": _NEWER,
    "HIMPORT DISCARDALL": _NEWER,
    "HIMPORT PREPARE": _NEWER,
    "HIMPORT SET": _NEWER,
    "HOTKEYS GET": _NEWER,
    "MODULE LOAD": "there is no module here; the refusal is compared",
    "MODULE UNLOAD": "there is no module here; the refusal is compared",
    "SCRIPT KILL": "needs a script that hangs; the refusal is compared",
    "SENTINEL FAILOVER": _FAILOVER,
    "SHUTDOWN": "ends the server",
    "STRALGO": "Redis 7 and Valkey have it no longer; the refusal is compared",
}
"""Commands that redis-py parses and no server here answers, and why."""


def _parsed_by_redis_py() -> set[str]:
    """The commands for which redis-py has a response callback, however it is configured."""
    parsed = set(redis.RedisCluster.CLUSTER_COMMANDS_RESPONSE_CALLBACKS)
    parsed |= set(redis.RedisCluster.RESULT_CALLBACKS)
    known = inspect.signature(redis.Redis).parameters
    choices = [True, False] if "legacy_responses" in known else [None]  # since redis-py 8
    for protocol, legacy in product((None, 2, 3), choices):
        options: Any = {} if legacy is None else {"legacy_responses": legacy}
        parsed |= set(redis.Redis(protocol=protocol, **options).response_callbacks)
    return parsed


class _Noting:
    """Notes whose replies redis-py parses without an error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.commands: set[str] = set()
        self._monkeypatch = monkeypatch

    def call(self, groups: Iterable[Group], client: Any, node: redis.Redis) -> None:
        parse_response = redis.Redis.parse_response

        def noting(self_: Any, connection: Any, command_name: Any, **options: Any) -> Any:
            result = parse_response(self_, connection, command_name, **options)
            self.commands.add(command_name)
            return result

        for group in groups:
            preparation = Preparation(group, client, node)
            for entry in group.entries:
                preparation.prepare(entry)
                with self._monkeypatch.context() as patch:
                    patch.setattr(redis.Redis, "parse_response", noting)
                    alone(client, entry)
                if group.spoils_connections:
                    disconnect(client)


@pytest.fixture(scope="module")
def compared(
    permissive_valkey: Server,
    lone_node: Server,
    quick_cluster: Cluster,
    quick_sentinels: SentinelSet,
) -> set[str]:
    """The commands of the tables whose replies redis-py parses on a server here."""
    monkeypatch = pytest.MonkeyPatch()
    noting = _Noting(monkeypatch)
    for port, groups in [
        (permissive_valkey.port, ON_ONE_SERVER),
        (lone_node.port, [LONE_NODE]),
        (quick_sentinels.sentinels[0].port, [SENTINELS]),
    ]:
        with plain_client(port) as client, plain_client(port) as node:
            noting.call(groups, client, node)
    with (
        plain_cluster(quick_cluster) as client,
        plain_client(quick_cluster.node_of(KEY).port) as node,
    ):
        noting.call([CLUSTERS, NODES, CONNECTIONS], client, node)
    return noting.commands


def test_every_command_that_redis_py_parses_is_compared(compared: set[str]) -> None:
    missing = sorted(_parsed_by_redis_py() - compared - set(NOT_COMPARED))
    assert not missing, f"add to tests/same_replies/tables, or to NOT_COMPARED: {missing}"


def test_only_commands_that_cannot_be_compared_are_left_out(compared: set[str]) -> None:
    assert not set(NOT_COMPARED) & compared
