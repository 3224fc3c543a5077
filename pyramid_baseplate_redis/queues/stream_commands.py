"""Sends a durable queue's commands to the server or node that has it, with spans and metrics."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import redis
from opentelemetry.trace import INVALID_SPAN, Span
from redis.cluster import RedisCluster

from ..exceptions import MessageQueueError
from ..retries import RetryPolicy
from ..telemetry.operations import Operation, run_operation
from .raw_commands import Command, RawCommands, is_no_group, on_connection, telemetry_of

T = TypeVar("T")

_MOST_REDIRECTIONS = 16
_MOST_CONFLICTS = 100
_UNREACHED = (redis.ConnectionError, redis.TimeoutError)
_NOT_THE_NODES = (redis.exceptions.MaxConnectionsError, redis.AuthenticationError)


class StreamCommands:
    """Sends commands about one key to the server, or to the node of a Cluster that has the key.

    Commands that are sent together are one operation with one span, as on a monitored client.

    :param client: a client, also of a Cluster.
    :param key: the key. All other keys of the commands must be in the same slot.
    """

    def __init__(self, client: Any, key: str) -> None:
        self._client = client
        self._key = key
        self._in_cluster = isinstance(client, RedisCluster)
        self._hot_keys = getattr(getattr(client, "connection_pool", None), "hot_keys", None)
        retry = getattr(client, "_retry", None)  # set by monitored clients
        self._retry = retry if isinstance(retry, RetryPolicy) else None
        self._telemetry = telemetry_of(client)
        self._children = self._telemetry.children_only()

    @property
    def server_span(self) -> Span:
        """The parent of the client's spans when no span is current."""
        span: Span = getattr(self._client, "server_span", INVALID_SPAN)
        return span

    def send(self, *commands: Command, name: str = "", errors: bool = False) -> list[Any]:
        """Send commands in one round trip; see :meth:`RawCommands.__call__`.

        :param name: for several commands, the span's name is ``<context_name>.pipeline_<name>``.
        """
        operation = self._started(commands, name, is_transaction=False)
        return run_operation(
            operation, lambda: self._tried(lambda ask: ask(*commands, errors=errors))
        )

    def poll(self, command: Command, found: Callable[[Any], object], block: float = 0.0) -> Any:
        """Send a command that mostly finds nothing. Only a success or a failure is recorded.

        :param found: returns a true value for a reply that is recorded, if a span is current.
        :param block: seconds that the server may wait.
        """
        started = time.time_ns()
        try:
            (reply,) = self.run(lambda ask: ask(command, block=block))
        except Exception as error:
            # These two are not failures: the caller creates the group, or waits again.
            if not is_no_group(error) and not str(error).startswith("UNBLOCKED"):
                operation = self._telemetry.start_command(self.server_span, command, started)
                if operation is not None:
                    operation.fail(error)
            raise
        if found(reply):
            operation = self._children.start_command(self.server_span, command, started)
            if operation is not None:
                operation.end(reply)
            self._sample([command])
        return reply

    def transaction(self, name: str, *commands: Command) -> list[Any]:
        """Send commands in MULTI and EXEC; see :meth:`RawCommands.transaction`."""
        operation = self._started(commands, name, is_transaction=True)
        return run_operation(operation, lambda: self._tried(lambda ask: ask.transaction(*commands)))

    def watching(
        self, key: str, name: str, commands: Sequence[Command], work: Callable[[RawCommands], T]
    ) -> T:
        """Call ``work``, which ends with a transaction. Repeat it if ``key`` has changed meanwhile.

        :param name: for the span's name, as in :meth:`send`.
        :param commands: the transaction's commands, for its span.
        :raises redis.WatchError: ``key`` has changed each time, and nothing was executed.
        """

        def watched(ask: RawCommands) -> T:
            ask(("WATCH", key))
            try:
                return work(ask)
            except (redis.ResponseError, MessageQueueError):
                ask(("UNWATCH",))
                raise
            except redis.WatchError:
                raise
            except BaseException:
                ask.shutdown_socket()
                raise

        def attempt() -> T:
            for attempt in range(_MOST_CONFLICTS):
                try:
                    return self.run(watched)
                except redis.WatchError:
                    time.sleep(0.0002 * attempt)
            raise redis.WatchError(f"{key} changed during each of {_MOST_CONFLICTS} attempts")

        return run_operation(self._started(commands, name, is_transaction=True), attempt)

    def _started(
        self, commands: Sequence[Command], name: str, is_transaction: bool
    ) -> Operation | None:
        self._sample(commands)
        if len(commands) == 1 and not is_transaction:
            return self._telemetry.start_command(self.server_span, commands[0])
        trace_name = f"{self._telemetry.context_name}.pipeline_{name}"
        queued: list[Any] = [(command, {}) for command in commands]
        return self._telemetry.start_batch(self.server_span, trace_name, is_transaction, queued)

    def _tried(self, work: Callable[[RawCommands], T]) -> T:
        """Call :meth:`run`, and retry as ``foo.retries`` says if nothing was executed."""
        if self._retry is None:
            return self.run(work)
        return self._retry.call(lambda: self.run(work), reads=False, in_cluster=self._in_cluster)

    def run(self, work: Callable[[RawCommands], T]) -> T:
        """Call ``work`` with one connection.

        It is called again only if a node of a Cluster redirected it to another node.
        """
        client = self._client
        if self._in_cluster:
            return self._run_in_cluster(work)
        if client.connection is not None:  # the client keeps one connection for itself
            with getattr(client, "connection_lock", client.single_connection_lock):
                return work(RawCommands(client.connection))
        return on_connection(client.connection_pool, work)

    def _run_in_cluster(self, work: Callable[[RawCommands], T]) -> T:
        pool = getattr(self._client, "connection_pool", None)
        # A monitored client's pool has one RedisCluster per process, also after a fork.
        cluster = self._client if pool is None else pool.cluster()
        asked: tuple[str, int] | None = None
        for _ in range(_MOST_REDIRECTIONS):
            node = cluster.get_node(*asked) if asked else cluster.get_node_from_key(self._key)
            try:
                nodes_pool = cluster.get_redis_connection(node).connection_pool
                return on_connection(nodes_pool, work, asking=asked is not None)
            except redis.exceptions.MovedError as error:
                cluster.nodes_manager.move_slot(error)
                asked = None
            except redis.exceptions.AskError as error:
                asked = (error.host, error.port)
            except redis.exceptions.TryAgainError:
                time.sleep(0.05)
            except _NOT_THE_NODES:
                raise
            except (*_UNREACHED, redis.exceptions.ClusterDownError):
                # Ask for the current layout, for the next call.
                with contextlib.suppress(Exception):
                    cluster.nodes_manager.initialize(last_failed_node_name=node.name)
                raise
        raise redis.exceptions.ClusterError(f"{self._key}: redirected too often")

    def _sample(self, commands: Sequence[Command]) -> None:
        if self._hot_keys is not None:
            for args in commands:
                self._hot_keys.sample(args)
