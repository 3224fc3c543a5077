"""The consumer group of a durable queue: reads messages, and claims those that others have left."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import redis

from ..exceptions import LeaseLostError, MessageFormatError
from .dead_letters import DeadLetters
from .leases import MessageLeases, pending_command
from .messages import BODY, DurableMessage
from .raw_commands import is_no_group
from .stream_commands import StreamCommands

logger = logging.getLogger(__package__)

T = TypeVar("T")

_MOST_PAGES = 100
_START = b"0-0"
_tokens: dict[int, str] = {}


def process_consumer() -> str:
    """This process's name as a consumer; a forked process has one of its own."""
    pid = os.getpid()
    token = _tokens.get(pid)
    if token is None:
        token = _tokens.setdefault(pid, secrets.token_hex(4))
    return f"{socket.gethostname()}:{pid}:{token}"


class ConsumerGroup:
    """Reads and claims the messages of one queue for one consumer.

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
        self._cursor = _START
        self.leases = MessageLeases(
            commands, key, dead_letters, name=name, group=group, consumer=lambda: self.consumer,
            lease=lease, max_attempts=max_attempts,
        )  # fmt: skip

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
        try:
            reply = self._in_group(lambda: self._commands.poll(command, bool, block))
        except redis.ResponseError as error:
            if not str(error).startswith("UNBLOCKED"):
                raise
            reply = None  # an administrator or a failover has ended the wait
        if not reply:
            return []
        ((_, entries),) = reply.items() if isinstance(reply, dict) else reply
        return self._messages([(entry, 1) for entry in entries], asked_at)

    def claim(self, count: int) -> list[DurableMessage]:
        """Messages whose lease has run out; those delivered too often become dead letters."""
        is_whole = self._cursor == _START  # whether the end of the pages is that of the search
        for _ in range(_MOST_PAGES):
            asked_at = time.monotonic()
            command = ("XAUTOCLAIM", self._key, self._group, self.consumer, self._lease_ms,
                       self._cursor, "COUNT", count)  # fmt: skip
            reply = self._in_group(partial(self._commands.poll, command, _has_entries))
            self._cursor = reply[0]
            entries = [entry for entry in reply[1] if entry and entry[1] is not None]
            if entries:
                asked = [pending_command(self._key, self._group, entry[0]) for entry in entries]
                replies = self._commands.send(*asked, name="attempts")
                counted = [(entry, int(pending[0][3])) for entry, pending in
                           zip(entries, replies, strict=True) if pending]  # fmt: skip
                messages = self._messages(counted, asked_at)
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
            if attempts > self._max_attempts:
                self._try_to_bury(message, error_name(LeaseLostError), attempts - 1)
            elif BODY not in message.fields:
                self._try_to_bury(message, error_name(MessageFormatError), attempts)
            else:
                messages.append(message)
        return messages

    def _try_to_bury(self, message: DurableMessage, error: str, attempts: int) -> None:
        try:
            self._dead_letters.bury(message, self._group, error, attempts)
        except (redis.ResponseError, redis.WatchError) as failure:
            logger.warning(
                "queue %s: %s can't become a dead letter, and comes back: %s",
                self._name, message.id, failure,
            )  # fmt: skip
        else:
            logger.warning("queue %s: %s is a dead letter: %s", self._name, message.id, error)

    def remove_idle_consumers(self) -> None:
        """See :func:`.queues.consumer_group.remove_idle_consumers`."""
        remove_idle_consumers(
            self._commands, self._key, self._group, self.consumer, lease=self._lease
        )

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


# Far longer than any consumer that lives is silent, since a wait asks once a second.
CONSUMER_IDLE_SECONDS = 3600.0


def remove_idle_consumers(
    commands: StreamCommands, key: str, group: str, consumer: str, *, lease: float
) -> None:
    """Remove those that were silent for an hour, or for ten leases, and have nothing pending.

    :param consumer: who asks, and stays.
    :param lease: seconds.
    """
    (consumers,) = commands.send(("XINFO", "CONSUMERS", key, group))
    least = max(CONSUMER_IDLE_SECONDS, 10 * lease) * 1000
    for raw in consumers:
        found = raw if isinstance(raw, dict) else dict(zip(raw[::2], raw[1::2], strict=True))
        name = found[b"name"]
        if found[b"pending"] or found[b"idle"] < least or name == consumer.encode():
            continue
        pending, _ = commands.transaction(
            "remove_consumer",
            ("XPENDING", key, group, "-", "+", 1000, name),
            ("XGROUP", "DELCONSUMER", key, group, name),
        )
        ids = [entry[0] for entry in pending]
        if ids:  # it woke up in this very moment: what it got would be nobody's
            idle = round(lease * 1000)
            commands.send(
                ("XCLAIM", key, group, consumer, 0, *ids, "IDLE", idle, "FORCE", "JUSTID")
            )
