"""DurableMessageQueue: a message queue on a Redis stream that survives crashes of its consumers.

The public methods are here. Sending, receiving and settling are in modules of their own, which
share a :class:`.QueueSpec`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, overload

from ..settings.queue import BACKOFF, default_attempts
from ..telemetry.messaging.spans import MessageTracer
from ..telemetry.stats import QueueStats
from .after_commit import put_after_commit
from .inspection import peeked, stats_of
from .messages import DeadLetter, DurableMessage, QueuedMessage, encoded, json_text
from .queue_spec import QueueSpec, in_seconds
from .raw_commands import client_of
from .receiving.consumer_group import ConsumerGroup
from .receiving.delivery import Delivery
from .receiving.receiver import Receiver
from .schedules.delayed import DelayedMessages
from .schedules.server_clock import ServerClock
from .schedules.unique import UniqueKeys
from .schedules.waiting import WaitingMessages
from .sender import PutOptions, Sender
from .settling.dead_letters import DeadLetters
from .settling.leases import MessageLeases
from .stream_commands import StreamCommands

LEASE = timedelta(seconds=30)


class DurableMessageQueue:
    """A message queue on a Redis stream. Each message is processed at least once.

    A received message stays on the server until it is acknowledged. If its consumer fails or dies,
    another consumer receives it. After ``max_attempts`` it is kept as a dead letter.

    A queue can be shared between threads.

    :param name: the queue's name. The messages are in the stream ``{name}:messages``, the dead
        letters in ``{name}:dead``; the braces keep both on one node of a Cluster.
    :param client: a connection pool or a client, also of a Cluster, as for
        :class:`.MessageQueue`.
    :param group: the consumer group. A queue can have only one, because acknowledged messages are
        deleted.
    :param consumer: this consumer's name; by default host, process ID and a random token.
    :param lease: seconds that a consumer may work on a message before another one receives it. All
        consumers of a queue need the same value.
    :param max_attempts: how often a message is received before it becomes a dead letter; by default
        6 with the default ``backoff``, otherwise 5.
    :param max_length: maximum number of messages, including received ones; ``None`` is no limit.
    :param backoff: seconds that a message waits after its first failure, its second one, and so on;
        by default 1, 5, 30, 120 and 600. After further failures it waits as after the last of them.
        Each wait is changed at random by up to a fifth. ``None`` is no wait.
    :param delay: seconds that a message waits after each failure, instead of ``backoff``.
    :param keep_errors: ``all`` keeps the class, the text and the traceback of the last error in a
        dead letter, in at most 4 kB; ``class`` keeps the class only.
    :param trace_parent: make the span that processes a message a child of the span that sent it,
        in the same trace. By default the two spans are linked.
    :param transaction_manager: returns the transaction manager for ``after_commit``. A request's
        queue uses ``request.tm``.
    :raises ValueError: a number is out of range, or ``name`` or ``group`` is empty.
    :raises TypeError: ``client`` is neither a pool nor a client.
    """

    def __init__(
        self, name: str, client: Any, *, group: str = "workers", consumer: str | None = None,
        lease: float | timedelta = LEASE, max_attempts: int | None = None,
        max_length: int | None = None, backoff: Sequence[float | timedelta] | None = BACKOFF,
        delay: float | timedelta | None = None, keep_errors: str = "all",
        trace_parent: bool = False,
        transaction_manager: Callable[[], Any] | None = None,
    ) -> None:  # fmt: skip
        if delay is not None:
            backoff = None
        if max_attempts is None:
            max_attempts = default_attempts(backoff)
        self._spec = spec = QueueSpec(
            name, group, consumer, lease=float(in_seconds(lease)), max_attempts=max_attempts,
            max_length=max_length, delay=None if delay is None else in_seconds(delay),
            backoff=tuple(in_seconds(wait) for wait in backoff or ()), keep_errors=keep_errors,
        )  # fmt: skip
        self.queue = name
        self.client = client_of(client)
        self.key, self.dead_key = spec.key, spec.dead_key
        self.lease = timedelta(seconds=spec.lease)
        self.max_attempts = max_attempts
        self.max_length = max_length
        self.transaction_manager = transaction_manager
        self._commands = StreamCommands(self.client, spec.key)
        tracer = MessageTracer(self._commands.telemetry, name, group, trace_parent=trace_parent)
        clock = ServerClock(self._commands)
        waiting = WaitingMessages(spec, self._commands, clock)
        self._unique = UniqueKeys(spec, self._commands, clock)
        self._delayed = DelayedMessages(spec, self._commands, clock, self._unique)
        self._dead_letters = DeadLetters(spec, self._commands, tracer)
        leases = MessageLeases(
            spec, self._commands, self._dead_letters, waiting, self._unique, tracer
        )
        self._group = ConsumerGroup(
            spec, self._commands, self._dead_letters, waiting, self._delayed, leases
        )
        self._sender = Sender(spec, self._commands, tracer, clock, self._delayed, self._unique)
        self._receiver = Receiver(spec, self._commands, self._group, waiting, self._delayed, tracer)

    @property
    def consumer(self) -> str:
        """This consumer's name in the group."""
        return self._spec.consumer

    @property
    def receiver(self) -> Receiver:
        """The part that waits for messages and settles them, for workers."""
        return self._receiver

    # Putting

    @overload
    def put(
        self,
        message: bytes | str,
        timeout: float | None = None,
        *,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        unique: str | None = None,
        unique_for: float | timedelta | None = None,
    ) -> str: ...
    @overload
    def put(
        self,
        message: bytes | str,
        timeout: float | None = None,
        *,
        after_commit: Literal[True],
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        unique: str | None = None,
        unique_for: float | timedelta | None = None,
    ) -> None: ...
    @overload
    def put(
        self,
        message: bytes | str,
        timeout: float | None = None,
        *,
        after_commit: bool,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        unique: str | None = None,
        unique_for: float | timedelta | None = None,
    ) -> str | None: ...
    def put(
        self, message: bytes | str, timeout: float | None = None, *, after_commit: bool = False,
        delay: float | timedelta | None = None, at: datetime | None = None,
        unique: str | None = None, unique_for: float | timedelta | None = None,
    ) -> str | None:  # fmt: skip
        """Add a message to the queue. The span is ``send <name>``.

        :param message: bytes, or text, which is received as UTF-8 bytes.
        :param timeout: unused, because a full queue raises at once; baseplate's interface has it.
        :param after_commit: put the message after the request's transaction (``request.tm``) is
            committed, and not at all if it is aborted. The caller can no longer handle an error
            then, so it is logged.
        :param delay: seconds until the message may be received.
        :param at: the time when it may be received, with a time zone; at once if that is past.
        :param unique: a key such as ``invoice 17``. While a message of the same key waits to be
            received, is delayed or is being processed, nothing is added.
        :param unique_for: seconds in which nothing is added even if that message is processed.
        :returns: the message's identifier, or that of the one that is there already; ``None`` with
            ``after_commit``.
        :raises QueueFullError: the queue has ``max_length`` messages.
        :raises MessageQueueError: ``after_commit`` is set and there is no transaction.
        :raises TypeError: the message is neither bytes nor text.
        :raises ValueError: ``delay`` and ``at`` are both set, ``at`` has no time zone,
            ``unique_for`` is set without ``unique``, or a time is out of range.
        :raises redis.RedisError: the server failed. :func:`.is_retryable` returns whether the
            message may have been put. It is never sent twice.
        """
        bodies = [encoded(self.queue, message)]
        options = PutOptions(delay, at, unique, unique_for)
        if after_commit:
            put_after_commit(
                self.transaction_manager, self.queue, lambda: self._sender.send(bodies, options)
            )
            return None
        return self._sender.send(bodies, options)[0]

    def put_many(
        self, messages: Iterable[bytes | str], *, delay: float | timedelta | None = None,
        at: datetime | None = None,
    ) -> list[str]:  # fmt: skip
        """Add messages in one round trip: either all of them or none.

        Raises the same errors as :meth:`put`.

        :param messages: bytes or text.
        :param delay: as for :meth:`put`, as is ``at``.
        :returns: their identifiers, in the same order.
        """
        bodies = [encoded(self.queue, message) for message in messages]
        options = PutOptions(delay, at)
        return self._sender.send(bodies, options) if bodies else []

    @overload
    def put_json(self, value: object) -> str: ...
    @overload
    def put_json(self, value: object, *, after_commit: Literal[True]) -> None: ...
    @overload
    def put_json(self, value: object, **options: Any) -> str | None: ...
    def put_json(self, value: object, **options: Any) -> str | None:
        """Add an object as JSON, which :attr:`.DurableMessage.json` returns.

        :param value: what JSON can express: text, numbers, booleans, ``None``, lists and dicts.
        :param options: as for :meth:`put`, which also says what is raised.
        :raises TypeError: JSON has no such objects.
        :raises ValueError: it contains itself, or NaN or an infinity, which JSON does not have.
        """
        put: str | None = self.put(json_text(self.queue, value), **options)
        return put

    # Receiving

    def receive(
        self, timeout: float | None = None, *, delay: float | timedelta | None = None
    ) -> Delivery[DurableMessage]:
        """Receive a message: ``with queue.receive(timeout=5) as message:``.

        The block is the span ``process <name>``. There are three ways to leave it:

        1. Without an exception: the message is acknowledged.
        2. With an exception: the message may be received again after a wait, which grows with each
           attempt.
        3. With an exception on the last of ``max_attempts``: it becomes a dead letter, which keeps
           the exception as ``keep_errors`` says.

        In cases 2 and 3 the exception reaches the caller.

        :param timeout: seconds to wait for a message; may be longer than ``socket_timeout``. 0
            does not wait. ``None`` waits forever, even while the server is unreachable.
        :param delay: seconds until this message may be received again if it fails, instead of the
            queue's ``backoff`` or ``delay``.
        :raises TimedOutError: on entering the block, no message arrived within ``timeout``.
        :raises LeaseLostError: on leaving the block, another consumer has received the message in
            the meantime.
        :raises ValueError: ``timeout`` is negative or infinite, or ``delay`` is negative or longer
            than ten years.
        :raises redis.RedisError: the server failed. With ``timeout=None``, entering the block
            raises only errors that waiting does not fix, such as a wrong password. A message that
            was claimed but not returned is delivered again once its lease expires.
        """
        return Delivery(self._receiver, 1, timeout, delay, lambda messages: messages[0])

    def receive_many(
        self, count: int, timeout: float | None = None, *, delay: float | timedelta | None = None
    ) -> Delivery[list[DurableMessage]]:
        """Receive up to ``count`` messages, at least one; see :meth:`receive`.

        Leaving the block settles all messages on which neither ``acknowledge`` nor ``give_back``
        was called. The block is one span, which is linked to the spans that sent them.

        :param count: maximum number of messages.
        :raises ValueError: ``count`` is less than 1.
        """
        if count < 1:
            raise ValueError(f"count: {count!r} is out of range. Write 1 or more.")
        return Delivery(self._receiver, count, timeout, delay, lambda messages: messages)

    def get(self, timeout: float | None = None) -> bytes:
        """Receive a message and acknowledge it at once, like :meth:`.MessageQueue.get`.

        If the process dies after this call, the message is lost.

        :param timeout: seconds, as for :meth:`receive`.
        :raises TimedOutError: no message arrived within ``timeout``.
        :raises redis.RedisError: the server failed. A message that could not be acknowledged is
            delivered again once its lease expires.
        """
        with self.receive(timeout) as message:
            return message.body

    # Operating

    def stats(self) -> QueueStats:
        """Return the numbers of messages and dead letters, and the age of the oldest message.

        :raises redis.RedisError: the server failed.
        """
        return stats_of(self._commands, self._spec)

    def peek(self, count: int = 10) -> list[QueuedMessage]:
        """Return the oldest messages without receiving them, including received ones.

        Delayed ones come after the others.

        :param count: maximum number of messages.
        :raises redis.RedisError: the server failed.
        """
        return peeked(self._commands, self._spec, self._delayed, count)

    def dead_letters(self, count: int = 100) -> list[DeadLetter]:
        """Return the oldest dead letters.

        :param count: maximum number of dead letters.
        :raises redis.RedisError: the server failed.
        """
        return self._dead_letters.letters(count)

    def replay(self, *ids: str) -> int:
        """Put dead letters on the queue again as new messages, regardless of ``max_length``.

        A message whose body could not be transferred keeps its identifier.

        :param ids: identifiers of dead letters; without any, all are replayed.
        :returns: the number of replayed dead letters.
        :raises redis.RedisError: the server failed.
        """
        return self._dead_letters.replay(ids)

    def discard(self, *ids: str) -> int:
        """Delete dead letters.

        :param ids: identifiers of dead letters; without any, all are deleted.
        :returns: the number of deleted dead letters.
        :raises redis.RedisError: the server failed.
        """
        return self._dead_letters.discard(ids)

    def unlink(self) -> None:
        """Remove the queue, its messages, their unique keys and its dead letters from the server.

        A later ``put`` creates it again.

        :raises redis.RedisError: the server failed.
        """
        spec = self._spec
        keys = (spec.key, spec.dead_key, spec.waiting_key, spec.delayed_key)
        named = (*keys, *self._delayed.keys(), *self._unique.keys())
        self._commands.send(*(("UNLINK", key) for key in named), name="unlink")

    def close(self) -> None:
        """Do nothing: messages stay on the server, and the client owns the connections.

        :meth:`.MessageQueue.close` removes its queue, as baseplate's does.
        """
