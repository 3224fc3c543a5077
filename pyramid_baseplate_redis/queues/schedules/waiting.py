"""Failed messages that wait until they are due: a sorted set beside the stream.

An entry that waits stays in the stream, but is acknowledged: it is not pending, and no consumer
receives it. The member ``<entry id>|<attempts>`` of the set names it, and the score is its due time
in milliseconds. So a wait can be longer than the lease, and no body is copied.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from typing import Any

import redis

from ...exceptions import REDIRECTION_ERRORS
from ...telemetry.messaging.spans import Settlement
from ..queue_spec import QueueSpec
from ..raw_commands import Command, RawCommands
from ..stream_commands import StreamCommands
from .server_clock import ServerClock

logger = logging.getLogger(__package__)

# A consumer that finds new messages looks this often for messages that have become due.
LOOK_SECONDS = 0.05

_MOST_CONFLICTS = 5
AT_ONCE = 0  #: the score of a message without a delay, which is due by any clock

#: An entry's identifier and how often it was received.
Attempted = tuple[bytes, int]


class WaitingMessages:
    """Parks messages of one queue until they are due, and takes them then.

    It remembers when the first message is due, so that a consumer knows when to look again.
    """

    def __init__(self, spec: QueueSpec, commands: StreamCommands, clock: ServerClock) -> None:
        self._spec = spec
        self._commands = commands
        self._clock = clock
        self.look_at = 0.0  #: when to look again, by :func:`time.monotonic`
        self.due_at = math.inf  #: when the first one is due, as far as known
        #: When the lease of a message expires that could not be parked.
        self.pending_due_at = math.inf
        #: The command that looks for the first one; :meth:`learn` reads its reply.
        self.look: Command = ("ZRANGE", spec.waiting_key, 0, 0, "WITHSCORES")

    def learn(self, reply: Any) -> None:
        """Read the reply to :attr:`look`.

        :raises redis.ResponseError: the reply is an error.
        """
        if isinstance(reply, REDIRECTION_ERRORS):
            reply = self._commands.poll(self.look, bool)  # which follows them
        if isinstance(reply, Exception):
            raise reply
        self.due_at = math.inf
        if reply:
            # With RESP3 the reply is a list of pairs.
            score = float(reply[0][1] if isinstance(reply[0], list) else reply[1])
            self.due_at = self._clock.monotonic(score) if score > AT_ONCE else 0.0
        self.look_at = time.monotonic() + LOOK_SECONDS

    def park(
        self, messages: Sequence[Attempted], delays: Sequence[float], settlement: Settlement
    ) -> list[bytes]:
        """Acknowledge messages and note when they are due, in one transaction.

        If the server refuses that because its memory is full, the messages stay pending, and their
        leases expire after the delays or, at the latest, after the usual time.

        :param messages: they are pending. Their next delivery counts as one more attempt.
        :param delays: seconds, one for each message.
        :param settlement: describes the span.
        :returns: the identifiers of those that were no longer pending.
        :raises redis.RedisError: the server failed.
        """
        spec = self._spec
        members = [member_of(message) for message in messages]
        noted = [part for delay, member in zip(delays, members, strict=True)
                 for part in (self._score(delay), member)]  # fmt: skip
        acknowledgements = [("XACK", spec.key, spec.group, each) for each, _ in messages]
        add = ("ZADD", spec.waiting_key, *noted)
        try:
            _, *counts = self._commands.transaction(
                "give_back", add, *acknowledgements, settlement=settlement
            )
        except (redis.ResponseError, redis.exceptions.ClusterError) as error:
            self._leave_pending(messages, delays, settlement, error)
            return []
        self.due_at = min(self.due_at, time.monotonic() + min(delays))
        gone = [index for index, count in enumerate(counts) if not count]
        if gone:
            self._forget_deleted([(messages[index][0], members[index]) for index in gone])
        return [messages[index][0] for index in gone]

    def _forget_deleted(self, parked: Sequence[tuple[bytes, bytes]]) -> None:
        """Remove the members of entries that do not exist any more.

        Other members stay: another consumer may have parked the same message with the same number
        of attempts, for example after a server has lost its latest changes.
        """
        spec = self._spec
        looked = [("XRANGE", spec.key, entry_id, entry_id) for entry_id, _ in parked]
        pages = self._commands.send(*looked, name="give_back")
        deleted = [member for (_, member), page in zip(parked, pages, strict=True) if not page]
        if deleted:
            self._commands.send(("ZREM", spec.waiting_key, *deleted))

    def _score(self, delay: float) -> int:
        return math.ceil(self._clock.now() + delay * 1000) if delay else AT_ONCE

    def _leave_pending(
        self, messages: Sequence[Attempted], delays: Sequence[float], settlement: Settlement,
        error: redis.RedisError,
    ) -> None:  # fmt: skip
        spec = self._spec
        # FORCE: a server goes on with a transaction after ZADD has failed because the key has
        # another type. The entry is acknowledged then, and would never be received again.
        commands = [
            (
                "XCLAIM", spec.key, spec.group, spec.consumer, 0, entry_id,
                "IDLE", spec.lease_ms - round(min(delay, spec.lease) * 1000),
                "RETRYCOUNT", attempts, "FORCE", "JUSTID",
            )
            for (entry_id, attempts), delay in zip(messages, delays, strict=True)
        ]  # fmt: skip
        self._commands.send(*commands, name="give_back", settlement=settlement)
        self.pending_due_at = min(self.pending_due_at, time.monotonic() + min(delays))
        logger.warning(
            "queue %s: %s cannot wait in %s and will be delivered again within the lease: %s",
            spec.name, ", ".join(each.decode() for each, _ in messages), spec.waiting_key, error,
        )  # fmt: skip

    def take(self, count: int) -> list[tuple[Any, int]]:
        """Claim messages that are due, in one transaction.

        :param count: maximum number of messages.
        :returns: entries, and how often each was received. The fields of an entry that was received
            too often are ``None``: its body is not read.
        :raises redis.RedisError: the server failed.
        """
        spec = self._spec
        now = self._clock.now()
        self.look_at = 0.0
        self.due_at = math.inf  # the next look learns it
        # The actual commands are not known before the set was read.
        shown = [("ZREM", spec.waiting_key), ("XCLAIM", spec.key)]

        def claim(ask: RawCommands) -> list[tuple[Any, int]]:
            due = ("ZRANGEBYSCORE", spec.waiting_key, "-inf", math.floor(now), "LIMIT", 0, count)
            (members,) = ask(due)
            if not members:
                ask(("UNWATCH",))
                return []
            attempted = [_attempted(member) for member in members]
            # A message that another consumer has received meanwhile has been idle for less than the
            # lease, and is not claimed. FORCE claims an entry that is not pending.
            claims = [
                ("XCLAIM", spec.key, spec.group, spec.consumer, spec.lease_ms, entry_id, "FORCE",
                 *(("RETRYCOUNT", attempts + 1) if attempts < spec.max_attempts else
                   ("RETRYCOUNT", attempts, "JUSTID")))
                for entry_id, attempts in attempted
            ]  # fmt: skip
            remove = ("ZREM", spec.waiting_key, *members)
            try:
                replies = ask.transaction(*claims, remove)
            except redis.OutOfMemoryError:
                # Redis 7.0 refuses every transaction if its memory is full. If the consumer dies
                # between these commands, the message is pending, and its member is removed later.
                replies = ask(*claims, remove)
            return [
                (_entry(reply[0]), attempts + 1)
                for reply, (_, attempts) in zip(replies, attempted, strict=False)
                if reply and reply[0]
            ]

        try:
            return self._commands.watching(
                spec.waiting_key, "take", shown, claim, is_poll=True, attempts=_MOST_CONFLICTS
            )
        except (redis.WatchError, redis.exceptions.ClusterError):
            # Other consumers take messages, or a Cluster moves the slot and its keys are not yet
            # on the same node. The next look finds what is left.
            return []


def _entry(claimed: Any) -> Any:
    return (claimed, None) if isinstance(claimed, bytes) else claimed


def member_of(message: Attempted) -> bytes:
    return b"%b|%d" % message


def _attempted(member: bytes) -> Attempted:
    entry_id, _, attempts = member.partition(b"|")
    return entry_id, int(attempts)
