"""Adds messages to a durable queue, at once or after the commit of a transaction."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry import context as otel_context

from ..exceptions import MessageQueueError, QueueFullError
from ..telemetry.messaging.spans import MessageTracer
from .messages import BODY
from .queue_spec import QueueSpec
from .raw_commands import Command, RawCommands
from .stream_commands import StreamCommands

logger = logging.getLogger(__package__)


def put_after_commit(
    transaction_manager: Callable[[], Any] | None, queue: str, put: Callable[[], object]
) -> None:
    """Call ``put`` after the current transaction is committed, and not at all if it is aborted.

    :param transaction_manager: returns a manager of the package ``transaction``, such as
        ``request.tm``, or ``None``.
    :param queue: the queue's name, for errors.
    :raises MessageQueueError: there is no manager, or no transaction has begun.
    """
    manager = transaction_manager() if transaction_manager is not None else None
    if manager is None:
        raise MessageQueueError(
            f"queue {queue}: after_commit needs a transaction of request.tm. Include pyramid_tm in "
            "the application, or put the message after the transaction."
        )
    caller = otel_context.get_current()

    def committed(success: bool) -> None:
        if not success:
            return
        token = otel_context.attach(caller)
        try:
            put()
        except Exception:
            # The transaction package would swallow the error, and the commit cannot be undone.
            logger.exception("queue %s: a message was lost because it could not be put", queue)
        finally:
            otel_context.detach(token)

    try:
        manager.get().addAfterCommitHook(committed)
    except Exception as error:  # NoTransaction; its package may not be installed
        raise MessageQueueError(
            f"queue {queue}: after_commit needs a transaction, but none has begun: "
            f"{type(error).__name__}"
        ) from error


class Sender:
    """Adds messages to the stream of one queue."""

    def __init__(self, spec: QueueSpec, commands: StreamCommands, tracer: MessageTracer) -> None:
        self._spec = spec
        self._commands = commands
        self._tracer = tracer

    def send(self, bodies: Sequence[bytes]) -> list[str]:
        """Add messages; see :meth:`.DurableMessageQueue.put_many`."""
        server_span = self._commands.server_span
        span = self._tracer.start_send(server_span, bodies)
        started = time.perf_counter()
        try:
            ids = [entry_id.decode() for entry_id in self._added(bodies)]
        except BaseException as error:
            attempted = 0 if isinstance(error, QueueFullError) else len(bodies)
            self._tracer.metrics.sent(started, attempted, error)
            if span is not None:
                span.end(error)
            raise
        self._tracer.metrics.sent(started, len(bodies))
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
