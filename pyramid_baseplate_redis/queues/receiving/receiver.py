"""Waits for messages of a durable queue, and settles them when their block is left."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import TypeVar

import redis

from ...exceptions import SERVER_ERRORS, LeaseLostError, TimedOutError
from ...telemetry.messaging.spans import MessageSpan, MessageTracer
from ..messages import DurableMessage
from ..outage import Outage
from ..queue_spec import QueueSpec
from ..schedules.delayed import DelayedMessages
from ..schedules.waiting import WaitingMessages
from ..settling.leases import MessageLeases
from ..stream_commands import StreamCommands
from .consumer_group import ConsumerGroup
from .idle_consumers import remove_idle_consumers

logger = logging.getLogger(__package__)

R = TypeVar("R")

# A waiting consumer looks this often for messages that have become due.
LOOK_SECONDS = 1.0
_MOST_TAKES = 3
_TIDY_SECONDS = 60.0  # between two searches for idle consumers


class Receiver:
    """Waits for messages of one queue and settles them."""

    def __init__(
        self, spec: QueueSpec, commands: StreamCommands, group: ConsumerGroup,
        waiting: WaitingMessages, delayed: DelayedMessages, tracer: MessageTracer,
    ) -> None:  # fmt: skip
        self.spec = spec
        self._commands = commands
        self._group = group
        self._waiting = waiting
        self._delayed = delayed
        self._is_move_refused = False
        self._tracer = tracer
        self._tidy_at = time.monotonic() + _TIDY_SECONDS

    @property
    def leases(self) -> MessageLeases:
        """Extends and settles the messages that were received."""
        return self._group.leases

    def wait(
        self, count: int, timeout: float | None, held: Collection[bytes] = frozenset(),
        suspects: int | None = None,
    ) -> list[DurableMessage]:  # fmt: skip
        """Receive messages without settling them.

        :param count: maximum number of messages.
        :param timeout: seconds; ``None`` waits forever.
        :param held: the ``entry_id`` of messages that this process has. It does not receive them
            again when their lease expires.
        :param suspects: the most messages that were delivered before and never settled; ``None`` is
            no limit.
        :raises TimedOutError: no message arrived within ``timeout``.
        """
        if timeout is not None and not 0 <= timeout < math.inf:
            raise ValueError(
                f"timeout: {timeout!r} is out of range. Write 0 seconds or more, or None."
            )
        started = time.perf_counter()
        try:
            messages = self._wait(count, timeout, held, count if suspects is None else suspects)
        except Exception as error:
            self._tracer.metrics.received(started, 0, error)
            raise
        if not messages:
            raise TimedOutError
        self._tracer.metrics.received(started, len(messages))
        return messages

    def _wait(
        self, count: int, timeout: float | None, held: Collection[bytes], suspects: int
    ) -> list[DurableMessage]:
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        outage = Outage(logger, f"queue {self.spec.name}")
        has_blocked = False
        while True:
            try:
                messages, was_last, has_blocked = self._look(
                    count, deadline, held, suspects, has_blocked
                )
            except SERVER_ERRORS as error:
                if timeout is not None or not outage.wait(error):
                    raise
                has_blocked = False
                continue
            outage.end()
            if messages or was_last:
                return messages

    def _look(
        self, count: int, deadline: float, held: Collection[bytes], suspects: int,
        has_blocked: bool,
    ) -> tuple[list[DurableMessage], bool, bool]:  # fmt: skip
        """Look once for messages.

        :param has_blocked: whether this wait has just blocked, so that there are no new messages.
        :returns: the messages, whether the search included all messages that may be received, and
            whether it has blocked.
        """
        now = time.monotonic()
        is_last = now >= deadline
        messages: list[DurableMessage] = []
        if now >= self._waiting.pending_due_at:
            self._waiting.pending_due_at = math.inf
            self._group.search_soon()
        if suspects and self._group.may_have_expired():
            messages = self._group.claim(min(count, suspects), held)
        if not messages and now >= self._waiting.due_at:
            messages = self._due(count)
        if not messages and (is_last or now >= min(self._waiting.look_at, self._delayed.due_at)):
            if self._move_delayed() or not has_blocked:
                messages = self._group.read(count, 0)
            else:
                self._group.look()
            messages = messages or self._due(count)
            if not messages and self._move_delayed():  # the look has found them
                messages = self._group.read(count, 0)
        if messages:
            return messages, is_last, False
        if now >= self._tidy_at:
            self._tidy_at = now + _TIDY_SECONDS
            with suppress(redis.ResponseError):  # a server with full memory refuses MULTI
                remove_idle_consumers(self.spec, self._commands)
        until = min(
            deadline, now + LOOK_SECONDS, self._waiting.due_at, self._waiting.pending_due_at,
            self._delayed.due_at, self._group.search_at if suspects else math.inf,
        )  # fmt: skip
        block = until - time.monotonic()
        if is_last or block <= 0:
            return [], is_last, has_blocked
        return self._group.read(count, block), False, True

    def _move_delayed(self) -> bool:
        """Move delayed messages that are due to the stream; return whether there were any."""
        if time.monotonic() < self._delayed.due_at:
            return False
        try:
            has_moved = self._delayed.move()
        except (redis.ResponseError, redis.exceptions.ClusterError) as error:
            # The server's memory may be full. Messages in the stream can be received all the same.
            self._delayed.due_at = time.monotonic() + LOOK_SECONDS
            if not self._is_move_refused:
                logger.warning("queue %s: delayed messages are not moved to the stream: %s",
                               self.spec.name, error)  # fmt: skip
            self._is_move_refused = True
            return False
        self._is_move_refused = False
        return has_moved

    def _due(self, count: int) -> list[DurableMessage]:
        """Take messages that have become due, as far as known from the last look."""
        for _ in range(_MOST_TAKES):  # other consumers may take the same messages
            if time.monotonic() < self._waiting.due_at:
                break
            messages = self._group.take(count)
            if messages:
                return messages
            self._waiting.learn(self._commands.poll(self._waiting.look, _is_never_recorded))
        return []

    def start_processing(self, messages: Sequence[DurableMessage]) -> MessageSpan | None:
        """Start the span in which messages are processed."""
        return self._tracer.start_process(self._commands.server_span, messages)

    def stop_processing(
        self, span: MessageSpan | None, started: float, error: BaseException | None
    ) -> None:
        """Record that the messages are processed, and settled.

        :param span: from :meth:`start_processing`.
        :param started: when processing began, by :func:`time.perf_counter`.
        """
        self._tracer.metrics.processed(started, error)
        if span is not None:
            span.end(error)

    def leave(
        self, messages: Sequence[DurableMessage], error: BaseException | None,
        delay: float | None,
    ) -> None:  # fmt: skip
        """Settle those messages that are not settled yet.

        :param error: the exception that the block raised.
        :param delay: seconds until failed messages may be received again; ``None`` is the queue's
            own wait.
        """
        unsettled = [message for message in messages if not message.is_settled]
        if not unsettled:
            return
        if error is None:
            self._group.leases.acknowledge(unsettled)
            return
        try:
            self._group.leases.fail(unsettled, error, delay)
        except (*SERVER_ERRORS, LeaseLostError) as failure:
            # Log it, since the caller gets the exception of the block.
            logger.warning("queue %s: %s could not be given back: %s", self.spec.name,
                           ", ".join(message.id for message in unsettled), failure)  # fmt: skip


def _is_never_recorded(reply: object) -> bool:
    return False
