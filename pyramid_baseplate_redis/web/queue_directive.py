"""The directive ``add_message_queue``, and the discovery of queues in the settings."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from pyramid.config import PHASE1_CONFIG, PHASE2_CONFIG
from pyramid.request import Request
from zope.interface import implementer

from ..exceptions import ConfigurationError
from ..interfaces import IMessageQueueFactory, IRedisContextFactory
from ..queues.durable_queue import DurableMessageQueue
from ..queues.length_metric import QueueLength, observed_length
from ..queues.list_queue import MessageQueue
from ..settings.discovery.queues import discovered_queues, queues_without_client
from ..settings.fields import PACKAGE_PREFIX
from ..settings.package import package_settings
from ..settings.queue import QueueSettings
from ..telemetry.stats import QueueStats
from .attribute_names import check_attribute, check_name, problem_of_name
from .introspection import QUEUES_CATEGORY, relate_queue
from .setting_place import settings_action

if TYPE_CHECKING:
    from pyramid.config import Configurator

logger = logging.getLogger(__package__)

_LAST = 10_000  # after every action of the application


@implementer(IMessageQueueFactory)
class MessageQueueFactory:
    """Makes the queue of a request from the request's Redis client.

    :param name: the queue's name.
    """

    client: str
    settings: QueueSettings
    #: Reports the queue's length as a metric; ``None`` if the length isn't measured.
    length: QueueLength | None = None

    def __init__(self, name: str) -> None:
        self.name = name

    def observe_length(self, client_factory: Any) -> None:
        """Report the queue's length as a metric; see :func:`.observed_length`."""
        stats = self._stats if self.settings.durable else None
        self.length = observed_length(self.name, client_factory.connection_pool, stats)

    def _stats(self, client: Any) -> QueueStats:
        return DurableMessageQueue(self.name, client, group=self.settings.group).stats()

    def __call__(self, redis_client: Any) -> MessageQueue | DurableMessageQueue:
        """Return the queue, on the Redis client of a request."""
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
    backoff: Sequence[timedelta | str] | str | None = None,
    delay: timedelta | str | None = None,
    keep_errors: str | None = None,
    trace_parent: bool | None = None,
    base_url: str | None = None,
) -> None:
    """Declare the message queue ``request.<name>``.

    It is a :class:`.MessageQueue` in the list of the same name, or a
    :class:`.DurableMessageQueue`, which has the parameters after ``durable``. The settings
    ``<name>.*`` apply for each parameter that is left out.

    :param name: a Python identifier that is not yet an attribute of the request.
    :param client: the name of the queue's Redis client; optional if there is only one client.
    :param durable: whether the queue is durable.
    :param lease: a time with a unit, such as ``1 minute``, or a timedelta; as is ``delay``.
    :param backoff: several of them, or ``none``.
    :param base_url: the beginning of the URLs that a worker's request makes, such as
        ``https://example.com``.
    :raises ConfigurationError: the name can't be used; when the application is built: there is no
        such client, or the settings are malformed.
    """
    given = {
        "durable": durable, "group": group, "lease": lease, "max_attempts": max_attempts,
        "max_length": max_length, "backoff": backoff, "delay": delay,
        "keep_errors": keep_errors, "trace_parent": trace_parent, "base_url": base_url,
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
            raise ConfigurationError(f"message queue {name}: a Redis client has the same name")
        factory.settings = QueueSettings.from_config(config.registry.settings, name, given)
        factory.client = _chosen_client(name, client or factory.settings.queue, clients)
        factory.observe_length(config.registry.getUtility(IRedisContextFactory, factory.client))
        introspectable.update(name=name, client=factory.client, **factory.settings.shown())

    def message_queue(request: Request) -> MessageQueue | DurableMessageQueue:
        found = request.registry.getUtility(IMessageQueueFactory, name)
        queue: MessageQueue | DurableMessageQueue = found(getattr(request, found.client))
        return queue

    message_queue.__doc__ = _description(name)
    settings_action(
        config,
        (QUEUES_CATEGORY, name),
        register,
        place=f"{name}.queue" if order == DISCOVERY else "",
        introspectables=(introspectable,),
        order=order,
    )
    # After all clients are registered, discovered ones included.
    settings_action(config, (QUEUES_CATEGORY, name, "settings"), configure)
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
    """Declare the queues that the settings name, except those that the application declared.

    Log warnings about queues that name no client.

    :raises ConfigurationError: a queue's name can't be used, or it names no client.
    """
    settings = config.registry.settings
    clients = [name for name, _ in config.registry.getUtilitiesFor(IRedisContextFactory)]
    package = package_settings(config.registry)
    names = discovered_queues(settings, package.queues, clients)
    if package.queues is None and package.clients is None:
        declared = [name for name, _ in config.registry.getUtilitiesFor(IMessageQueueFactory)]
        for warning in queues_without_client(settings, [*names, *declared], clients):
            logger.warning(warning)
    for name in names:
        problem = problem_of_name(name)
        if problem is not None:
            raise ConfigurationError(
                f"{name}.queue: {problem[0]}{problem[1].format('the message queue')}. If this is "
                f"not a message queue, list the message queues in {PACKAGE_PREFIX}queues."
            )
        if config.registry.queryUtility(IMessageQueueFactory, name) is None:
            _declare_queue(config, name, None, {}, DISCOVERY)
            if not config.autocommit:  # Pyramid detects no conflicts with autocommit
                hint = f"message queues in {PACKAGE_PREFIX}queues"
                args = (config, name, f"{name}.queue", _description(name), hint)
                settings_action(config, None, partial(check_attribute, *args), order=_LAST)


DISCOVERY = PHASE2_CONFIG + 1  # after the clients, before actions of the default order


def follow_transactions(request: Request, client: Any) -> None:
    """Let a request's client find the request's transaction manager.

    The client doesn't keep the request alive.
    """
    reference = weakref.ref(request)

    def transaction_manager() -> Any:
        request: Any = reference()
        manager = getattr(request, "tm", None)
        if manager is None or request.environ.get("tm.active"):
            return manager
        # pyramid_tm's tween is not active. An explicit manager raises unless the application has
        # begun a transaction; any other would begin one that is never committed.
        return manager if getattr(manager, "explicit", False) else None

    client.transaction_manager = transaction_manager
