"""The base class that the monitored clients of a server and of a Cluster share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, ClassVar, Generic, TypeVar, cast

from opentelemetry.trace import Span
from redis.lock import Lock

from ..deadlines import DeadlinePolicy
from ..queues.durable_queue import DurableMessageQueue
from ..queues.list_queue import MessageQueue
from ..telemetry.operations import ClientTelemetry, Observer
from .lua_scripts import monitored_lock_class
from .open_resources import OpenResources
from .pipeline_base import MonitoredPipelineBase

T = TypeVar("T")
C = TypeVar("C", bound="MonitoredClient[Any]")
P = TypeVar("P", bound=MonitoredPipelineBase)


class MonitoredClient(Generic[P]):
    """Mixin for redis-py's client classes: telemetry, clean-up, transactions, locks and queues.

    Its type parameter is the class of the client's pipelines.
    """

    context_name: str
    server_span: Span
    redis_client_name: str
    connection_pool: Any
    _telemetry: ClientTelemetry
    _held: OpenResources | None
    #: Bounds the time of each call; ``None`` if it has no limit.
    deadlines: DeadlinePolicy | None
    _is_borrowed = False  # another client owns its connection
    _own_callbacks: bool  # whether no other client shares its response callbacks
    # The attributes that a copy by bound_to() does not share, with their values in the copy: at the
    # end of its request, it must not close what the original holds.
    _unshared: ClassVar[Mapping[str, Any]] = {"_held": None}
    # Set on a request's client. Returns ``request.tm``, or None without pyramid_tm.
    transaction_manager: Callable[[], Any] | None = None

    def within(self: C, seconds: float | timedelta) -> C:
        """Return this client with a deadline for a block of code.

        ``with request.foo.within(0.2) as foo:`` bounds all calls of ``foo`` in the block together;
        the time starts with the call of this method. A call that has not ended in time raises
        :class:`.DeadlineExceededError`, and further calls raise it at once. If the client has a
        deadline already, from ``foo.deadline`` or from another block, the earlier one counts. The
        returned client can also be used without ``with``; leaving the block closes nothing.

        It bounds commands, pipelines, transactions, locks and what a queue sends. A command that
        blocks, such as BLPOP, is cut off, and a lock is not released after the deadline. It does
        not bound subscribers, monitors, and the time for which a queue waits for messages.

        :param seconds: how long the block may take.
        :raises ValueError: ``seconds`` is not positive and finite.
        """
        policy = self.deadlines or DeadlinePolicy(self.context_name, None)
        return self._with_deadlines(policy.within(seconds))

    def _with_deadlines(self: C, deadlines: DeadlinePolicy) -> C:
        """Return this client with other deadlines; it shares what this one holds."""
        if self._held is None:
            self._held = OpenResources()
        twin = self.bound_to(self.server_span)
        twin.__dict__.update(self._shared_within(), deadlines=deadlines)
        return twin

    def __enter__(self: C) -> C:
        return self

    def _shared_within(self) -> dict[str, Any]:
        """Return the attributes that the client of a block has from this one, unlike a copy."""
        return {"_held": self._held, "_is_borrowed": True}

    def bound_to(self: C, server_span: Span) -> C:
        """Return a copy of this client whose commands belong to ``server_span``.

        redis-py's constructor builds a table of about 170 response callbacks. The copy shares the
        table until one of the two clients calls ``set_response_callback``.
        """
        self._own_callbacks = False
        twin = object.__new__(type(self))
        # Attributes of a dictionary that is made at once are read faster than after update().
        twin.__dict__ = {**self.__dict__, **self._unshared, "server_span": server_span}
        return twin

    def give_back(self) -> None:
        """Return the connections that this client's pipelines, subscribers and monitors still hold.

        Called at the end of a request. What is still open is closed, and a warning shows the line
        that created it.
        """
        if self._held is not None:
            self._held.give_back(self.context_name)

    def _hold(self, made: T) -> T:
        held = self._held
        if held is None:
            held = self._held = OpenResources()
        held.add(made)
        return made

    @property
    def client_telemetry(self) -> ClientTelemetry:
        """The telemetry of this client: it starts a span and a measurement for each operation."""
        return self._telemetry

    def observed_by(self, observer: Observer) -> None:
        """Add an observer of this client's operations.

        Pipelines and subscribers that the client makes from now on notify it too.
        """
        self._telemetry = self._telemetry.observed_by(observer)

    def run_as_operation(self, args: tuple[Any, ...], call: Callable[[], T]) -> T:
        """Call ``call`` as the operation of the command ``args`` and return its result."""
        return self._telemetry.run(self.server_span, args, call)

    def _pipeline_name(self, name: str | None) -> str:
        suffix = f"_{name}" if name else ""
        return f"{self.context_name}.pipeline{suffix}"

    def _pipeline_arguments(
        self, name: str | bool | None, transaction: Any, shard_hint: Any, default: Any
    ) -> tuple[str, Any, Any]:
        """Return a pipeline's span name, ``transaction`` and ``shard_hint``.

        :param default: the default of ``transaction``.
        """
        if isinstance(name, bool):  # redis-py's order: pipeline(transaction, shard_hint)
            shard_hint = shard_hint if transaction is default else transaction
            name, transaction = None, name
        return self._pipeline_name(name), transaction, shard_hint

    def transaction(
        self,
        func: Callable[[P], Any],
        *watches: Any,
        name: str | None = None,
        shard_hint: str | None = None,
        value_from_callable: bool = False,
        watch_delay: float | None = None,
    ) -> Any:
        """Call ``func`` with a pipeline and execute it; do both again if a watched key has changed.

        In a Cluster, all keys must be in one slot.

        :param func: queues commands on the pipeline. If it reads the watched keys first, it calls
            ``multi()`` after reading.
        :param watches: keys to watch.
        :param name: completes the span's name, ``<context_name>.pipeline_<name>``.
        :param shard_hint: see :meth:`redis.Redis.pipeline`.
        :param value_from_callable: return the result of ``func`` instead of the commands' results.
        :param watch_delay: seconds to wait before each further attempt.
        :raises redis.ConnectionError: the connection was lost, or the server is loading its data.
            If the reply to ``EXEC`` was lost, it is unknown whether the transaction was executed.
            (redis-py would begin again in both cases.)
        :raises redis.TimeoutError: a reply did not arrive in time, with the same uncertainty.
        """

        def named(pipeline: P) -> Any:
            pipeline.trace_name = self._pipeline_name(name)
            pipeline.is_repeated = True
            return func(pipeline)

        client = self
        if self.deadlines is not None:
            client = self._with_deadlines(self.deadlines.for_one_call())
        plain: Any = super(MonitoredClient, client)
        return plain.transaction(
            named,
            *watches,
            shard_hint=shard_hint,
            value_from_callable=value_from_callable,
            watch_delay=watch_delay,
        )

    def lock(
        self,
        name: str,
        timeout: float | None = None,
        sleep: float = 0.1,
        blocking: bool = True,
        blocking_timeout: float | None = None,
        lock_class: Any = None,
        thread_local: bool = True,
        raise_on_release_error: bool = True,
    ) -> Lock:
        """Return a lock shared by all clients of the server; see :meth:`redis.Redis.lock`.

        :param timeout: seconds after which the server releases the lock. Without a timeout, a lock
            whose holder dies stays locked forever.

        The other parameters are redis-py's. Times are in seconds.
        """
        plain: Any = super()
        made = plain.lock(
            name,
            timeout=timeout,
            sleep=sleep,
            blocking=blocking,
            blocking_timeout=blocking_timeout,
            lock_class=monitored_lock_class(lock_class or Lock),
            thread_local=thread_local,
            raise_on_release_error=raise_on_release_error,
        )
        return cast(Lock, made)

    def message_queue(self, name: str) -> MessageQueue:
        """Return the message queue that is kept in the list ``name``."""
        mixed: Any = self
        return MessageQueue(name, mixed)

    def durable_queue(self, name: str, **options: Any) -> DurableMessageQueue:
        """Return the durable queue ``name``, which is kept in a Redis stream.

        :param options: see :class:`.DurableMessageQueue`. The settings ``<name>.*`` are not read:
            they apply to ``request.<name>``, if that queue is declared.
        """
        options.setdefault("transaction_manager", self.transaction_manager)
        return DurableMessageQueue(name, self, **options)
