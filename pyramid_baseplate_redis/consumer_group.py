"""The consumer group of a durable queue: who has which message, and until when."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import redis

from .dead_letters import DeadLetters
from .durable_messages import BODY, DurableMessage, LeaseLostError, MessageFormatError
from .idle_consumers import remove_idle_consumers
from .spans import error_type
from .stream_commands import StreamCommands

logger = logging.getLogger(__name__)

T = TypeVar("T")

_MOST_PAGES = 100
_tokens: dict[int, str] = {}


def process_consumer() -> str:
    """This process's name as a consumer; a forked process has one of its own."""
    pid = os.getpid()
    token = _tokens.get(pid)
    if token is None:
        token = _tokens.setdefault(pid, secrets.token_hex(4))
    return f"{socket.gethostname()}:{pid}:{token}"


class ConsumerGroup:
    """Reads, claims and settles the messages of one queue for one consumer.

    Whose a message is, is a matter of the server's pending entries: the consumer, and how often it
    was delivered. An acknowledgement can't be made conditional on that. So what has been leased for
    more than half of its lease is extended first, which fails where it was lost.

    :param key: the stream.
    :param lease: seconds.
    """

    def __init__(
        self, commands: StreamCommands, key: str, dead_letters: DeadLetters, *, name: str,
        group: str, consumer: str | None, lease: float, max_attempts: int,
    ) -> None:  # fmt: skip
        self._commands = commands
        self._key = key
        self._dead_letters = dead_letters
        self._name = name
        self._group = group
        self._consumer = consumer
        self._lease = lease
        self._lease_ms = max(1, round(lease * 1000))
        self._max_attempts = max_attempts
        self._cursor: bytes | str = "0-0"

    @property
    def consumer(self) -> str:
        return self._consumer or process_consumer()

    def read(self, count: int, block: float) -> list[DurableMessage]:
        """Messages that nobody has received yet.

        :param block: seconds to wait for one; 0 doesn't wait.
        """
        waiting = ("BLOCK", max(1, round(block * 1000))) if block else ()
        command = ("XREADGROUP", "GROUP", self._group, self.consumer, "COUNT", count, *waiting,
                   "STREAMS", self._key, ">")  # fmt: skip
        asked_at = time.monotonic()
        reply = self._in_group(lambda: self._commands.poll(command, bool, block))
        if not reply:
            return []
        ((_, entries),) = reply.items() if isinstance(reply, dict) else reply
        return self._messages([(entry, 1) for entry in entries], asked_at)

    def claim(self, count: int) -> list[DurableMessage]:
        """Messages whose lease has run out; those delivered too often become dead letters."""
        for _ in range(_MOST_PAGES):
            asked_at = time.monotonic()
            command = ("XAUTOCLAIM", self._key, self._group, self.consumer, self._lease_ms,
                       self._cursor, "COUNT", count)  # fmt: skip
            reply = self._in_group(partial(self._commands.poll, command, _has_entries))
            self._cursor = reply[0]
            entries = [entry for entry in reply[1] if entry and entry[1] is not None]
            if entries:
                asked = [self._pending(entry[0]) for entry in entries]
                replies = self._commands.send(*asked, name="attempts")
                counted = [(entry, int(pending[0][3])) for entry, pending in
                           zip(entries, replies, strict=True) if pending]  # fmt: skip
                messages = self._messages(counted, asked_at)
                if messages:
                    return messages
            if self._cursor == b"0-0":
                break
        return []

    def _messages(self, entries: Sequence[Any], leased_at: float) -> list[DurableMessage]:
        messages = []
        for (entry_id, fields), attempts in entries:
            message = DurableMessage(self, entry_id, fields, attempts, leased_at)
            if attempts > self._max_attempts:
                self._try_to_bury(message, error_name(LeaseLostError), attempts - 1)
            elif BODY not in message.fields:
                self._try_to_bury(message, error_name(MessageFormatError), attempts)
            else:
                messages.append(message)
        return messages

    def extend(self, message: DurableMessage) -> None:
        """See :meth:`.DurableMessage.extend`."""
        asked_at = time.monotonic()
        (pending,) = self._commands.send(self._pending(message.entry_id), errors=True)
        if isinstance(pending, Exception) and not is_no_group(pending):
            raise pending
        if isinstance(pending, Exception) or message.is_settled or not pending:
            raise self._lost(message.id, "was finished by somebody else")
        _, consumer, idle, delivered = pending[0]
        if consumer != self.consumer.encode() or int(delivered) != message.attempts:
            raise self._lost(message.id, "is somebody else's by now")
        # Whoever receives it meanwhile starts at idle 0, and then this claims nothing.
        (claimed,) = self._commands.send(self._claim([message.entry_id], "JUSTID", least=int(idle)))
        if not claimed:
            raise self._lost(message.id, "is somebody else's by now")
        message.leased_at = asked_at

    def acknowledge(self, messages: Sequence[DurableMessage]) -> None:
        """See :meth:`.DurableMessage.acknowledge`; several are removed in one transaction."""
        ours, losses = self._still_ours(messages)
        if ours:
            ids = [message.entry_id for message in ours]
            acknowledged, deleted = self._commands.transaction(
                "acknowledge",
                ("XACK", self._key, self._group, *ids),
                ("XDEL", self._key, *ids),
            )
            for message in ours:
                message.is_settled = True
            # Not pending, but there: the group was deleted and made anew, and nobody has it.
            if max(acknowledged, deleted) < len(ids):
                some = "" if len(ids) == 1 else f" or others of {len(ids)}"
                losses.append(self._lost(f"{ours[0].id}{some}", "was finished by somebody else"))
        if losses:
            raise losses[0]

    def give_back(self, messages: Sequence[DurableMessage], delay: float | timedelta) -> None:
        """See :meth:`.DurableMessage.give_back`; several in one command."""
        idle = self._lease_ms - round(self.checked_delay(delay) * 1000)
        ours, losses = self._still_ours(messages)
        if ours:
            ids = [message.entry_id for message in ours]
            self._commands.send(self._claim(ids, "IDLE", max(0, idle), "JUSTID"))
            self._cursor = "0-0"
            for message in ours:
                message.is_settled = True
        if losses:
            raise losses[0]

    def checked_delay(self, delay: float | timedelta) -> float:
        """Seconds.

        :raises ValueError: if it is longer than the lease: a pending entry has only the time since
            its delivery, which can't be in the future.
        """
        seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
        if not 0 <= seconds <= self._lease:
            raise ValueError(
                f"delay: {seconds!r} is not from 0 to the lease, {self._lease} seconds"
            )
        return seconds

    def fail(
        self, messages: Sequence[DurableMessage], error: BaseException, delay: float | timedelta
    ) -> None:
        """Give messages back; those that were received ``max_attempts`` times are buried."""
        again = [message for message in messages if message.attempts < self._max_attempts]
        last, losses = self._still_ours([each for each in messages if each not in again])
        for message in last:
            self._dead_letters.bury(message, self._group, error_type(error), message.attempts)
            logger.warning(
                "queue %s: %s is a dead letter after %d attempts: %s",
                self._name, message.id, message.attempts, error_type(error),
            )  # fmt: skip
        if again:
            self.give_back(again, delay)
        if losses:
            raise losses[0]

    def _try_to_bury(self, message: DurableMessage, error: str, attempts: int) -> None:
        try:
            self._dead_letters.bury(message, self._group, error, attempts)
        except redis.ResponseError as failure:  # a full server, a key of another type
            logger.warning(
                "queue %s: %s can't become a dead letter, and comes back: %s",
                self._name, message.id, failure,
            )  # fmt: skip
        else:
            logger.warning("queue %s: %s is a dead letter: %s", self._name, message.id, error)

    def _still_ours(
        self, messages: Sequence[DurableMessage]
    ) -> tuple[list[DurableMessage], list[LeaseLostError]]:
        """Which messages are this consumer's for long enough, and what became of the others."""
        late = time.monotonic() - self._lease / 2
        ours, losses = [], []
        for message in messages:
            try:
                if message.leased_at < late:
                    self.extend(message)
            except LeaseLostError as error:
                losses.append(error)
            else:
                ours.append(message)
        return ours, losses

    def _lost(self, message: str, what: str) -> LeaseLostError:
        return LeaseLostError(f"queue {self._name}: {message} {what}")

    def remove_idle_consumers(self) -> None:
        """See :func:`.idle_consumers.remove_idle_consumers`."""
        remove_idle_consumers(
            self._commands, self._key, self._group, self.consumer, lease=self._lease
        )

    def _pending(self, entry_id: bytes) -> tuple[Any, ...]:
        return ("XPENDING", self._key, self._group, entry_id, entry_id, 1)

    def _claim(self, ids: Sequence[bytes], *options: Any, least: int = 0) -> tuple[Any, ...]:
        return ("XCLAIM", self._key, self._group, self.consumer, least, *ids, *options)

    def _in_group(self, call: Callable[[], T]) -> T:
        """Call, and again behind making the group if there is none (any more).

        The group begins with the first entry: what was received but not acknowledged when somebody
        deleted it is received once more.
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
        create = ("XGROUP", "CREATE", self._key, self._group, "0", "MKSTREAM")
        (reply,) = self._commands.send(create, errors=True)
        if isinstance(reply, Exception):
            raise _GroupExists if str(reply).startswith("BUSYGROUP") else reply


class _GroupExists(Exception):  # noqa: N818 (not an error)
    pass


def _has_entries(reply: Any) -> object:
    return reply[1]


def error_name(error: type[BaseException]) -> str:
    return f"{error.__module__}.{error.__qualname__}"


def is_no_group(error: BaseException) -> bool:
    """Whether there is no such stream, or no such group."""
    text = str(error)
    return text.startswith("NOGROUP") or "no such key" in text or "no longer exists" in text
