"""Reads a durable queue's consumer group: new messages, and those whose lease has expired."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, TypeVar

import redis

from ...exceptions import LeaseLostError, MessageFormatError
from ..messages import BODY, DurableMessage
from ..queue_spec import QueueSpec
from ..raw_commands import UNREACHED, is_no_group, is_unblocked
from ..schedules.delayed import DelayedMessages
from ..schedules.waiting import WaitingMessages
from ..settling.dead_letters import DeadLetters
from ..settling.leases import MessageLeases
from ..stream_commands import StreamCommands
from .due import ExpiredLeases
from .group_creation import create_group

logger = logging.getLogger(__package__)

T = TypeVar("T")


class ConsumerGroup:
    """Reads and claims the messages of one queue for one consumer."""

    def __init__(
        self, spec: QueueSpec, commands: StreamCommands, dead_letters: DeadLetters,
        waiting: WaitingMessages, delayed: DelayedMessages, leases: MessageLeases,
    ) -> None:  # fmt: skip
        self._spec = spec
        self._commands = commands
        self._dead_letters = dead_letters
        self._waiting = waiting
        self._delayed = delayed
        self._expired = ExpiredLeases(spec, commands)
        self._is_careful = False
        self.leases = leases

    def read(self, count: int, block: float) -> list[DurableMessage]:
        """Return messages that no consumer has received yet.

        :param count: maximum number of messages.
        :param block: seconds to wait for the first one; 0 does not wait. Then it also looks at the
            messages that wait until they are due and at delayed ones, in the same round trip.
        """
        while True:
            asked_at = time.monotonic()
            entries = self._read(1 if self._is_careful else count, block)
            messages = self._messages([(entry, 1) for entry in entries], asked_at)
            # If all of them became dead letters, there may be messages after them.
            if messages or not entries:
                return messages
            block = 0.0

    def _read(self, count: int, block: float) -> Sequence[Any]:
        spec = self._spec
        waiting = ("BLOCK", max(1, round(block * 1000))) if block else ()
        command = ("XREADGROUP", "GROUP", spec.group, spec.consumer, "COUNT", count, *waiting,
                   "STREAMS", spec.key, ">")  # fmt: skip
        looks = () if block else (self._waiting.look, self._delayed.look)
        try:
            reply, *looked = self._in_group(
                lambda: self._commands.poll_with(command, bool, *looks, block=block)
            )
        except redis.ResponseError as error:
            if not is_unblocked(error):
                raise
            return []  # an administrator or a failover ended the wait
        except UNREACHED:
            # A message may be too large for the network or the server's limits. Its transfer fails
            # again after the lease, alone.
            self._is_careful = True
            raise
        if not (reply and any(isinstance(each, Exception) for each in looked)):
            self._learn(looked)  # an error of a key must not hide messages that were received
        if not reply:
            return []
        self._is_careful = False
        ((_, entries),) = reply.items() if isinstance(reply, dict) else reply
        found: Sequence[Any] = entries
        return found

    def look(self) -> None:
        """Look at the messages that wait until they are due and at delayed ones."""
        self._learn(
            self._commands.poll_with(self._waiting.look, _is_never_recorded, self._delayed.look)
        )

    def _learn(self, replies: Sequence[Any]) -> None:
        schedules: tuple[WaitingMessages | DelayedMessages, ...] = (self._waiting, self._delayed)
        for schedule, reply in zip(schedules, replies, strict=False):
            schedule.learn(reply)

    def take(self, count: int) -> list[DurableMessage]:
        """Return messages that have waited until they were due.

        :param count: maximum number of messages.
        """
        while True:
            asked_at = time.monotonic()
            entries = self._in_group(lambda: self._waiting.take(count))
            messages = self._messages(entries, asked_at)
            if messages or not entries:
                return messages

    def may_have_expired(self) -> bool:
        """Return whether :meth:`claim` may find messages."""
        return self._expired.is_due()

    @property
    def search_at(self) -> float:
        """The time of the next search for expired leases, by :func:`time.monotonic`."""
        return self._expired.search_at

    def search_soon(self) -> None:
        """Let the next call of :meth:`claim` ask the server for expired leases."""
        self._expired.search_at = 0.0

    def claim(self, count: int, held: Collection[bytes]) -> list[DurableMessage]:
        """Return messages whose lease has expired.

        Those that were delivered too often become dead letters, and their bodies are not read:
        their transfer may be what has failed.

        :param count: maximum number of messages.
        :param held: identifiers of entries that this process has. They are left alone.
        """
        messages: list[DurableMessage] = []
        try:
            while len(messages) < count:
                expired = self._in_group(partial(self._expired.next, held))
                if expired is None:
                    break
                messages += self._claimed(*expired)
        except UNREACHED:
            if not messages:
                raise
        return messages

    def _claimed(self, entry_id: bytes, delivered: int) -> list[DurableMessage]:
        # One at a time: a transfer that fails counts as a delivery of all messages in the reply.
        spec = self._spec
        asked_at = time.monotonic()
        is_over = delivered >= spec.max_attempts
        command = ("XCLAIM", spec.key, spec.group, spec.consumer, spec.lease_ms, entry_id,
                   *(("JUSTID",) if is_over else ()))  # fmt: skip
        reply = self._commands.poll(command, bool)
        entries = [entry for entry in reply if entry and (is_over or entry[1] is not None)]
        if is_over:
            entries = [(entry, None) for entry in entries]
        messages = self._messages([(entry, delivered + 1) for entry in entries], asked_at)
        for message in messages:
            message.is_suspect = message.attempts > 1
        return messages

    def _messages(self, entries: Sequence[Any], leased_at: float) -> list[DurableMessage]:
        """Return messages, and make dead letters of entries that are none.

        :param entries: entries with the numbers of their attempts. The fields are ``None`` if an
            entry was delivered too often.
        """
        messages = []
        for (entry_id, fields), attempts in entries:
            if fields is None:
                error = error_name(LeaseLostError)
                bury = partial(self._dead_letters.bury_unread, entry_id, error, attempts - 1)
                self._try_to_bury(bury, entry_id, error)
                continue
            message = DurableMessage(self.leases, entry_id, fields, attempts, leased_at)
            if BODY in message.fields:
                messages.append(message)
            else:
                error = error_name(MessageFormatError)
                bury = partial(self._dead_letters.bury, message, error, attempts)
                self._try_to_bury(bury, entry_id, error)
        return messages

    def _try_to_bury(self, bury: Callable[[], None], entry_id: bytes, error: str) -> None:
        shown = entry_id.decode()
        try:
            bury()
        except (redis.ResponseError, redis.WatchError) as failure:
            logger.warning(
                "queue %s: %s could not become a dead letter and will be delivered again: %s",
                self._spec.name, shown, failure,
            )  # fmt: skip
        else:
            logger.warning("queue %s: %s is a dead letter: %s", self._spec.name, shown, error)

    def _in_group(self, call: Callable[[], T]) -> T:
        """Call ``call``. If the group does not exist, create it and call again.

        Messages that were pending when a group was deleted are received again.
        """
        try:
            return call()
        except redis.ResponseError as error:
            if not is_no_group(error):
                raise
        create_group(self._spec, self._commands)
        self.search_soon()
        return call()


def _is_never_recorded(reply: object) -> bool:
    return False


def error_name(error: type[BaseException]) -> str:
    return f"{error.__module__}.{error.__qualname__}"
