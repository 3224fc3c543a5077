"""Messages that are put when a transaction was committed, by the transaction manager's hook."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry import context as otel_context

from ..exceptions import MessageQueueError, QueueFullError
from ..telemetry.messaging_spans import MessageTracer
from .messages import BODY
from .queue_spec import QueueSpec
from .raw_commands import Command, RawCommands
from .stream_commands import StreamCommands

logger = logging.getLogger(__package__)


def put_after_commit(
    transaction_manager: Callable[[], Any] | None, queue: str, put: Callable[[], object]
) -> None:
    """Call ``put`` behind the commit of the current transaction, and never if it is aborted.

    :param transaction_manager: returns one of the package ``transaction``, such as ``request.tm``,
        or ``None``.
    :raises MessageQueueError: if there is none, or no transaction was begun.
    """
    manager = transaction_manager() if transaction_manager is not None else None
    if manager is None:
        raise MessageQueueError(
            f"queue {queue}: after_commit needs a transaction of request.tm that is under way; add "
            "pyramid_tm to the application, or put the message behind the transaction"
        )
    caller = otel_context.get_current()

    def committed(success: bool) -> None:
        if not success:
            return
        token = otel_context.attach(caller)
        try:
            put()
        except Exception:
            # The transaction package would swallow it, and the commit can't be undone.
            logger.exception("queue %s: a message was lost, since it couldn't be put", queue)
        finally:
            otel_context.detach(token)

    try:
        manager.get().addAfterCommitHook(committed)
    except Exception as error:  # NoTransaction, of a package that needn't be installed
        raise MessageQueueError(
            f"queue {queue}: after_commit needs a transaction, and there is none: "
            f"{type(error).__name__}"
        ) from error


class Sender:
    """Adds messages to one queue's stream."""

    def __init__(self, spec: QueueSpec, commands: StreamCommands, tracer: MessageTracer) -> None:
        self._spec = spec
        self._commands = commands
        self._tracer = tracer

    def send(self, bodies: Sequence[bytes]) -> list[str]:
        """See :meth:`.DurableMessageQueue.put_many`."""
        server_span = self._commands.server_span
        span = self._tracer.start_send(server_span, bodies)
        try:
            ids = [entry_id.decode() for entry_id in self._added(bodies)]
        except BaseException as error:
            if span is not None:
                span.end(error)
            raise
        if span is not None:
            span.sent(ids)
            span.end()
        return ids

    def _added(self, bodies: Sequence[bytes]) -> list[bytes]:
        trace_fields = self._tracer.fields(self._commands.server_span)
        commands = [("XADD", self._spec.key, "*", BODY, body, *trace_fields) for body in bodies]
        if self._spec.max_length is not None:
            return self._commands.watching(
                self._spec.key, "put", commands, lambda ask: self._added_if_not_full(ask, commands)
            )
        if len(commands) == 1:
            return self._commands.send(*commands)
        return self._commands.transaction("put", *commands)

    def _added_if_not_full(self, ask: RawCommands, commands: Sequence[Command]) -> list[bytes]:
        assert self._spec.max_length is not None
        (length,) = ask(("XLEN", self._spec.key))
        if length + len(commands) > self._spec.max_length:
            raise QueueFullError(self._spec.name, self._spec.max_length)
        return ask.transaction(*commands)
