"""The base class that the monitored clients of a server and of a Cluster share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from opentelemetry.trace import Span
from redis.lock import Lock

from ..queues.durable_queue import DurableMessageQueue
from ..queues.list_queue import MessageQueue
from ..telemetry.operations import ClientTelemetry, Observer
from .lua_scripts import monitored_lock_class
from .open_resources import OpenResources

T = TypeVar("T")


class MonitoredClient:
    """Mixin for redis-py's client classes: telemetry, clean-up, locks and queues."""

    context_name: str
    server_span: Span
    redis_client_name: str
    connection_pool: Any
    _telemetry: ClientTelemetry
    _held: OpenResources | None
    # Set on a request's client. Returns ``request.tm``, or None without pyramid_tm.
    transaction_manager: Callable[[], Any] | None = None

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
