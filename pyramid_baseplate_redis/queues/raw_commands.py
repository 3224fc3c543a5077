"""Sends a queue's commands on one connection: in one round trip, once, with replies as bytes.

redis-py's own methods do not fit for four reasons: a plain client may send XADD again if the reply
was lost, gives up BLPOP and XREADGROUP after ``socket_timeout``, decodes bodies, and cannot parse
the reply to XCLAIM with IDLE and JUSTID.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import redis
from opentelemetry.trace import INVALID_SPAN, Span
from redis.cluster import RedisCluster
from redis.utils import SENTINEL

from ..deadlines import DeadlinePolicy
from ..exceptions import REDIRECTION_ERRORS
from ..pool.connection import TRANSACTION
from ..pool.direct.packing import DIRECT_COMMANDS
from ..retries import was_unsent
from ..telemetry.call_details import note_retry
from ..telemetry.operations import ClientTelemetry

T = TypeVar("T")
Command = tuple[Any, ...]

_GRACE_SECONDS = 5  # for the reply after a blocking command, without socket_timeout

# A blocking command is read with a timeout of its own.
_DIRECT = DIRECT_COMMANDS | {"BLPOP", "XREADGROUP"}
_ASKING: Command = ("ASKING",)
_MOST_REDIRECTIONS = 16
UNREACHED = (redis.ConnectionError, redis.TimeoutError)
_NOT_THE_NODES = (redis.exceptions.MaxConnectionsError, redis.AuthenticationError)
# After these errors of a Cluster, the slots may be on other nodes.
_OUTDATED = (
    *UNREACHED, redis.exceptions.ClusterDownError, redis.exceptions.SlotNotCoveredError,
)  # fmt: skip


class RawCommands:
    """Sends commands on one connection.

    :param asking: send ASKING to a node of a Cluster, because another one redirected to it.
    """

    def __init__(self, connection: Any, asking: bool = False) -> None:
        self._connection = connection
        self._asking = asking

    def __call__(
        self, *commands: Command, block: float = 0.0, errors: bool = False,
        later_redirections: bool = False,
    ) -> list[Any]:  # fmt: skip
        """Send commands in one round trip and return their replies.

        :param block: seconds that the reply may take beyond ``socket_timeout``.
        :param errors: return the server's errors among the replies, except redirections.
        :param later_redirections: with ``errors``, return also the redirections of all commands but
            the first. While a Cluster moves a slot, a node redirects the commands about keys that
            it does not have, and executes the others.
        :raises redis.ResponseError: the first of the server's errors, after all replies are read.
        """
        connection = self._connection
        wanted = slice(None)
        if self._asking and commands[0] == ("MULTI",):
            commands, wanted = (_ASKING, *commands), slice(1, None)
        elif self._asking:  # ASKING is valid for one command
            commands = tuple(sent for command in commands for sent in (_ASKING, command))
            wanted = slice(1, None, 2)
        timeout = SENTINEL
        if block:
            usual = connection.socket_timeout
            timeout = block + (_GRACE_SECONDS if usual is None else usual)
        try:
            replies = _replies(connection, commands, timeout)
        except BaseException:
            # The reply may still be unread. No other command may read it.
            connection.disconnect()
            raise
        replies = replies[wanted]
        for reply in replies[:1] if later_redirections else replies:
            if isinstance(reply, REDIRECTION_ERRORS if errors else Exception):
                raise reply
        return replies

    def shutdown_socket(self) -> None:
        """Close the connection, which also ends WATCH."""
        self._connection.disconnect()

    def transaction(self, *commands: Command) -> list[Any]:
        """Send commands in MULTI and EXEC, in one round trip, and return EXEC's replies.

        :raises redis.WatchError: a watched key has changed, and nothing was executed.
        """
        *_, replies = self(("MULTI",), *commands, ("EXEC",))
        if replies is None:
            raise redis.WatchError("Watched variable changed.")
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        made: list[Any] = replies
        return made


def _replies(connection: Any, commands: Sequence[Command], timeout: Any) -> list[Any]:
    """Send commands and return the replies, errors included; ``timeout`` is for one command."""
    if getattr(connection, "is_direct", False):
        if len(commands) == 1 and commands[0][0] in _DIRECT:
            try:
                return [connection.ask(commands[0], decode=False, timeout=timeout)]
            except redis.ResponseError as error:
                return [error]
        if timeout is SENTINEL and (states := _states_of(commands)) is not None:
            replies: list[Any] = connection.ask_all(commands, states, decode=False)
            return replies
    if len(commands) == 1:
        connection.send_command(*commands[0])
    else:
        connection.send_packed_command(connection.pack_commands(commands))
    return [_read(connection, timeout) for _ in commands]


def _states_of(commands: Sequence[Command]) -> tuple[int, ...] | None:
    """Return the states that commands lead to; ``None`` unless they may be sent directly."""
    states: tuple[int, ...] = ()
    if commands[0] == ("MULTI",) and commands[-1] == ("EXEC",):
        commands, states = commands[1:-1], TRANSACTION
    return states if all(command[0] in _DIRECT for command in commands) else None


def _read(connection: Any, timeout: Any) -> Any:
    options = {} if timeout is SENTINEL else {"timeout": timeout}
    try:
        return connection.read_response(disable_decoding=True, **options)
    except redis.ResponseError as error:
        return error


class RawClient:
    """Runs commands about one key on a connection to the server, or to the node that has the key.

    :param client: a client, also of a Cluster.
    :param key: the key. All other keys of the commands must be in the same slot.
    """

    def __init__(self, client: Any, key: str) -> None:
        self._client = client
        self._key = key
        self.in_cluster = isinstance(client, RedisCluster)
        pool = getattr(client, "connection_pool", None)  # redis-py's RedisCluster has none
        self.pool: Any = client if pool is None else pool
        self._hot_keys = getattr(pool, "hot_keys", None)
        self._deadlines: DeadlinePolicy | None = getattr(client, "deadlines", None)
        self.telemetry = telemetry_of(client)
        self.connection_failures = 0  #: how often a connection has failed

    @property
    def server_span(self) -> Span:
        """The parent of the client's spans when no span is current."""
        span: Span = getattr(self._client, "server_span", INVALID_SPAN)
        return span

    def sample(self, *commands: Command) -> None:
        """Count the keys of commands, if ``foo.hot_keys`` is set."""
        if self._hot_keys is not None:
            for args in commands:
                self._hot_keys.sample(args)

    def run(self, work: Callable[[RawCommands], T], *, blocks: bool = False) -> T:
        """Call ``work`` with one connection and return its result.

        In a Cluster it is called again in two cases, in which nothing was executed:

        1. A node redirected it to another node.
        2. The node could not be reached, and the refreshed layout names another one. This happens
           once.

        :param work: sends commands; only the last ones may write.
        :param blocks: whether it waits for messages, which the client's deadline does not bound.
        """
        return self._run(work) if blocks else self.bounded(lambda: self._run(work))

    def bounded(self, call: Callable[[], T]) -> T:
        """Call ``call`` with the client's deadline and return its result."""
        return call() if self._deadlines is None else self._deadlines.run(call)

    def _run(self, work: Callable[[RawCommands], T]) -> T:
        client = self._client
        try:
            if self.in_cluster:
                return self._run_in_cluster(work)
            if client.connection is None:
                return _on_connection(client.connection_pool, work)
            # The client keeps one connection for itself.
            with getattr(client, "connection_lock", client.single_connection_lock):
                if getattr(client.connection, "owes_replies", False):
                    # The previous command was interrupted. Its reply would be taken for ours.
                    client.connection.disconnect()
                return work(RawCommands(client.connection))
        except UNREACHED:
            self.connection_failures += 1
            raise

    def _run_in_cluster(self, work: Callable[[RawCommands], T]) -> T:
        pool = getattr(self._client, "connection_pool", None)
        # A monitored client's pool has one RedisCluster per process, also after a fork.
        cluster = self._client if pool is None else pool.cluster()
        asked: tuple[str, int] | None = None
        is_second_attempt = False
        for _ in range(_MOST_REDIRECTIONS):
            node = None
            try:
                node = cluster.get_node(*asked) if asked else cluster.get_node_from_key(self._key)
                nodes_pool = cluster.get_redis_connection(node).connection_pool
                return _on_connection(nodes_pool, work, asking=asked is not None)
            except redis.exceptions.MovedError as error:
                cluster.nodes_manager.move_slot(error)
                asked = None
            except redis.exceptions.AskError as error:
                asked = (error.host, error.port)
            except redis.exceptions.TryAgainError:
                time.sleep(0.05)
            except _NOT_THE_NODES:
                raise
            except _OUTDATED as error:
                # If the refresh fails as well, the node's error is the more useful one.
                with contextlib.suppress(Exception):
                    cluster.nodes_manager.initialize(last_failed_node_name=node and node.name)
                if asked or is_second_attempt or not was_unsent(error):
                    raise
                if cluster.get_node_from_key(self._key) == node:
                    raise
                is_second_attempt = True
                note_retry()
        raise redis.exceptions.ClusterError(f"{self._key}: redirected too often")


