"""DurableMessageQueue: a queue of messages in a Redis stream, which loses none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Literal, overload

from ..telemetry.messaging_spans import MessageTracer
from ..telemetry.stats import QueueStats
from .consumer_group import ConsumerGroup
from .dead_letters import DeadLetters
from .messages import BODY, DeadLetter, DurableMessage, QueuedMessage, encoded, pairs, time_of
from .queue_spec import QueueSpec, in_seconds
from .raw_commands import client_of, is_no_group, telemetry_of
from .receiver import Delivery, Receiver
from .sender import Sender, put_after_commit
from .stream_commands import StreamCommands

LEASE = timedelta(seconds=30)
MAX_ATTEMPTS = 5


class DurableMessageQueue:
    """A queue of messages in a Redis stream: each is processed at least once.

    A message that was received stays on the server until it is acknowledged. If its consumer fails
    or dies, somebody else receives it, and after ``max_attempts`` it is kept as a dead letter.

    :param name: the queue's name. The stream is ``{name}:messages``, that of the dead letters
        ``{name}:dead``; the braces keep both on one node of a Cluster.
    :param client: a connection pool or a client, of a Cluster too; as for :class:`.MessageQueue`.
    :param group: the consumer group. One for each queue: what is acknowledged is deleted.
    :param consumer: this consumer's name; by default the process's own, with its host and number.
    :param lease: seconds for which a received message is its consumer's. The same for all.
    :param max_attempts: how often a message is received before it is a dead letter.
    :param max_length: how many messages there may be, received ones included; ``None`` is no limit.
    :param delay: seconds until a message that failed may be received again, at most ``lease``.
    :param trace_parent: whether processing is a child of the span that sent the message, in its
        trace; otherwise it is linked to it.
    :param transaction_manager: returns that of ``after_commit``; a request's queue has its own.
    :raises ValueError: if one of the numbers is out of range, or the name is empty.

    Safe to share between threads.
    """

    def __init__(
        self, name: str, client: Any, *, group: str = "workers", consumer: str | None = None,
        lease: float | timedelta = LEASE, max_attempts: int = MAX_ATTEMPTS,
        max_length: int | None = None, delay: float | timedelta = 0, trace_parent: bool = False,
        transaction_manager: Callable[[], Any] | None = None,
    ) -> None:  # fmt: skip
        self._spec = spec = QueueSpec(
            name, group, consumer, lease=float(in_seconds(lease)), max_attempts=max_attempts,
            max_length=max_length, delay=in_seconds(delay),
        )  # fmt: skip
        self.queue = name
        self.client = client_of(client)
        self.key, self.dead_key = spec.key, spec.dead_key
        self.lease = timedelta(seconds=spec.lease)
        self.max_attempts = max_attempts
        self.max_length = max_length
        self.transaction_manager = transaction_manager
        tracer = MessageTracer(
            telemetry_of(self.client).tracer, name, group, trace_parent=trace_parent
        )
        self._commands = StreamCommands(self.client, spec.key)
        self._dead_letters = DeadLetters(spec, self._commands)
        self._group = ConsumerGroup(spec, self._commands, self._dead_letters)
        self._sender = Sender(spec, self._commands, tracer)
        self._receiver = Receiver(spec, self._commands, self._group, tracer)

    @property
    def consumer(self) -> str:
        """This consumer's name in the group."""
        return self._spec.consumer

    # Putting

    @overload
    def put(self, message: bytes | str, timeout: float | None = None) -> str: ...
    @overload
    def put(
        self, message: bytes | str, timeout: float | None = None, *, after_commit: Literal[True]
    ) -> None: ...
    @overload
    def put(
        self, message: bytes | str, timeout: float | None = None, *, after_commit: bool
    ) -> str | None: ...
    def put(
        self, message: bytes | str, timeout: float | None = None, *, after_commit: bool = False
    ) -> str | None:
        """Add a message to the queue; its span is ``send <name>``.

        :param message: bytes, or text, which comes out as UTF-8 bytes.
        :param timeout: unused, since a full queue refuses at once; it is in baseplate's interface.
        :param after_commit: wait until the request's transaction (``request.tm``) is committed,
            and put nothing if it is aborted. A failure is logged then, since nobody is left to be
            told.
        :returns: the message's identifier; ``None`` with ``after_commit``.
        :raises QueueFullError: if there are ``max_length`` messages.
        :raises MessageQueueError: if there is no transaction to wait for.
        :raises redis.RedisError: if the server fails. :func:`.is_retryable` tells whether the
            message may have been put; it is never sent twice.
        """
        bodies = [encoded(message)]
        if after_commit:
            put_after_commit(
                self.transaction_manager, self.queue, lambda: self._sender.send(bodies)
            )
            return None
        return self._sender.send(bodies)[0]

    def put_many(self, messages: Iterable[bytes | str]) -> list[str]:
        """Add messages in one round trip: all, or none.

        The parameters, and what is raised, are those of :meth:`put`.

        :returns: their identifiers, in the same order.
        """
        bodies = [encoded(message) for message in messages]
        return self._sender.send(bodies) if bodies else []

    # Receiving

    def receive(
        self, timeout: float | None = None, *, delay: float | timedelta | None = None
    ) -> Delivery[DurableMessage]:
        """Receive a message: ``with queue.receive(timeout=5) as message:``.

        Leaving the block acknowledges it. Leaving it by an exception gives it back, to be received
        again after ``delay``; the last of ``max_attempts`` makes it a dead letter, with the
        exception's class. The exception goes on. The block is the span ``process <name>``.

        :param timeout: seconds to wait for one. 0 doesn't wait; ``None`` waits for ever: it goes on
            after the server was away and came back. Longer than ``socket_timeout`` is fine.
        :param delay: seconds, for this message, in place of the queue's.
        :raises TimedOutError: entering the block, if there was none in that time.
        :raises LeaseLostError: leaving the block, if somebody else has received it meanwhile and
            finished it, or has it.
        :raises redis.RedisError: if the server fails; entering, unless ``timeout`` is ``None``.
            What it was about to hand out, or wasn't told of, comes back when its lease has run out.
        """
        return Delivery(self._receiver, 1, timeout, delay, lambda messages: messages[0])

    def receive_many(
        self, count: int, timeout: float | None = None, *, delay: float | timedelta | None = None
    ) -> Delivery[list[DurableMessage]]:
        """Receive up to ``count`` messages, at least one; see :meth:`receive`.

        Leaving the block settles all that weren't settled by a method of their own. The block is
        one span, which is linked to those that sent them.
        """
        if count < 1:
            raise ValueError(f"count: {count!r} is not 1 or more")
        return Delivery(self._receiver, count, timeout, delay, lambda messages: messages)

    def get(self, timeout: float | None = None) -> bytes:
        """Take a message from the queue, as :meth:`.MessageQueue.get` does: acknowledged at once.

        Whoever dies behind this loses it.

        :raises TimedOutError: if there was none in that time.
        :raises redis.RedisError: if the server fails; a message that couldn't be acknowledged
            comes back when its lease has run out.
        """
        with self.receive(timeout) as message:
            return message.body

    # Looking after it

    def stats(self) -> QueueStats:
        """What is in the queue, as of one moment.

        :raises redis.RedisError: if the server fails.
        """
        length, pending, oldest, dead, now = self._commands.send(
            ("XLEN", self.key), ("XPENDING", self.key, self._spec.group),
            ("XRANGE", self.key, "-", "+", "COUNT", 1), ("XLEN", self.dead_key), ("TIME",),
            name="stats", errors=True,
        )  # fmt: skip
        if isinstance(pending, Exception) and is_no_group(pending):
            pending = [0]
        for reply in (length, pending, oldest, dead, now):
            if isinstance(reply, Exception):
                raise reply
        age = None
        if oldest:
            seconds = int(now[0]) + int(now[1]) / 1e6 - time_of(oldest[0][0]).timestamp()
            age = timedelta(seconds=max(0.0, seconds))
        return QueueStats(length, pending[0], age, dead)

    def peek(self, count: int = 10) -> list[QueuedMessage]:
        """The oldest messages, received ones included; none of them is received by this.

        :param count: how many, at most.
        :raises redis.RedisError: if the server fails.
        """
        return peeked(self._commands, self._spec, count)

    def dead_letters(self, count: int = 100) -> list[DeadLetter]:
        """The oldest dead letters.

        :param count: how many, at most.
        """
        return self._dead_letters.letters(count)

    def replay(self, *ids: str) -> int:
        """Put dead letters on the queue again, as new messages; ``max_length`` doesn't hold.

        :param ids: of the letters; all without any.
        :returns: how many.
        """
        return self._dead_letters.replay(ids)

    def discard(self, *ids: str) -> int:
        """Delete dead letters, for good.

        :param ids: of the letters; all without any.
        :returns: how many.
        """
        return self._dead_letters.discard(ids)

    def unlink(self) -> None:
        """Remove the queue, its messages and its dead letters from the server.

        A later ``put`` makes it anew.
        """
        self._commands.send(("UNLINK", self.key, self.dead_key))

    def close(self) -> None:
        """Nothing: messages stay, and connections are the client's.

        :meth:`.MessageQueue.close` removes the queue, as baseplate does.
        """


def peeked(commands: StreamCommands, spec: QueueSpec, count: int) -> list[QueuedMessage]:
    """The oldest entries of the stream, with what the group knows of them.

    :param count: how many, at most.
    """
    entries, pending = commands.send(
        ("XRANGE", spec.key, "-", "+", "COUNT", count),
        ("XPENDING", spec.key, spec.group, "-", "+", count),
        name="peek",
        errors=True,
    )
    if isinstance(pending, Exception) and is_no_group(pending):
        pending = []  # nobody has received anything yet
    for reply in (entries, pending):
        if isinstance(reply, Exception):
            raise reply
    # Both are in the order of the identifiers: whoever is among the first has his delivery here.
    deliveries = {entry_id: (consumer, times) for entry_id, consumer, _, times in pending}
    found = []
    for entry_id, fields in entries:
        consumer, attempts = deliveries.get(entry_id, (None, 0))
        found.append(
            QueuedMessage(
                id=entry_id.decode(),
                body=pairs(fields).get(BODY, b""),
                enqueued_at=time_of(entry_id),
                attempts=attempts,
                consumer=None if consumer is None else consumer.decode("utf-8", "replace"),
            )
        )
    return found
