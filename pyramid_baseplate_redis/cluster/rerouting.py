"""A second attempt on another node, after a node of a Cluster could not be reached.

redis-py repeats a command up to ten times after any failed connection, although the node may have
executed it. Here a command is repeated only if it was not sent: once, after the layout was
refreshed, and never on the node that could not be reached.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NoReturn, TypeVar

import redis
from redis.cluster import PRIMARY, ClusterNode, RedisCluster, get_node_name
from redis.exceptions import RedisClusterException

from ..exceptions import ForkedConnectionError, PoolReleaseError
from ..retries import was_unsent
from ..telemetry.call_details import note_retry

T = TypeVar("T")

UNREACHED = (redis.ConnectionError, redis.TimeoutError)


class _Attempts:
    """The attempts at one command, pipeline or transaction; there are at most two."""

    __slots__ = ("asked", "error", "is_answered", "is_second_noted", "unreached")

    def __init__(self) -> None:
        self.asked = ""  # the node to which a connection was requested last
        self.is_answered = False  # whether a node has executed a part
        self.unreached = ""  # the node that could not be reached, which the second attempt avoids
        self.error: Exception | None = None  # of the first attempt
        self.is_second_noted = False  # whether the span counts the second attempt

    def ask(self, node: str) -> None:
        if self.error is not None:
            if node == self.unreached:
                raise self.error
            if not self.is_second_noted:
                self.is_second_noted = True
                note_retry()
        self.asked = node

    def give_up(self, node: str, error: Exception) -> None:
        self.unreached, self.error = node, error


# A context variable, because redis-py requests a node's connection many calls below reroute().
_attempts: ContextVar[_Attempts | None] = ContextVar(
    "pyramid_baseplate_redis_cluster_attempts", default=None
)


def reroute(
    cluster: RedisCluster,
    do: Callable[[], T],
    *,
    anywhere: bool = True,
    refresh: bool = False,
    unreached: Exception | None = None,
) -> T:
    """Call ``do``, once more if its node could not be reached, and return the result.

    :param cluster: the client or pipeline that sends.
    :param do: sends a command, a pipeline or a transaction.
    :param anywhere: whether another node may execute it.
    :param refresh: whether to refresh the layout before the second attempt. For single commands
        redis-py does so itself.
    :param unreached: the error of the first attempt, if the caller has already made it.
    :raises redis.ConnectionError: the node could not be reached and may not be replaced, or the
        refreshed layout still names it; or the connection failed after something was sent.
    :raises redis.TimeoutError: in the same cases.
    """
    attempts = _Attempts()
    token = _attempts.set(attempts)
    try:
        if unreached is not None:
            node: Any = unreached.connection  # type: ignore[attr-defined]  # as redis-py sets it
            attempts.give_up(get_node_name(node.host, node.port), unreached)
            return _do_elsewhere(cluster, do, attempts)
        try:
            return do()
        except ForkedConnectionError:
            # The node is fine. A refresh could wait without end: the layout is the parent's, and
            # another thread of the parent may have held its lock at the time of the fork.
            raise
        except UNREACHED as error:
            if attempts.is_answered or not was_unsent(error):
                raise
            attempts.give_up(attempts.asked, error)
            if refresh:
                # If this fails as well, the node's error is the more useful one.
                with contextlib.suppress(RedisClusterException):
                    cluster.nodes_manager.initialize(last_failed_node_name=attempts.unreached)
            if not anywhere:
                raise
            return _do_elsewhere(cluster, do, attempts)
    except UNREACHED as error:
        if attempts.is_answered:
            # Nothing was sent to this node, but another one has executed its part: a retry of the
            # whole, by foo.retries or by the application, would execute that part again.
            error.unsent = False  # type: ignore[union-attr]
        raise
    finally:
        attempts.error = None  # breaks a cycle: its traceback refers to the attempts
        _attempts.reset(token)


def _do_elsewhere(cluster: Any, do: Callable[[], T], attempts: _Attempts) -> T:
    default_node = cluster.get_default_node()
    if default_node is not None and default_node.name == attempts.unreached:
        cluster.replace_default_node()  # like redis-py: it gets commands without a key
    return do()


def raise_handled(error: PoolReleaseError) -> NoReturn:
    """Raise the exception that redis-py was handling when it released a connection twice.

    :raises PoolReleaseError: ``error``, if redis-py was handling none.
    """
    if error.__context__ is None:
        raise error
    raise error.__context__ from None


def last_asked_node() -> str:
    """Return the node to which a connection was requested last, inside :func:`reroute`."""
    attempts = _attempts.get()
    return "" if attempts is None else attempts.asked


class Reroutable(RedisCluster):
    """Mixin for clients and pipelines whose commands :func:`reroute` may send to another node."""

    def get_redis_connection(self, node: ClusterNode) -> Any:
        """See :meth:`redis.cluster.RedisCluster.get_redis_connection`."""
        attempts = _attempts.get()
        if attempts is not None:
            attempts.ask(node.name)
        return super().get_redis_connection(node)

    def get_node(
        self, host: str | None = None, port: int | None = None, node_name: str | None = None
    ) -> ClusterNode | None:
        """See :meth:`redis.cluster.RedisCluster.get_node`.

        A node that is not in the layout yet, but to which a command is redirected, becomes known.
        """
        node: ClusterNode | None = super().get_node(host, port, node_name)
        if node is None and node_name and _attempts.get() is not None:
            # Only redis-py's handling of ASK asks by name. For MOVED, redis-py adds the node.
            address, _, number = node_name.rpartition(":")
            made = ClusterNode(address, int(number), PRIMARY)
            node = self.nodes_manager.nodes_cache.setdefault(node_name, made)
        return node

    def _execute_command(self, target_node: Any, *args: Any, **kwargs: Any) -> Any:
        attempts = _attempts.get()
        if attempts is not None:
            attempts.ask(target_node.name)  # before redis-py refreshes the layout again
        try:
            execute: Any = super()._execute_command
            response = execute(target_node, *args, **kwargs)
        except PoolReleaseError as error:
            # If a node redirects to one that cannot be reached, redis-py releases the first node's
            # connection twice.
            raise_handled(error)
        if attempts is not None:
            attempts.is_answered = True
        return response
