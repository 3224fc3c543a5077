"""Messages and dead letters of a durable queue, and their fields in entries of a stream."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol

from ..exceptions import MessageFormatError

BODY = b"body"
MESSAGE_ID = b"message.id"  #: the identifier, if it was chosen before the message had an entry
UNIQUE = b"message.unique"  #: the key of ``put(unique=...)``
# A dead letter has these fields in front of the message's own. The last one is DEAD_ATTEMPTS.
DEAD_ID, DEAD_ERROR, DEAD_ATTEMPTS = b"dead.id", b"dead.error", b"dead.attempts"
DEAD_MESSAGE, DEAD_TRACEBACK = b"dead.message", b"dead.traceback"
DEAD_REF = b"dead.ref"  # the entry of the stream that still has the body
_DEAD_FIELDS = frozenset(
    {DEAD_ID, DEAD_ERROR, DEAD_ATTEMPTS, DEAD_MESSAGE, DEAD_TRACEBACK, DEAD_REF}
)


class SettlesMessages(Protocol):
    """The methods of :class:`.MessageLeases` that a message calls."""

    def extend(self, message: DurableMessage) -> None: ...

    def acknowledge(self, messages: Sequence[DurableMessage]) -> None: ...

    def give_back(self, messages: Sequence[DurableMessage], delay: float | timedelta) -> None: ...


class DurableMessage:
    """A received message, on which its consumer may work until the lease expires.

    :meth:`.DurableMessageQueue.receive` returns it, and leaving the block settles it. The methods
    :meth:`acknowledge` and :meth:`give_back` settle it earlier.
    """

    def __init__(
        self, leases: SettlesMessages, entry_id: bytes, fields: Sequence[bytes], attempts: int,
        leased_at: float,
    ) -> None:  # fmt: skip
        self._leases = leases
        self.entry_id = entry_id
        self.raw_fields = fields
        self.fields = pairs(fields)
        self.leased_at = leased_at  # time.monotonic() before the command was sent
        self._attempts = attempts
        self.is_settled = False
        #: Whether it was delivered before and not settled: its consumer died, or its lease expired.
        self.is_suspect = False

    @property
    def body(self) -> bytes:
        """The bytes that were put; text as UTF-8."""
        return self.fields[BODY]

    @property
    def json(self) -> Any:
        """The object that ``put_json`` put, or that any JSON text stands for.

        :raises MessageFormatError: the body is not JSON.
        """
        try:
            return json.loads(self.body)
        except ValueError as error:
            # Not the error itself: its text and its attributes have parts of the body.
            kind = type(error).__name__
        raise MessageFormatError(f"{self.id}: its body is not JSON: {kind}")

    @property
    def id(self) -> str:
        """The identifier that ``put`` returned."""
        return id_of(self.entry_id, self.fields)

    @property
    def attempts(self) -> int:
        """The number of times it was received, including this one."""
        return self._attempts

    @property
    def enqueued_at(self) -> datetime:
        """The time when it was put, by the server's clock."""
        return time_of(self.fields.get(MESSAGE_ID, self.entry_id))

    def extend(self) -> None:
        """Renew the lease, so that it lasts ``lease`` seconds from now on.

        :raises LeaseLostError: another consumer has received the message, or it is settled.
        :raises redis.RedisError: the server failed.
        """
        self._leases.extend(self)

    def acknowledge(self) -> None:
        """Remove the message from the queue before the block is left.

        :raises LeaseLostError: another consumer has received the message, or it is settled.
        :raises redis.RedisError: the server failed. The message is delivered again once its lease
            expires, unless it was removed and only the reply was lost.
        """
        self._leases.acknowledge([self])

    def give_back(self, delay: float | timedelta = 0) -> None:
        """Let the message be received again before the block is left.

        :param delay: seconds until it may be received again. On a server whose memory is full, it
            waits for at most the lease.
        :raises LeaseLostError: another consumer has received the message, or it is settled.
        :raises ValueError: ``delay`` is negative or longer than ten years.
        :raises redis.RedisError: the server failed. The message is delivered again once its lease
            expires.
        """
        self._leases.give_back([self], delay)

    def __repr__(self) -> str:
        return f"<DurableMessage {self.id}, attempt {self.attempts}>"


