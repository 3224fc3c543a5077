"""Transactions of a Cluster's pipeline: WATCH, then MULTI ... EXEC, all on one node."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.cluster import TransactionStrategy
from redis.retry import Retry

from ..client.pipeline_base import KeepsErrorCodes
from ..exceptions import REDIRECTION_ERRORS
from ..pool.connection import PooledConnection
from ..pool.error_messages import explain_cross_slot, hide_arguments
from ..retries import was_unsent
from ..runtime.deadline import ends_at
from .callbacks import TransactionCallbacks
from .rerouting import reroute

T = TypeVar("T")

_MOST_REDIRECTIONS = 10


class _Backoff(ExponentialWithJitterBackoff):
    """redis-py's backoff, but none before the second attempt: MOVED has named the right node."""

    def __init__(self) -> None:
        super().__init__(base=0.01, cap=0.5)

    def compute(self, failures: int) -> float:
        if failures <= 1:
            return 0.0
        return max(0.0, min(super().compute(failures), ends_at() - time.monotonic()))


class RedirectionRetry(Retry):
    """redis-py's retries, for redirections only: other errors may mean that EXEC was executed."""

    def __init__(self) -> None:
        super().__init__(_Backoff(), _MOST_REDIRECTIONS, REDIRECTION_ERRORS)

    def call_with_retry(
        self,
        do: Callable[[], T],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> T:
        """See :meth:`redis.retry.Retry.call_with_retry`."""

        def failed(error: Exception, failures: int) -> None:
            fail(error, failures) if with_failure_count else fail(error)
            if not isinstance(error, REDIRECTION_ERRORS):
                raise error

        return super().call_with_retry(do, failed, is_retryable, with_failure_count=True)


class MonitoredTransactionStrategy(KeepsErrorCodes, TransactionStrategy):
    """redis-py's strategy for transactions, with a span for each command sent before MULTI.

    It also corrects how redis-py handles lost connections, redirections and callbacks while keys
    are watched; the comments say where.
    """

    _pipe: Any  # a MonitoredRedisClusterPipeline, whose module imports this one
    _pool: Any = None  # where the connection comes from
    has_watched = False  # whether a node watches keys for this transaction

    def reset(self) -> None:
        """Discard queued commands and watched keys, and return the connection to the pool.

        Differs from redis-py in two ways: an interruption neither returns the connection twice nor
        keeps it, and nothing is sent on a connection that has just failed.
        """
        connection, self._transaction_connection = self._transaction_connection, None
        watching, self._watching = self._watching, False
        self._command_queue = []
        self._pipeline_slots = set()
        self._explicit_transaction = self._executing = self.has_watched = False
        if connection is not None:
            self._pipe.return_connection(connection, watching, self._give_back)

    @property
    def connection(self) -> Any:
        """The connection on which keys are watched and the transaction is executed."""
        return self._transaction_connection

    def _give_back(self, connection: Any) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:  # None after an interruption; the pool's slot is then free already
            pool.release(connection)

    def _get_client_and_connection_for_transaction(self) -> Any:
        before: Any = self._transaction_connection
        if isinstance(before, PooledConnection):
            # First, because redis-py looks up the slot's node. If another thread held the layout's
            # lock at the time of the fork, the child's copy of the lock is never released.
            before.check_owner()
        client, connection = super()._get_client_and_connection_for_transaction()
        if connection is not before:
            # Kept for the release. redis-py looks the pool up by the node's address, but the node
            # may have left the Cluster.
            self._pool = client.connection_pool
        self._callbacks.of_node = client.response_callbacks
        return client, connection

    def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().execute_command(*args, **kwargs)
        except redis.exceptions.RedisClusterException as error:
            explain_cross_slot(error)
            hide_arguments(error, args)
            raise

    def _immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        self._pipe.check_replies()
        execute = partial(super()._immediate_execute_command, *args, **options)
        result = self._pipe.run_as_operation(args, lambda: self._rerouted(execute))
        if args[0] in self.IMMEDIATE_EXECUTE_COMMANDS:
            self.has_watched = args[0] == "WATCH"
        return self._callbacks.apply_own(args[0], result, **options)

    def _execute_transaction_with_retries(self, stack: Any, raise_on_error: bool) -> Any:
        execute = super()._execute_transaction_with_retries
        return self._rerouted(lambda: execute(stack, raise_on_error))

    def _rerouted(self, execute: Callable[[], T]) -> T:
        # After WATCH the transaction has to stay on its node: no other node watches the keys.
        return reroute(self._pipe, execute, anywhere=not self.has_watched, refresh=True)

    @property
    def _callbacks(self) -> TransactionCallbacks:
        callbacks: Any = self._pipe.cluster_response_callbacks
        made: TransactionCallbacks = callbacks
        return made

    def _reinitialize_on_error(self, error: Any, failure_count: Any) -> None:
        if type(error) in REDIRECTION_ERRORS:  # not MOVED, which is a subclass of AskError
            # A transaction cannot follow an ASK, and the slot has not moved yet. redis-py would
            # treat it as a MOVED, which changes the layout for all clients of the process.
            was_executing, self._executing = self._executing, False
            if self.has_watched and was_executing and type(error) is redis.exceptions.TryAgainError:
                raise error  # the node no longer watches the keys
        else:
            connection, self._transaction_connection = self._transaction_connection, None
            if connection is not None:
                connection.disconnect()
                self._pipe.return_connection(connection, False, self._give_back)
            if was_unsent(error):
                self._executing = False
                raise error  # reroute() refreshes the layout at once; redis-py only each fifth time
            super()._reinitialize_on_error(error, failure_count)
        # redis-py would continue on a connection to the other node, which watches nothing.
        if self.has_watched and isinstance(error, self.SLOT_REDIRECT_ERRORS):
            self.reset()
            raise redis.WatchError("Slot rebalancing occurred while watching keys")
