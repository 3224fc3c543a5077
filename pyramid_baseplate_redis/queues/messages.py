"""What a durable queue is made of: its messages and dead letters, their entries, its errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol

BODY = b"body"
# Of a dead letter, in front of the fields that the message had.
DEAD_ID, DEAD_ERROR, DEAD_ATTEMPTS = b"dead.id", b"dead.error", b"dead.attempts"
_DEAD_FIELDS = frozenset({DEAD_ID, DEAD_ERROR, DEAD_ATTEMPTS})


class SettlesMessages(Protocol):
    """What a message asks of the leases of its consumer; see :class:`.MessageLeases`."""

    def extend(self, message: DurableMessage) -> None: ...

    def acknowledge(self, messages: Sequence[DurableMessage]) -> None: ...

    def give_back(self, messages: Sequence[DurableMessage], delay: float | timedelta) -> None: ...


class DurableMessage:
    """A message that was received and is this consumer's for the time of its lease.

    Made by :meth:`.DurableMessageQueue.receive`. Leaving that block settles it; the methods here
    do so earlier.
    """

    def __init__(
        self, leases: SettlesMessages, entry_id: bytes, fields: Sequence[bytes], attempts: int,
        leased_at: float,
    ) -> None:  # fmt: skip
        self._leases = leases
        self.entry_id = entry_id
        self.raw_fields = fields
        self.fields = pairs(fields)
        self.leased_at = leased_at  # of time.monotonic(), before the server was asked for it
        self._attempts = attempts
        self.is_settled = False

    @property
    def body(self) -> bytes:
        """What was put; text as UTF-8."""
        return self.fields[BODY]

    @property
    def id(self) -> str:
        """What ``put`` returned."""
        return self.entry_id.decode()

    @property
    def attempts(self) -> int:
        """How often it was received, this time included."""
        return self._attempts

    @property
    def enqueued_at(self) -> datetime:
        """When it was put, by the server's clock."""
        return time_of(self.entry_id)

    def extend(self) -> None:
        """Renew the lease: it is this consumer's for ``lease`` from now on.

        :raises LeaseLostError: if it isn't this consumer's any longer.
        :raises redis.RedisError: if the server fails.
        """
        self._leases.extend(self)

    def acknowledge(self) -> None:
        """Remove it from the queue, before the block is left.

        :raises LeaseLostError: if somebody else has received it meanwhile.
        :raises redis.RedisError: if the server fails; it comes back when its lease has run out,
            unless it was removed and only the reply was lost.
        """
        self._leases.acknowledge([self])

    def give_back(self, delay: float | timedelta = 0) -> None:
        """Let it be received again, before the block is left.

        :param delay: not before so many seconds; at most the lease.
        :raises LeaseLostError: if somebody else has received it meanwhile.
        :raises redis.RedisError: if the server fails; it comes back when its lease has run out.
        """
        self._leases.give_back([self], delay)

    def __repr__(self) -> str:
        return f"<DurableMessage {self.id}, attempt {self.attempts}>"


@dataclass(frozen=True)
class DeadLetter:
    """A message that was given up, kept until it is replayed or discarded."""

    id: str  #: its own, to be given to ``replay`` or ``discard``
    message_id: str  #: what ``put`` returned
    error: str  #: the class of the last error
    attempts: int  #: how often it was received
    died_at: datetime  #: when it was given up, by the server's clock
    fields: Mapping[bytes, bytes] = field(repr=False)  #: the entry's, as they were put

    @property
    def body(self) -> bytes:
        """What was put; empty if the entry was no message."""
        return self.fields.get(BODY, b"")

    @classmethod
    def of(cls, entry: Any) -> DeadLetter:
        """Read an entry of the stream of dead letters."""
        entry_id, raw = entry
        fields = pairs(raw)
        attempts = fields.get(DEAD_ATTEMPTS, b"")
        return cls(
            id=entry_id.decode(),
            message_id=fields.get(DEAD_ID, b"").decode("ascii", "replace"),
            error=fields.get(DEAD_ERROR, b"").decode("utf-8", "replace"),
            attempts=int(attempts) if attempts.isdigit() else 0,
            died_at=time_of(entry_id),
            fields=pairs(without_dead(raw)),
        )


@dataclass(frozen=True)
class QueuedMessage:
    """A message of a queue, as somebody sees it who doesn't receive it."""

    id: str  #: what ``put`` returned
    body: bytes = field(repr=False)  #: what was put; empty if the entry is no message
    enqueued_at: datetime  #: when it was put, by the server's clock
    attempts: int  #: how often it was received
    consumer: str | None  #: who received it last and hasn't acknowledged it


def encoded(message: bytes | str) -> bytes:
    """A body as it is kept.

    :raises TypeError: if it is neither bytes nor text. Its type alone is told.
    """
    if isinstance(message, str):
        return message.encode()
    if isinstance(message, (bytes, bytearray, memoryview)):
        return bytes(message)
    raise TypeError(f"message: {type(message).__name__} is neither bytes nor text")


def pairs(fields: Sequence[bytes]) -> dict[bytes, bytes]:
    """An entry's fields; of two with the same name the first, which are ours in a dead letter."""
    found: dict[bytes, bytes] = {}
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        found.setdefault(name, value)
    return found


def without_dead(fields: Sequence[bytes]) -> list[bytes]:
    """The fields that a dead letter had as a message: all behind its own, which are in front."""
    own = 0
    while fields[own : own + 1] and fields[own] in _DEAD_FIELDS and own < 2 * len(_DEAD_FIELDS):
        own += 2
    return list(fields[own:])


def time_of(entry_id: bytes) -> datetime:
    """The time in an entry's identifier, which is the server's."""
    milliseconds = int(entry_id.partition(b"-")[0])
    try:
        return datetime.fromtimestamp(milliseconds / 1000, timezone.utc)
    except (OverflowError, ValueError, OSError):  # somebody chose an identifier of his own
        return datetime.max.replace(tzinfo=timezone.utc)
