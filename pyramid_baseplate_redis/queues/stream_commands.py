"""Sends a durable queue's commands to the server or node that has it, with spans and metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import redis

from ..exceptions import REDIRECTION_ERRORS, MessageQueueError
from ..retries import RetryPolicy
from ..telemetry.call_details import pop_call_details
from ..telemetry.messaging.spans import Settlement
from ..telemetry.operations import ClientTelemetry, Operation, run_operation
from .raw_commands import Command, RawClient, RawCommands, is_no_group, is_unblocked

T = TypeVar("T")

_MOST_CONFLICTS = 100


class StreamCommands(RawClient):
    """Sends commands about one key, with retries, spans and metrics.

    Commands that are sent together are one operation with one span, as on a monitored client.
    """

    def __init__(self, client: Any, key: str) -> None:
        super().__init__(client, key)
        retry = getattr(client, "_retry", None)  # set by monitored clients
        self._retry = retry if isinstance(retry, RetryPolicy) else None
        self._children = self.telemetry.children_only()

    def send(
        self, *commands: Command, name: str = "", errors: bool = False,
        settlement: Settlement | None = None,
    ) -> list[Any]:  # fmt: skip
        """Send commands in one round trip; see :meth:`RawCommands.__call__`.

        :param name: for several commands, the span's name is ``<context_name>.pipeline_<name>``.
        :param settlement: describes the span, if the commands settle messages.
        """
        run = run_operation if settlement is None else settlement.run
        operation = self._started(commands, name, is_transaction=False)
        return run(operation, lambda: self._tried(lambda ask: ask(*commands, errors=errors)))

    def poll(self, command: Command, found: Callable[[Any], object], block: float = 0.0) -> Any:
        """Send a command that mostly finds nothing. Only a success or a failure is recorded.

        :param found: returns a true value for a reply that is recorded, if a span is current.
        :param block: seconds that the server may wait.
        """
        return self.poll_with(command, found, block=block)[0]

    def poll_with(
        self, command: Command, found: Callable[[Any], object], *others: Command,
        block: float = 0.0,
    ) -> list[Any]:  # fmt: skip
        """Poll as :meth:`poll` does, with other commands in the same round trip.

        :param others: sent after the first command, and not recorded.
        :returns: the replies. Those to the other commands may be errors.
        """
        started = time.time_ns()
        pop_call_details()  # discard the details of a poll that found nothing
        try:
            replies = self.run(
                lambda ask: ask(
                    command, *others, block=block, errors=True, later_redirections=True
                ),
                blocks=block > 0,
            )
            reply = replies[0]
            if isinstance(reply, Exception):
                raise reply
        except Exception as error:
            # These two are not failures: the caller creates the group, or waits again.
            if not is_no_group(error) and not is_unblocked(error):
                operation = self.telemetry.start_command(self.server_span, command, started)
                if operation is not None:
                    operation.fail(error)
            raise
        if found(reply):
            operation = self._children.start_command(self.server_span, command, started)
            if operation is not None:
                operation.end(reply)
            self.sample(command)
        return replies

    def transaction(
        self, name: str, *commands: Command, settlement: Settlement | None = None
    ) -> list[Any]:
        """Send commands in MULTI and EXEC; see :meth:`RawCommands.transaction`.

        :param name: for the span's name, as in :meth:`send`.
        :param settlement: as in :meth:`send`.
        """
        run = run_operation if settlement is None else settlement.run
        operation = self._started(commands, name, is_transaction=True)
        return run(operation, lambda: self._tried(lambda ask: ask.transaction(*commands)))

    def watching(
        self, keys: str | bytes | tuple[str | bytes, ...], name: str, commands: Sequence[Command],
        work: Callable[[RawCommands], T],
        settlement: Settlement | None = None, *, is_poll: bool = False,
        attempts: int = _MOST_CONFLICTS,
    ) -> T:  # fmt: skip
        """Call ``work``, which ends with a transaction. Repeat it if a key has changed meanwhile.

        :param keys: the key or keys to watch.
        :param name: for the span's name, as in :meth:`send`.
        :param commands: the transaction's commands, for its span.
        :param settlement: as in :meth:`send`.
        :param is_poll: whether the span needs a current one, as in :meth:`poll`.
        :param attempts: how often to try.
        :raises redis.WatchError: a key has changed each time, and nothing was executed.
        """

        watched_keys = (keys,) if isinstance(keys, (str, bytes)) else keys

        def watched(ask: RawCommands) -> T:
            # One command for each key: while a Cluster moves the slot, a node refuses a command
            # about several keys if one is missing. A missing key stays unwatched.
            watches = [("WATCH", key) for key in watched_keys]
            try:
                for reply in ask(*watches, errors=True, later_redirections=True):
                    if isinstance(reply, Exception) and not isinstance(reply, REDIRECTION_ERRORS):
                        raise reply
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
            for attempt in range(attempts):
                try:
                    return self.run(watched)
                except redis.WatchError:
                    time.sleep(0.0002 * attempt)
            raise redis.WatchError(f"{watched_keys[0]!r} changed in each of {attempts} attempts")

        run = run_operation if settlement is None else settlement.run
        telemetry = self._children if is_poll else self.telemetry
        operation = self._started(commands, name, is_transaction=True, telemetry=telemetry)
        return run(operation, lambda: self.bounded(attempt))

    def _started(
        self, commands: Sequence[Command], name: str, is_transaction: bool,
        telemetry: ClientTelemetry | None = None,
    ) -> Operation | None:  # fmt: skip
        telemetry = telemetry or self.telemetry
        self.sample(*commands)
        if len(commands) == 1 and not is_transaction:
            return telemetry.start_command(self.server_span, commands[0])
        trace_name = f"{self.telemetry.context_name}.pipeline_{name}"
        queued: list[Any] = [(command, {}) for command in commands]
        return telemetry.start_batch(self.server_span, trace_name, is_transaction, queued)

    def _tried(self, work: Callable[[RawCommands], T]) -> T:
        """Call :meth:`run`, and retry as ``foo.retries`` says if nothing was executed."""
        retry = self._retry
        if retry is None:
            return self.run(work)
        return self.bounded(
            lambda: retry.call(lambda: self.run(work), reads=False, in_cluster=self.in_cluster)
        )


def check_stream(ask: RawCommands, key: str) -> None:
    """Check that a key is a stream, or missing.

    :raises redis.ResponseError: it is something else.
    """
    (kind,) = ask(("TYPE", key))
    if kind not in (b"stream", b"none"):
        raise redis.ResponseError(
            f"WRONGTYPE {key} is a {kind.decode()}, but must be a stream. Nothing was moved."
        )
