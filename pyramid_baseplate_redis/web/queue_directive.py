"""What this package adds to Pyramid's Configurator for message queues."""

from __future__ import annotations

import weakref
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pyramid.config import PHASE1_CONFIG, PHASE2_CONFIG
from pyramid.request import Request
from zope.interface import implementer

from ..exceptions import ConfigurationError
from ..interfaces import IMessageQueueFactory, IRedisContextFactory
from ..queues.durable_queue import DurableMessageQueue
from ..queues.length_metric import QueueLength, observed_length
from ..queues.list_queue import MessageQueue
from ..settings.fields import PACKAGE_PREFIX
from ..settings.package import PackageSettings
from ..settings.queue import QueueSettings, discovered_queues
from ..telemetry.stats import QueueStats
from .attribute_names import check_attribute, check_name, problem_of_name
from .introspection import QUEUES_CATEGORY, relate_queue

if TYPE_CHECKING:
    from pyramid.config import Configurator

_LAST = 10_000  # behind every action of the application


@implementer(IMessageQueueFactory)
class MessageQueueFactory:
    """Makes the queue of a request from the request's Redis client.

    :param name: the queue's name.
    """

    client: str
    settings: QueueSettings
    #: How long it is, for the metric; ``None`` where nobody may ask.
    length: QueueLength | None = None

    def __init__(self, name: str) -> None:
        self.name = name

    def observe_length(self, client_factory: Any) -> None:
        """Have its length collected as a metric; see :func:`.observed_length`."""
        stats = self._stats if self.settings.durable else None
        self.length = observed_length(self.name, client_factory.connection_pool, stats)

    def _stats(self, client: Any) -> QueueStats:
        return DurableMessageQueue(self.name, client, group=self.settings.group).stats()

    def __call__(self, redis_client: Any) -> MessageQueue | DurableMessageQueue:
        """Return the queue on a client."""
        if not self.settings.durable:
            return MessageQueue(self.name, redis_client)
        made: DurableMessageQueue = redis_client.durable_queue(self.name, **self.settings.options)
        return made


def add_message_queue(
    config: Configurator,
    name: str,
    client: str | None = None,
    *,
    durable: bool | None = None,
    group: str | None = None,
    lease: timedelta | str | None = None,
    max_attempts: int | None = None,
    max_length: int | None = None,
    delay: timedelta | str | None = None,
    trace_parent: bool | None = None,
) -> None:
    """Declare the message queue ``request.<name>``.

    A :class:`.MessageQueue` in the list of the same name, or a :class:`.DurableMessageQueue`, which
    has the further parameters. What isn't given here the settings ``<name>.*`` say.

    :param name: an identifier that no attribute of a request has.
    :param client: the name of the Redis client that it uses; may be left out when there is one
        only.
    :param durable: whether it is a durable one.
    :param lease: a time with a unit, as ``delay``: ``1 minute``, or a timedelta.
    :raises ConfigurationError: if the name can't be used; when the application is built, if there
        is no such client, or the settings are malformed.
    """
    given = {
        "durable": durable, "group": group, "lease": lease, "max_attempts": max_attempts,
        "max_length": max_length, "delay": delay, "trace_parent": trace_parent,
    }  # fmt: skip
    own = {key: value for key, value in given.items() if value is not None}
    _declare_queue(config, name, client, own, PHASE1_CONFIG)


def _declare_queue(
    config: Configurator, name: str, client: str | None, given: dict[str, Any], order: int
) -> None:
    check_name(name)
    introspectable = config.introspectable(QUEUES_CATEGORY, name, name, "redis message queue")
    factory = MessageQueueFactory(name)

    def register() -> None:
        config.registry.registerUtility(factory, IMessageQueueFactory, name)

    def configure() -> None:
        clients = [known for known, _ in config.registry.getUtilitiesFor(IRedisContextFactory)]
        if name in clients:
            raise ConfigurationError(f"message queue {name}: there is a Redis client of that name")
        factory.settings = QueueSettings.from_config(config.registry.settings, name, given)
        factory.client = _chosen_client(name, client or factory.settings.queue, clients)
        factory.observe_length(config.registry.getUtility(IRedisContextFactory, factory.client))
        introspectable.update(name=name, client=factory.client, **factory.settings.shown())

    def message_queue(request: Request) -> MessageQueue | DurableMessageQueue:
        found = request.registry.getUtility(IMessageQueueFactory, name)
        queue: MessageQueue | DurableMessageQueue = found(getattr(request, found.client))
        return queue

    message_queue.__doc__ = _description(name)
    config.action((QUEUES_CATEGORY, name), register, introspectables=(introspectable,), order=order)
    # Behind the clients, discovered ones included.
    config.action((QUEUES_CATEGORY, name, "settings"), configure)
    config.add_request_method(message_queue, name, reify=True)
    config.action(None, relate_queue, args=(config, introspectable), order=_LAST)


def _description(name: str) -> str:
    return f"The message queue {name}, on the request's Redis client."


def _chosen_client(queue: str, client: str | None, clients: list[str]) -> str:
    if client is None and len(clients) == 1:
        return clients[0]
    if client in clients:
        return client
    known = ", ".join(sorted(clients)) or "none"
    raise ConfigurationError(
        f"message queue {queue}: "
        + (f"there is no Redis client {client!r}" if client else "name one of the Redis clients")
        + f"; configured: {known}"
    )


def discover_queues(config: Configurator) -> None:
    """Declare the queues that the settings name and the application didn't declare itself."""
    settings = config.registry.settings
    clients = [name for name, _ in config.registry.getUtilitiesFor(IRedisContextFactory)]
    named = PackageSettings.from_config(settings).queues
    for name in discovered_queues(settings, named, clients):
        problem = problem_of_name(name)
        if problem is not None:
            raise ConfigurationError(
                f"{name}.queue: {problem[0]}{problem[1].format('the message queue')}, or name the "
                f"message queues in {PACKAGE_PREFIX}queues if this is none"
            )
        if config.registry.queryUtility(IMessageQueueFactory, name) is None:
            _declare_queue(config, name, None, {}, DISCOVERY)
            if not config.autocommit:  # where there are no conflicts at all
                hint = f"message queues in {PACKAGE_PREFIX}queues"
                args = (config, name, f"{name}.queue", _description(name), hint)
                config.action(None, check_attribute, args=args, order=_LAST)


DISCOVERY = PHASE2_CONFIG + 1  # behind the clients, before what the application declares


def follow_transactions(request: Request, client: Any) -> None:
    """Tell a client of a request where the request's transaction manager is."""
    reference = weakref.ref(request)

    def transaction_manager() -> Any:
        request: Any = reference()
        manager = getattr(request, "tm", None)
        if manager is None or request.environ.get("tm.active"):
            return manager
        # Any other manager would begin a transaction that nobody commits.
        return manager if getattr(manager, "explicit", False) else None

    client.transaction_manager = transaction_manager
