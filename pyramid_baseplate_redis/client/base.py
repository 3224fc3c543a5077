"""What the monitored clients of a server and of a Cluster have in common."""

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
    """Mixed into redis-py's client classes."""

    context_name: str
    server_span: Span
    redis_client_name: str
    connection_pool: Any
    _telemetry: ClientTelemetry
    _held: OpenResources | None
    # Of the client of a request: returns ``request.tm``, or None without pyramid_tm.
    transaction_manager: Callable[[], Any] | None = None

    def give_back(self) -> None:
        """Give back the connections that pipelines, subscribers and the like still have.

        For the end of a request: whatever it left open is closed, with a warning that says where
        it was made.
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
        """What starts the operations of this client."""
        return self._telemetry

    def observed_by(self, observer: Observer) -> None:
        """Tell one more observer of this client's operations, and of what it makes from now on."""
        self._telemetry = self._telemetry.observed_by(observer)

    def run_as_operation(self, args: tuple[Any, ...], call: Callable[[], T]) -> T:
        """Run ``call`` as the operation of the command ``args``."""
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
        """A lock shared by all clients of the server; see :meth:`redis.Redis.lock`.

        :param timeout: seconds after which the lock is released by itself. Without one, a holder
            that dies leaves it locked for ever: give one unless something else releases it.

        The other parameters are redis-py's; times are seconds.
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
        """The message queue kept in the list ``name``."""
        mixed: Any = self
        return MessageQueue(name, mixed)

    def durable_queue(self, name: str, **options: Any) -> DurableMessageQueue:
        """The durable queue ``name``, on Redis Streams.

        :param options: as for :class:`.DurableMessageQueue`; the settings ``<name>.*`` are those of
            ``request.<name>``, if that is declared.
        """
        options.setdefault("transaction_manager", self.transaction_manager)
        return DurableMessageQueue(name, self, **options)