def _on_connection(pool: Any, work: Callable[[RawCommands], T], asking: bool = False) -> T:
    try:
        connection = pool.get_connection()
    except UNREACHED as error:
        error.unsent = True  # type: ignore[union-attr]  # redis-py's own connections lack it
        raise
    try:
        return work(RawCommands(connection, asking))
    finally:
        pool.release(connection)


def is_unblocked(error: BaseException) -> bool:
    """Return whether an administrator or a failover ended a wait. No message was taken."""
    return str(error).startswith("UNBLOCKED")


def is_no_group(error: BaseException) -> bool:
    """Return whether the server reported that the stream or its group does not exist."""
    text = str(error)
    return text.startswith("NOGROUP") or "no such key" in text or "no longer exists" in text


def client_of(client: Any) -> Any:
    """Return the client that a queue uses.

    :param client: a pool or a client.
    :raises TypeError: it is neither.
    """
    if isinstance(client, redis.ConnectionPool):
        return redis.Redis(connection_pool=client)
    if isinstance(client, (redis.Redis, RedisCluster)):
        return client  # hasattr() would make a Cluster's client ask for the layout
    # Name its type only: the object may be a URL with a password.
    given = type(client).__name__
    raise TypeError(f"client: {given} is neither a redis.ConnectionPool nor a client of redis-py")


def telemetry_of(client: Any) -> ClientTelemetry:
    """Return a client's telemetry. For a plain client it starts no root spans."""
    telemetry = getattr(client, "client_telemetry", None)
    if isinstance(telemetry, ClientTelemetry):
        return telemetry
    pool = getattr(client, "connection_pool", None)  # redis-py's RedisCluster has none
    settings = getattr(pool, "client_settings", None)
    context_name = settings.name if settings else "redis"
    return ClientTelemetry.for_pool(pool, context_name).children_only()
