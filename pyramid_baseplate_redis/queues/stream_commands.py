"""The commands of a durable queue, sent to the server or node that has it, each an operation."""

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
from ..telemetry.operations import Operation
from .raw_commands import Command, RawCommands, is_no_group, on_connection, telemetry_of

T = TypeVar("T")

_MOST_REDIRECTIONS = 16
_MOST_CONFLICTS = 100
_UNREACHED = (redis.ConnectionError, redis.TimeoutError)
_NOT_THE_NODES = (redis.exceptions.MaxConnectionsError, redis.AuthenticationError)


class StreamCommands:
    """Sends commands about one key, to a server or to the node that has the key.

    What is sent in one go is one operation, with a span, as on a monitored client.

    :param client: a client, of a Cluster too.
    :param key: the key; whatever else the commands are about is in the same slot.
    """

    def __init__(self, client: Any, key: str) -> None:
        self._client = client
        self._key = key
        self._in_cluster = isinstance(client, RedisCluster)
        self._hot_keys = getattr(getattr(client, "connection_pool", None), "hot_keys", None)
        retry = getattr(client, "_retry", None)  # a monitored client's
        self._retry = retry if isinstance(retry, RetryPolicy) else None
        self._telemetry = telemetry_of(client)
        self._children = self._telemetry.children_only()

    @property
    def server_span(self) -> Span:
        """What the client's spans belong to when no span is current."""
        span: Span = getattr(self._client, "server_span", INVALID_SPAN)
        return span

    def send(self, *commands: Command, name: str = "", errors: bool = False) -> list[Any]:
        """Send commands in one go; see :meth:`RawCommands.__call__`.

        :param name: of the span, ``<context_name>.pipeline_<name>``, if there are several.
        """
        operation = self._started(commands, name, is_transaction=False)
        return _told(operation, lambda: self._tried(lambda ask: ask(*commands, errors=errors)))

    def poll(self, command: Command, found: Callable[[Any], object], block: float = 0.0) -> Any:
        """Send a command that mostly finds nothing; only if it does, or fails, it is told of.

        :param found: whether a reply is worth a span, below another one.
        :param block: seconds that the server may wait.
        """
        started = time.time_ns()
        try:
            (reply,) = self.run(lambda ask: ask(command, block=block))
        except Exception as error:
            # A group is made then, and a wait that was ended goes on.
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
        return _told(operation, lambda: self._tried(lambda ask: ask.transaction(*commands)))

    def watching(
        self, key: str, name: str, commands: Sequence[Command], work: Callable[[RawCommands], T]
    ) -> T:
        """Do something that ends in a transaction, again as long as ``key`` changes meanwhile.

        :param commands: those of the transaction, for its span.
        :raises redis.WatchError: if it always does; nothing was executed.
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
            raise redis.WatchError(f"{key} changed each of {_MOST_CONFLICTS} times")

        return _told(self._started(commands, name, is_transaction=True), attempt)

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
        """As :meth:`run`; again, as ``foo.retries`` says, where nothing was executed."""
        if self._retry is None:
            return self.run(work)
        return self._retry.call(lambda: self.run(work), reads=False, in_cluster=self._in_cluster)

    def run(self, work: Callable[[RawCommands], T]) -> T:
        """Do something on one connection.

        It is done again only where a node of a Cluster refused it since the key is elsewhere.
        """
        client = self._client
        if self._in_cluster:
            return self._run_in_cluster(work)
        if client.connection is not None:  # of a client() that keeps one connection for itself
            with getattr(client, "connection_lock", client.single_connection_lock):
                return work(RawCommands(client.connection))
        return on_connection(client.connection_pool, work)

    def _run_in_cluster(self, work: Callable[[RawCommands], T]) -> T:
        pool = getattr(self._client, "connection_pool", None)
        # A monitored client's is the one of this process, also behind a fork.
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
                # Whoever has the slot now is asked for, for the next time.
                with contextlib.suppress(Exception):
                    cluster.nodes_manager.initialize(last_failed_node_name=node.name)
                raise
        raise redis.exceptions.ClusterError(f"{self._key}: redirected too often")

    def _sample(self, commands: Sequence[Command]) -> None:
        if self._hot_keys is not None:
            for args in commands:
                self._hot_keys.sample(args)


def _told(operation: Operation | None, call: Callable[[], T]) -> T:
    if operation is None:
        return call()
    try:
        result = call()
    except BaseException as error:
        operation.fail(error)
        raise
    operation.end(result)
    return result
