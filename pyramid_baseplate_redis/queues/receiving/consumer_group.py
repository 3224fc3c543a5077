"""Reads a durable queue's consumer group: new messages, and those whose lease has expired."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import redis

from ...exceptions import LeaseLostError, MessageFormatError
from ...telemetry.messaging.spans import MessageTracer
from ..messages import BODY, DurableMessage
from ..queue_spec import QueueSpec
from ..raw_commands import is_no_group, is_unblocked
from ..schedules.waiting import WaitingMessages
from ..settling.dead_letters import DeadLetters
from ..settling.leases import MessageLeases, pending_command
from ..stream_commands import StreamCommands

logger = logging.getLogger(__package__)

T = TypeVar("T")

_MOST_PAGES = 100
_START = b"0-0"


class ConsumerGroup:
    """Reads and claims the messages of one queue for one consumer."""

    def __init__(
        self, spec: QueueSpec, commands: StreamCommands, dead_letters: DeadLetters,
        waiting: WaitingMessages, tracer: MessageTracer,
    ) -> None:  # fmt: skip
        self._spec = spec
        self._commands = commands
        self._dead_letters = dead_letters
        self._waiting = waiting
        self._cursor = _START
        self.leases = MessageLeases(spec, commands, dead_letters, waiting, tracer)

    def read(self, count: int, block: float) -> list[DurableMessage]:
        """Return messages that no consumer has received yet.

        :param count: maximum number of messages.
        :param block: seconds to wait for the first one; 0 does not wait. Then it also looks at the
            messages that wait until they are due, in the same round trip.
        """
        spec = self._spec
        waiting = ("BLOCK", max(1, round(block * 1000))) if block else ()
        command = ("XREADGROUP", "GROUP", spec.group, spec.consumer, "COUNT", count, *waiting,
                   "STREAMS", spec.key, ">")  # fmt: skip
        asked_at = time.monotonic()
        looks = () if block else (self._waiting.look,)
        try:
            reply, *looked = self._in_group(
                lambda: self._commands.poll_with(command, bool, *looks, block=block)
            )
        except redis.ResponseError as error:
            if not is_unblocked(error):
                raise
            return []  # an administrator or a failover ended the wait
        for each in looked:
            # An error of the key must not hide messages that were received.
            if not (reply and isinstance(each, Exception)):
                self._waiting.learn(each)
        if not reply:
            return []
        ((_, entries),) = reply.items() if isinstance(reply, dict) else reply
        return self._messages([(entry, 1) for entry in entries], asked_at)

    def take(self, count: int) -> list[DurableMessage]:
        """Return messages that have waited until they were due.

        :param count: maximum number of messages.
        """
        asked_at = time.monotonic()
        return self._messages(self._in_group(lambda: self._waiting.take(count)), asked_at)

    def claim(self, count: int) -> list[DurableMessage]:
        """Return messages whose lease has expired.

        Those that were delivered too often become dead letters instead.
        """
        spec = self._spec
        # XAUTOCLAIM returns a page and the cursor of the next one. A search that did not begin at
        # the start goes on there when it reaches the end.
        is_whole = self._cursor == _START
        for _ in range(_MOST_PAGES):
            asked_at = time.monotonic()
            command = ("XAUTOCLAIM", spec.key, spec.group, spec.consumer, spec.lease_ms,
                       self._cursor, "COUNT", count)  # fmt: skip
            reply = self._in_group(partial(self._commands.poll, command, _has_entries))
            self._cursor = reply[0]
            entries = [entry for entry in reply[1] if entry and entry[1] is not None]
            if entries:
                asked = [pending_command(spec, entry[0]) for entry in entries]
                replies = self._commands.send(*asked, name="attempts")
                counted = [(entry, int(pending[0][3])) for entry, pending in
                           zip(entries, replies, strict=True) if pending]  # fmt: skip
                messages = self._messages(counted, asked_at)
                for message in messages:
                    message.is_suspect = message.attempts > 1
                if messages:
                    return messages
            if self._cursor == _START:
                if is_whole:
                    break
                is_whole = True
        return []

    def _messages(self, entries: Sequence[Any], leased_at: float) -> list[DurableMessage]:
        messages = []
        for (entry_id, fields), attempts in entries:
            message = DurableMessage(self.leases, entry_id, fields, attempts, leased_at)
            if attempts > self._spec.max_attempts:
                self._try_to_bury(message, error_name(LeaseLostError), attempts - 1)
            elif BODY not in message.fields:
                self._try_to_bury(message, error_name(MessageFormatError), attempts)
            else:
                messages.append(message)
        return messages

    def _try_to_bury(self, message: DurableMessage, error: str, attempts: int) -> None:
        try:
            self._dead_letters.bury(message, error, attempts)
        except (redis.ResponseError, redis.WatchError) as failure:
            logger.warning(
                "queue %s: %s could not become a dead letter and will be delivered again: %s",
                self._spec.name, message.id, failure,
            )  # fmt: skip
        else:
            logger.warning("queue %s: %s is a dead letter: %s", self._spec.name, message.id, error)

    def _in_group(self, call: Callable[[], T]) -> T:
        """Call ``call``. If the group does not exist, create it and call again.

        The group starts at the first entry, so messages that were pending when a group was deleted
        are received again.
        """
        try:
            return call()
        except redis.ResponseError as error:
            if not is_no_group(error):
                raise
        with suppress(_GroupExists):
            self._create()
        return call()

    def _create(self) -> None:
        create = ("XGROUP", "CREATE", self._spec.key, self._spec.group, "0", "MKSTREAM")
        (reply,) = self._commands.send(create, errors=True)
        if isinstance(reply, Exception):
            raise _GroupExists if str(reply).startswith("BUSYGROUP") else reply


class _GroupExists(Exception):  # noqa: N818 (not an error)
    pass


def _has_entries(reply: Any) -> object:
    return reply[1]


def error_name(error: type[BaseException]) -> str:
    return f"{error.__module__}.{error.__qualname__}"
