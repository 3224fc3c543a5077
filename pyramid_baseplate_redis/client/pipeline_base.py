"""The base classes that the monitored pipelines of a server and of a Cluster share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import redis
from opentelemetry.trace import Span
from redis.client import CaseInsensitiveDict

from ..deadlines import DeadlinePolicy
from ..pool.connection import PooledConnection
from ..pool.error_messages import note_client
from ..retries import RetryPolicy
from ..telemetry.hot_keys.tracker import HotKeyTracker
from ..telemetry.operations import ClientTelemetry, note_code, run_operation

P = TypeVar("P", bound="MonitoredPipelineBase")
T = TypeVar("T")


class MonitoredPipelineBase:
    """Mixin for redis-py's pipeline classes: telemetry of ``execute()`` and immediate commands."""

    trace_name: str
    server_span: Span
    is_repeated = False  # the caller executes it again after a WatchError
    _telemetry: ClientTelemetry
    _retry: RetryPolicy | None = None
    _deadlines: DeadlinePolicy | None = None
    _hot_keys: HotKeyTracker | None = None

    def __enter__(self: P) -> P:
        return self

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send all queued commands in one span and return their results.

        :param raise_on_error: raise the first error; otherwise errors are among the results. The
            span records the first error in both cases.
        :raises redis.WatchError: a watched key has changed. The span does not count as failed.
        """
        batch = self._batch()
        if batch is None:
            return self._bounded(partial(self._executed, raise_on_error))
        commands, is_transaction = batch
        if self._hot_keys is not None:
            for args, _ in commands:
                self._hot_keys.sample(args)
        call = partial(self._executed, raise_on_error)
        return run_operation(
            self._telemetry.start_batch(
                self.server_span, self.trace_name, is_transaction, commands
            ),
            call if self._deadlines is None else partial(self._deadlines.run, call),
            may_contain_errors=not raise_on_error,
        )

    def _batch(self) -> tuple[Sequence[Any], bool] | None:
        """Return the queued commands and whether they are a transaction.

        The commands are redis-py's pairs of arguments and options. ``None`` if there is nothing to
        send.
        """
        raise NotImplementedError

    def _executed(self, raise_on_error: bool) -> list[Any]:
        """Execute the queued commands without a span and return their results."""
        raise NotImplementedError

    def run_as_operation(self, args: tuple[Any, ...], call: Callable[[], T]) -> T:
        """Call ``call``, which sends the command ``args`` immediately, as its operation."""
        if self._hot_keys is not None:
            self._hot_keys.sample(args)
        return self._telemetry.run(self.server_span, args, lambda: self._bounded(call))

    def _bounded(self, call: Callable[[], T]) -> T:
        return call() if self._deadlines is None else self._deadlines.run(call)

    def return_connection(
        self, connection: Any, watching: bool, release: Callable[[Any], None]
    ) -> None:
        """Return the pipeline's connection to its pool; send nothing if it has just failed.

        :param watching: whether the connection watches keys.
        :param release: the pool's ``release``.
        """
        if connection.pid != os.getpid():
            connection.disconnect()  # this process's copy; the parent returns the original
            return
        if watching and connection.is_connected and not getattr(connection, "owes_replies", False):
            try:
                self._bounded(lambda: _unwatch(connection))
            except (redis.ConnectionError, redis.TimeoutError):
                connection.disconnect()
        release(connection)


def _unwatch(connection: Any) -> None:
    connection.send_command("UNWATCH")
    connection.read_response()


class KeepsErrorCodes:
    """Mixin for redis-py's classes that put a command before the server's error message."""

    connection: Any = None  # the one connection on which it is executed

    def annotate_exception(self, exception: Any, number: int, command: Any) -> None:
        note_code(exception)
        if isinstance(self.connection, PooledConnection):  # it sees no errors in a reply to EXEC
            note_client(exception, self.connection.client, self.connection)
        plain: Any = super()
        plain.annotate_exception(exception, number, command)


def copied_callbacks(callbacks: dict[str, Any]) -> CaseInsensitiveDict:
    """Return a copy of response callbacks that several clients share."""
    own = CaseInsensitiveDict({})  # dict.copy() would return a plain dict
    dict.update(own, callbacks)
    return own
