"""Extends the leases of a durable queue's messages and settles the messages."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from ...exceptions import LeaseLostError
from ...telemetry.messaging.spans import MessageTracer, Settlement
from ...telemetry.otel import error_type
from ..messages import DurableMessage
from ..queue_spec import QueueSpec, checked_delay
from ..raw_commands import Command, is_no_group
from ..schedules.unique import UniqueKeys
from ..schedules.waiting import WaitingMessages
from ..stream_commands import StreamCommands
from .dead_letters import DeadLetters
from .removal import Removal

logger = logging.getLogger(__package__)


class MessageLeases:
    """Extends, acknowledges and gives back the messages of one consumer.

    The server's pending entries decide who owns a message: they record its consumer and its
    delivery count. An acknowledgement cannot be made conditional on them. Therefore a message that
    is past half of its lease is extended first, which fails if the lease was lost.
    """

    def __init__(
        self, spec: QueueSpec, commands: StreamCommands, dead_letters: DeadLetters,
        waiting: WaitingMessages, unique: UniqueKeys, tracer: MessageTracer,
    ) -> None:  # fmt: skip
        self._spec = spec
        self._commands = commands
        self._dead_letters = dead_letters
        self._waiting = waiting
        self._unique = unique
        self._removal = Removal(spec, commands)
        self._tracer = tracer

    def extend(self, message: DurableMessage) -> None:
        """See :meth:`.DurableMessage.extend`."""
        asked_at = time.monotonic()
        if message.is_settled:
            raise self._lost(message.id, "is already settled")
        (pending,) = self._commands.send(pending_command(self._spec, message.entry_id), errors=True)
        if isinstance(pending, Exception) and not is_no_group(pending):
            raise pending
        if isinstance(pending, Exception) or not pending:
            raise self._lost(message.id, "was finished by another consumer")
        _, consumer, idle, delivered = pending[0]
        if consumer != self._spec.consumer.encode() or int(delivered) != message.attempts:
            raise self._lost(message.id, "was received again in the meantime")
        # If another consumer receives the message now, its idle time restarts at 0, which is less
        # than ``least``, and XCLAIM claims nothing.
        (claimed,) = self._commands.send(self._claim([message.entry_id], "JUSTID", least=int(idle)))
        if not claimed:
            raise self._lost(message.id, "was received again in the meantime")
        message.leased_at = asked_at

    def renew(self, messages: Sequence[DurableMessage]) -> list[DurableMessage]:
        """Renew the leases of messages in two round trips.

        Messages that are settled are left out.

        :returns: those whose lease is lost.
        :raises redis.RedisError: the server failed.
        """
        spec = self._spec
        asked_at = time.monotonic()
        open_messages = [message for message in messages if not message.is_settled]
        if not open_messages:
            return []
        asked = [pending_command(spec, message.entry_id) for message in open_messages]
        replies = self._commands.send(*asked, name="renew", errors=True)
        ours: dict[bytes, int] = {}
        for message, pending in zip(open_messages, replies, strict=True):
            if isinstance(pending, Exception) and not is_no_group(pending):
                raise pending
            if isinstance(pending, Exception) or not pending:
                continue
            _, consumer, idle, delivered = pending[0]
            if consumer == spec.consumer.encode() and int(delivered) == message.attempts:
                ours[message.entry_id] = int(idle)
        claimed: set[bytes] = set()
        if ours:  # the minimum idle time: as in extend()
            claim = self._claim(list(ours), "JUSTID", least=min(ours.values()))
            claimed.update(self._commands.send(claim)[0])
        for message in open_messages:
            if message.entry_id in claimed:
                message.leased_at = asked_at
        return [message for message in open_messages if message.entry_id not in claimed]

    def acknowledge(self, messages: Sequence[DurableMessage]) -> None:
        """Remove messages from the queue; see :meth:`.DurableMessage.acknowledge`."""
        ours, losses = self._still_ours(messages)
        if ours:
            ids = [message.entry_id for message in ours]
            removed = self._removal.remove(ids, self._settlement("ack", ours))
            for message in ours:
                message.is_settled = True
            self._unique.free(ours)
            if removed < len(ids):
                some = "" if len(ids) == 1 else f" or others of {len(ids)}"
                losses.append(self._lost(f"{ours[0].id}{some}", "was finished by another consumer"))
        if losses:
            raise losses[0]

    def give_back(self, messages: Sequence[DurableMessage], delay: float | timedelta) -> None:
        """Give messages back in one transaction; see :meth:`.DurableMessage.give_back`."""
        seconds = checked_delay(delay)
        self._park(messages, lambda message: (message.attempts, seconds))

    def put_back(self, messages: Sequence[DurableMessage]) -> None:
        """Give back messages that were not begun, as if they had not been received.

        They may be received again at once.

        :raises LeaseLostError: another consumer has received one of them, or it is settled. The
            others are given back.
        :raises redis.RedisError: the server failed.
        """
        self._park(messages, lambda message: (message.attempts - 1, 0.0))

    def _park(
        self, messages: Sequence[DurableMessage],
        choose: Callable[[DurableMessage], tuple[int, float]],
    ) -> None:  # fmt: skip
        """Give messages back in one transaction.

        :param choose: returns a message's attempts and how many seconds it has to wait.
        """
        ours, losses = self._still_ours(messages)
        if ours:
            chosen = [choose(message) for message in ours]
            gone = self._waiting.park(
                [(message.entry_id, attempts) for message, (attempts, _)
                 in zip(ours, chosen, strict=True)],
                [delay for _, delay in chosen],
                self._settlement("nack", ours),
            )  # fmt: skip
            for message in ours:
                message.is_settled = True
            losses += [self._lost(each.decode(), "was finished by another consumer")
                       for each in gone]  # fmt: skip
        if losses:
            raise losses[0]

    def fail(
        self, messages: Sequence[DurableMessage], error: BaseException,
        delay: float | timedelta | None,
    ) -> None:  # fmt: skip
        """Give messages back, or make them dead letters after ``max_attempts``.

        :param delay: seconds until they may be received again; ``None`` is the queue's own wait.
        """
        seconds = None if delay is None else checked_delay(delay)
        again = [message for message in messages if message.attempts < self._spec.max_attempts]
        last, losses = self._still_ours([each for each in messages if each not in again])
        try:
            self._park(
                again,
                lambda message: (
                    message.attempts,
                    self._spec.wait_after(message.attempts) if seconds is None else seconds,
                ),
            )
        except LeaseLostError as loss:
            losses.append(loss)
        for message in last:
            self._dead_letters.bury(message, error, message.attempts)
            self._unique.free([message], are_dead=True)
            logger.warning(
                "queue %s: %s is a dead letter after %d attempts: %s",
                self._spec.name, message.id, message.attempts, error_type(error),
            )  # fmt: skip
        if losses:
            raise losses[0]

    def _still_ours(
        self, messages: Sequence[DurableMessage]
    ) -> tuple[list[DurableMessage], list[LeaseLostError]]:
        """Return the messages that this consumer still owns, and an error for each of the others.

        A message past half of its lease is extended.
        """
        late = time.monotonic() - self._spec.lease / 2
        ours, losses = [], []
        for message in messages:
            try:
                if message.is_settled:
                    raise self._lost(message.id, "is already settled")
                if message.leased_at < late:
                    self.extend(message)
            except LeaseLostError as error:
                losses.append(error)
            else:
                ours.append(message)
        return ours, losses

    def _settlement(self, name: str, messages: Sequence[DurableMessage]) -> Settlement:
        return self._tracer.settlement(name, [message.id for message in messages])

    def _lost(self, message: str, what: str) -> LeaseLostError:
        return LeaseLostError(f"queue {self._spec.name}: {message} {what}")

    def _claim(self, ids: Sequence[bytes], *options: Any, least: int) -> Command:
        spec = self._spec
        return ("XCLAIM", spec.key, spec.group, spec.consumer, least, *ids, *options)


def pending_command(spec: QueueSpec, entry_id: bytes) -> Command:
    """Return XPENDING for one entry: its consumer, idle time and delivery count."""
    return ("XPENDING", spec.key, spec.group, entry_id, entry_id, 1)
