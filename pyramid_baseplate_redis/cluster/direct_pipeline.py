"""Execute a Cluster's plain pipelines directly, with redis-py's results and errors.

redis-py looks up each command anew to find its node, and reads each reply through all its layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
from redis.client import EMPTY_RESPONSE, NEVER_DECODE
from redis.cluster import (
    ClusterNode,
    ClusterPipeline,
    NodeCommands,
    PipelineStrategy,
    get_connection,
)

from ..pool.direct.packing import DIRECT_COMMANDS
from .rerouting import UNREACHED

_parse_response = redis.Redis.parse_response
# The errors after which redis-py repeats a pipeline's commands, read from its own class.
_SENT_AGAIN = ClusterPipeline.ERRORS_ALLOW_RETRY


class DirectPipelineStrategy(PipelineStrategy):
    """A strategy for plain pipelines that can send commands to known nodes directly."""

    _pipe: Any

    def _is_direct(self, stack: Sequence[Any]) -> bool:
        """Return whether redis-py would do no more for these commands than :meth:`_send_directly`.

        :param stack: redis-py's command objects. The node of each is the primary of its first key.
        """
        has_one_key = self._pipe.shared_pool.has_one_key
        callbacks = self._pipe.cluster_response_callbacks
        return all(
            command.args[0] in DIRECT_COMMANDS
            and command.args[0] not in callbacks
            and has_one_key(command.args)
            and NEVER_DECODE not in command.options
            and EMPTY_RESPONSE not in command.options
            for command in stack
        )

    def _send_directly(
        self, stack: Sequence[Any], nodes: Sequence[ClusterNode], allow_redirections: bool
    ) -> None:
        """Do the same as redis-py's ``_send_cluster_commands``, and set the commands' results.

        :param stack: redis-py's command objects, the commands of a node one after the other.
        :param nodes: their nodes.
        """
        asks_default_node = self._execute_by_node(stack, nodes)
        failed = [command for command in stack if isinstance(command.result, _SENT_AGAIN)]
        if not (failed and allow_redirections):
            return
        self._pipe.reinitialize_counter += 1
        if self._pipe._should_reinitialized():
            self._nodes_manager.initialize()
            if asks_default_node:
                self._pipe.replace_default_node()
        for command in failed:
            try:
                command.result = self._pipe.parent_execute_command(*command.args, **command.options)
            except redis.RedisError as error:
                command.result = error

    def _execute_by_node(self, stack: Sequence[Any], nodes: Sequence[ClusterNode]) -> bool:
        """Send to all nodes before the first reply is read; return whether one is the default."""
        batches: dict[str, _NodeCommands] = {}
        default_node = self._pipe.get_default_node()
        asks_default_node = False
        written = read = 0
        try:
            for command, node in zip(stack, nodes, strict=True):
                batch = batches.get(node.name)
                if batch is None:
                    asks_default_node = asks_default_node or node == default_node
                    batch = batches[node.name] = self._batch_of(node, asks_default_node)
                batch.append(command)
            for batch in batches.values():
                self._discard_fieldsets(batch)
            for batch in batches.values():
                written += 1
                batch.write()
            for batch in batches.values():
                batch.read()
                read += 1
        finally:
            for position, batch in enumerate(batches.values()):
                if read <= position < written:
                    batch.connection.disconnect()  # its replies are unread
                batch.connection_pool.release(batch.connection)
        return asks_default_node

    def _batch_of(self, node: ClusterNode, asks_default_node: bool) -> _NodeCommands:
        client = self._pipe.get_redis_connection(node)
        try:
            connection = get_connection(client)
        except UNREACHED:
            if asks_default_node:
                self._pipe.replace_default_node()
            raise
        is_direct = (
            getattr(connection, "is_direct", False)
            and type(client).parse_response is _parse_response
        )
        made = _DirectCommands if is_direct else _NodeCommands
        return made(client, connection)

    def _discard_fieldsets(self, batch: Any) -> None:
        """Have redis-py discard HIMPORT fieldsets that are no longer current."""
        if getattr(batch.connection, "has_current_fieldsets", False):
            return
        if hasattr(self, "_himport_prepare_pipeline"):  # redis-py 8.0 has no HIMPORT
            commands = [(command.args, command.options) for command in batch.commands]
            self._himport_prepare_pipeline(batch.client, batch.connection, commands)


class _NodeCommands(NodeCommands):
    """The commands for one node, which redis-py sends and whose replies it reads."""

    connection: Any

    def __init__(self, client: Any, connection: Any) -> None:
        super().__init__(client.parse_response, client.connection_pool, connection)
        self.client = client


class _DirectCommands(_NodeCommands):
    """The commands for one node, which are sent directly."""

    def write(self) -> None:
        for command in self.commands:
            command.result = None
        try:
            self.connection.send_all([command.args for command in self.commands])
        except UNREACHED as error:
            self._fail(error)

    def read(self) -> None:
        commands = self.commands
        if commands[0].result is not None:
            return  # they could not be sent
        callbacks = self.client.response_callbacks
        try:
            replies = self.connection.read_all(len(commands))
            for command, reply in zip(commands, replies, strict=True):
                command.result = reply
                callback = dict.get(callbacks, command.args[0])
                if callback is None or isinstance(reply, redis.ResponseError):
                    continue
                options = command.options
                if "keys" in options:  # for redis-py's cache
                    options = {key: options[key] for key in options if key != "keys"}
                try:
                    command.result = callback(reply, **options)
                except redis.RedisError as error:
                    if isinstance(error, UNREACHED):
                        raise
                    command.result = error
        except UNREACHED as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        for command in self.commands:
            command.result = error