@dataclass(frozen=True)
class DeadLetter:
    """A message that failed too often, kept until it is replayed or discarded."""

    id: str  #: identifier for ``replay`` and ``discard``
    message_id: str  #: the identifier that ``put`` returned
    error: str  #: the class of the last error
    attempts: int  #: the number of times it was received
    died_at: datetime  #: the time when it became a dead letter, by the server's clock
    fields: Mapping[bytes, bytes] = field(repr=False)  #: the message's fields, as they were put
    #: The text of the last error, shortened; empty with ``keep_errors = class``.
    message: str = field(default="", repr=False)
    #: The end of the last error's traceback; empty with ``keep_errors = class``.
    traceback: str = field(default="", repr=False)
    #: The identifier of the stream's entry if the message was left there, because its body may be
    #: impossible to transfer; otherwise empty.
    ref: str = ""

    @property
    def body(self) -> bytes:
        """The bytes that were put.

        They are empty if the entry was not a message, or if its body could not be read.
        """
        return self.fields.get(BODY, b"")

    @classmethod
    def of(cls, entry: Any) -> DeadLetter:
        """Read an entry of the stream of dead letters."""
        entry_id, raw = entry
        fields = dead_fields(raw)
        attempts = fields.get(DEAD_ATTEMPTS, b"")
        return cls(
            id=entry_id.decode(),
            message_id=id_of(fields.get(DEAD_ID, b""), pairs(without_dead(raw))),
            error=fields.get(DEAD_ERROR, b"").decode("utf-8", "replace"),
            attempts=int(attempts) if attempts.isdigit() else 0,
            died_at=time_of(entry_id),
            fields=pairs(without_dead(raw)),
            message=fields.get(DEAD_MESSAGE, b"").decode("utf-8", "replace"),
            traceback=fields.get(DEAD_TRACEBACK, b"").decode("utf-8", "replace"),
            ref=fields.get(DEAD_REF, b"").decode("ascii", "replace"),
        )


@dataclass(frozen=True)
class QueuedMessage:
    """A message of a queue, as :meth:`.DurableMessageQueue.peek` returns it."""

    id: str  #: the identifier that ``put`` returned
    body: bytes = field(repr=False)  #: the bytes that were put; empty if it is not a message
    enqueued_at: datetime  #: the time when it was put, by the server's clock
    attempts: int  #: the number of times it was received
    consumer: str | None  #: the consumer that received it last, until it is acknowledged
    due_at: datetime | None = None  #: when a delayed message is due, by the server's clock


def encoded(queue: str, message: bytes | str) -> bytes:
    """Return a message's body as bytes.

    :param queue: the queue's name, for the error.
    :raises TypeError: it is neither bytes nor text. The error names its type only.
    """
    if isinstance(message, str):
        return message.encode()
    if isinstance(message, (bytes, bytearray, memoryview)):
        return bytes(message)
    raise TypeError(
        f"queue {queue}: {type(message).__name__} is neither bytes nor text. Put bytes or str, for "
        "example json.dumps(message)."
    )


def json_text(queue: str, value: object) -> bytes:
    """Return an object as JSON.

    :param queue: the queue's name, for the error.
    :raises TypeError: JSON has no such objects.
    :raises ValueError: it contains itself, or NaN or an infinity, which JSON does not have.
    """
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise type(error)(f"queue {queue}: {error}. Put what JSON can express.") from None


def pairs(fields: Sequence[bytes]) -> dict[bytes, bytes]:
    """Return an entry's fields by name.

    The first of two fields with the same name wins: in a dead letter it is the one added here.
    """
    found: dict[bytes, bytes] = {}
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        found.setdefault(name, value)
    return found


def dead_fields(fields: Sequence[bytes]) -> dict[bytes, bytes]:
    """Return the fields of a dead letter that are its own, by name."""
    return pairs(fields[: _own_length(fields)])


def without_dead(fields: Sequence[bytes]) -> list[bytes]:
    """Return the message's fields of a dead letter, which follow its own."""
    return list(fields[_own_length(fields) :])


def _own_length(fields: Sequence[bytes]) -> int:
    own = 0
    while fields[own : own + 1] and fields[own] in _DEAD_FIELDS:
        own += 2
        if fields[own - 2] == DEAD_ATTEMPTS:
            break  # the message may have fields of these names as well
    return own


def id_of(entry_id: bytes, fields: Mapping[bytes, bytes]) -> str:
    """Return a message's identifier: its own, or that of its entry."""
    return fields.get(MESSAGE_ID, entry_id).decode("utf-8", "replace")


def time_of(entry_id: bytes) -> datetime:
    """Return the server's time, which is part of an entry's identifier."""
    try:
        milliseconds = int(entry_id.partition(b"-")[0])
        return datetime.fromtimestamp(milliseconds / 1000, timezone.utc)
    except (OverflowError, ValueError, OSError):  # another program chose the identifier
        return datetime.max.replace(tzinfo=timezone.utc)
