"""How a durable queue sends messages: once, with their trace context, and never too many."""

from __future__ import annotations

from collections.abc import Sequence

from .durable_messages import BODY
from .exceptions import QueueFullError
from .exchange import Command, Exchange
from .messaging_spans import MessageTracer
from .stream_commands import StreamCommands


class Sender:
    """Adds messages to one queue's stream."""

    def __init__(
        self, name: str, key: str, commands: StreamCommands, tracer: MessageTracer,
        max_length: int | None,
    ) -> None:  # fmt: skip
        self._name = name
        self._key = key
        self._commands = commands
        self._tracer = tracer
        self._max_length = max_length

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
        commands = [("XADD", self._key, "*", BODY, body, *trace_fields) for body in bodies]
        if self._max_length is not None:
            return self._commands.watching(
                self._key, "put", commands, lambda ask: self._added_if_not_full(ask, commands)
            )
        if len(commands) == 1:
            return self._commands.send(*commands)
        return self._commands.transaction("put", *commands)

    def _added_if_not_full(self, ask: Exchange, commands: Sequence[Command]) -> list[bytes]:
        assert self._max_length is not None
        (length,) = ask(("XLEN", self._key))
        if length + len(commands) > self._max_length:
            raise QueueFullError(self._name, self._max_length)
        return ask.transaction(*commands)
