"""Adds messages to a durable queue."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..exceptions import QueueFullError
from ..telemetry.messaging.spans import MessageTracer
from .messages import BODY
from .queue_spec import QueueSpec
from .raw_commands import Command, RawCommands
from .stream_commands import StreamCommands


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
