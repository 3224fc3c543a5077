"""Run the entries of a group on two clients, and report where they differ."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import redis

from .clients import MakeClient
from .entries import Entry, Group, nothing
from .outcomes import Call, alone

# A slow replica changes the reply to WAIT, and a Sentinel's PING the one to INFO COMMANDSTATS. A
# difference between the clients occurs each time.
_ATTEMPTS = 3


class Preparation:
    """Makes what the entries of a group need; most of it is packed once and sent at once.

    :param plain: redis-py's client of the server or the Cluster.
    :param node: redis-py's client of the server that has the keys.
    """

    def __init__(self, group: Group, plain: Any, node: redis.Redis) -> None:
        self._group = group
        self._plain = plain
        self._connection: Any = node.connection_pool.get_connection()
        commands: list[Any] = []
        if group.keys is not nothing:  # a Sentinel has none
            with node.pipeline(transaction=False) as pipeline:
                pipeline.flushall()
                group.keys(pipeline)
                commands += [args for args, _ in pipeline.command_stack]
        self._replies = len(commands)
        self._packed = self._connection.pack_commands(commands)

    def prepare(self, entry: Entry) -> None:
        """Empty the server, and make what an entry needs."""
        self._connection.send_packed_command(self._packed)
        for _ in range(self._replies):
            self._connection.read_response()
        self._group.given(self._plain)
        entry.given(self._plain)


class Comparison:
    """Two clients of the same server or Cluster.

    :param plain: redis-py's client of it, to prepare it.
    :param node: redis-py's client of the server that has the keys.
    """

    def __init__(
        self, plain: Any, node: redis.Redis, make_plain: MakeClient, make_ours: MakeClient
    ) -> None:
        self._plain = plain
        self._node = node
        self._makers = make_plain, make_ours

    def check(self, group: Group, call: Call) -> None:
        """Compare all entries of a group, and fail with those that differ."""
        preparation = Preparation(group, self._plain, self._node)
        different: list[str] = []
        with ExitStack() as stack:
            clients = [stack.enter_context(make()) for make in self._makers]
            for entry in group.entries:
                different += _differences(preparation, clients, entry, call)
                if group.spoils_connections:
                    for client in clients:
                        disconnect(client)
        count = f"{len(different)} of {len(group.entries)} results differ from redis-py's"
        assert not different, "\n\n".join([count, *different])


def _differences(
    preparation: Preparation, clients: list[Any], entry: Entry, call: Call
) -> list[str]:
    def outcomes(raise_on_error: bool) -> list[str]:
        found = []
        for client in clients:
            preparation.prepare(entry)
            found.append(call(client, entry, raise_on_error))
        return found

    for _ in range(_ATTEMPTS):
        expected, found = outcomes(False)
        if expected == found and call is not alone and "redis.exceptions." in expected:
            expected, found = outcomes(True)
        if expected == found:
            return []
    return [f"{entry.name}\n  redis-py: {expected}\n  ours:     {found}"]


def disconnect(client: Any) -> None:
    """Close the connections of a client, which opens others when it needs them."""
    if isinstance(client, redis.RedisCluster):
        client.disconnect_connection_pools()
    else:
        client.connection_pool.disconnect()
