"""Sends commands on one connection: in one round trip, each only once, with replies as bytes.

redis-py's own methods do not fit for four reasons: a plain client may send XADD again if the reply
was lost, gives up XREADGROUP after ``socket_timeout``, decodes bodies, and cannot parse the reply
to XCLAIM with IDLE and JUSTID.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import redis
from redis.cluster import RedisCluster

from ..exceptions import REDIRECTION_ERRORS
from ..telemetry.operations import ClientTelemetry

T = TypeVar("T")
Command = tuple[Any, ...]

_GRACE_SECONDS = 5  # for the reply after a blocking command, without socket_timeout

_ASKING: Command = ("ASKING",)


class RawCommands:
    """Sends commands on one connection.

    :param asking: send ASKING to a node of a Cluster, because another one redirected to it.
    """

    def __init__(self, connection: Any, asking: bool = False) -> None:
        self._connection = connection
        self._asking = asking

    def __call__(self, *commands: Command, block: float = 0.0, errors: bool = False) -> list[Any]:
        """Send commands in one round trip and return their replies.

        :param block: seconds that the reply may take beyond ``socket_timeout``.
        :param errors: return the server's errors among the replies, except redirections.
        :raises redis.ResponseError: the first of the server's errors, after all replies are read.
        """
        connection = self._connection
        wanted = slice(None)
        if self._asking and commands[0] == ("MULTI",):
            commands, wanted = (_ASKING, *commands), slice(1, None)
        elif self._asking:  # ASKING is valid for one command
            commands = tuple(sent for command in commands for sent in (_ASKING, command))
            wanted = slice(1, None, 2)
        options: dict[str, Any] = {"disable_decoding": True}
        if block:
            timeout = connection.socket_timeout
            options["timeout"] = block + (_GRACE_SECONDS if timeout is None else timeout)
        try:
            if len(commands) == 1:
                connection.send_command(*commands[0])
            else:
                connection.send_packed_command(connection.pack_commands(commands))
            replies = [_read(connection, options) for _ in commands]
        except BaseException:
            # The reply may still be unread. No other command may read it.
            connection.disconnect()
            raise
        for reply in replies:
            if isinstance(reply, REDIRECTION_ERRORS if errors else Exception):
                raise reply
        return replies[wanted]

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


def _read(connection: Any, options: dict[str, Any]) -> Any:
    try:
        return connection.read_response(**options)
    except redis.ResponseError as error:
        return error


def on_connection(pool: Any, work: Callable[[RawCommands], T], asking: bool = False) -> T:
    """Call ``work`` with a connection of a pool."""
    connection = pool.get_connection()
    try:
        return work(RawCommands(connection, asking))
    finally:
        pool.release(connection)


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


def _ask(connection: Any, args: tuple[Any, ...], longer: float) -> Any:
    try:
        connection.send_command(*args)
        timeout = connection.socket_timeout
        if longer:
            grace = _GRACE_SECONDS if timeout is None else timeout
            return connection.read_response(disable_decoding=True, timeout=longer + grace)
        return connection.read_response(disable_decoding=True)
    except redis.ResponseError:
        raise
    except BaseException:
        # The reply may still be unread. No other command may read it.
        connection.disconnect()
        raise
