"""What this package adds to Pyramid's Configurator: directives, request methods, the tween."""

from __future__ import annotations

import keyword
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.trace import Span
from pyramid.config import PHASE1_CONFIG, PHASE2_CONFIG
from pyramid.events import ContextFound, NewResponse
from pyramid.request import Request
from pyramid.tweens import EXCVIEW, INGRESS, MAIN

from .exceptions import ConfigurationError
from .factory import RedisClient, register_client
from .files import read_url
from .health import add_redis_health_view
from .interfaces import IMessageQueueFactory, IRedisContextFactory, IRedisProbes
from .introspection import (
    CLIENTS_CATEGORY,
    QUEUES_CATEGORY,
    REQUEST_CATEGORY,
    client_facts,
    relate_client,
    relate_queue,
    source_line_hidden,
)
from .package_settings import PackageSettings, discovered_clients
from .probes import Probes
from .queue_length import QueueLength, observed_length
from .queues import MessageQueue
from .recorder import recorder_of
from .request_end import RequestEnd, await_body
from .settings import PACKAGE_PREFIX, URL_KEYS
from .tween import SERVER_SPAN_TWEEN, adopt_span, follow_response

if TYPE_CHECKING:
    from pyramid.config import Configurator

_LAST = 10_000  # behind every action of the application
# What the router and its neighbours set on a request; the class itself doesn't have these.
_SET_BY_PYRAMID = {
    "registry", "context", "matchdict", "matched_route", "root", "view_name", "subpath",
    "traversed", "virtual_root", "virtual_root_path", "exception", "exc_info", "request_iface",
    "invoke_subrequest", "tm", "span", "environ", "override_renderer", "wrapped_view",
    "wrapped_body", "wrapped_response", "authdebug_message",
}  # fmt: skip


def configure(config: Configurator) -> None:
    """Everything that ``config.include("pyramid_baseplate_redis")`` does."""
    config.add_directive("add_redis_client", add_redis_client)
    config.add_directive("add_message_queue", add_message_queue)
    config.add_directive("add_redis_health_view", add_redis_health_view)
    config.registry.registerUtility(Probes(), IRedisProbes)
    config.add_request_method(request_span, "span", reify=True)
    config.add_tween(SERVER_SPAN_TWEEN, under=INGRESS, over=(EXCVIEW, MAIN))
    config.add_subscriber(adopt_current_span, ContextFound)
    config.add_subscriber(follow_response, NewResponse)
    config.add_subscriber(await_body, NewResponse)
    # Deferred, to see the settings that the application adds and the clients that it declares.
    config.action("discover redis clients", discover_clients, args=(config,), order=PHASE2_CONFIG)


def add_redis_client(config: Configurator, name: str, client: RedisClient | None = None) -> None:
    """Declare the Redis client ``request.<name>``.

    :param name: an identifier that no attribute of a request has.
    :param client: how it is configured; by default as the settings ``<name>.*`` say.
    :raises ConfigurationError: if the name can't be used. A second declaration of the same name is
        Pyramid's :class:`~pyramid.exceptions.ConfigurationConflictError`. Malformed settings
        surface when the application is built.
    """
    _declare_client(config, name, client, PHASE1_CONFIG)


def _declare_client(
    config: Configurator, name: str, client: RedisClient | None, order: int
) -> None:
    check_name(name)
    if client is not None and not hasattr(client, "parse"):
        # Its type alone: it may be a URL, with a password.
        raise ConfigurationError(f"{name}: {type(client).__name__} is not a RedisClient")
    introspectable = config.introspectable(CLIENTS_CATEGORY, name, name, "redis client")

    def register() -> None:
        factory = register_client(config.registry, name, client or RedisClient())
        introspectable.update(client_facts(name, factory, client))

    def redis_client(request: Request) -> Any:
        factory = request.registry.getUtility(IRedisContextFactory, name)
        made = factory.make_object_for_context(name, request.span)
        recorder = recorder_of(request.environ)
        if recorder is not None:
            made.observed_by(recorder)
        RequestEnd.of(request).add(made)
        return made

    redis_client.__doc__ = _description(name)
    with source_line_hidden(config, name, client):
        config.action(
            (CLIENTS_CATEGORY, name), register, introspectables=(introspectable,), order=order
        )
        config.add_request_method(redis_client, name, reify=True)
    config.action(None, relate_client, args=(config, name), order=_LAST)


def add_message_queue(config: Configurator, name: str, client: str | None = None) -> None:
    """Declare the message queue ``request.<name>``, kept in the list of the same name.

    :param name: an identifier that no attribute of a request has.
    :param client: the name of the Redis client that it uses; may be left out when there is one
        only.
    :raises ConfigurationError: if the name can't be used; when the application is built, if there
        is no such client.
    """
    check_name(name)
    introspectable = config.introspectable(QUEUES_CATEGORY, name, name, "redis message queue")

    def register() -> None:
        clients = [known for known, _ in config.registry.getUtilitiesFor(IRedisContextFactory)]
        if name in clients:
            raise ConfigurationError(f"message queue {name}: there is a Redis client of that name")
        factory = MessageQueueFactory(name, _chosen_client(name, client, clients))
        config.registry.registerUtility(factory, IMessageQueueFactory, name)
        owner = config.registry.getUtility(IRedisContextFactory, factory.client)
        factory.length = observed_length(name, owner.connection_pool)
        introspectable.update(name=name, client=factory.client)

    def message_queue(request: Request) -> MessageQueue:
        factory = request.registry.getUtility(IMessageQueueFactory, name)
        queue: MessageQueue = factory(getattr(request, factory.client))
        return queue

    # Behind the clients, discovered ones included.
    config.action((QUEUES_CATEGORY, name), register, introspectables=(introspectable,))
    config.add_request_method(message_queue, name, reify=True)
    config.action(None, relate_queue, args=(config, introspectable), order=_LAST)


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


class MessageQueueFactory:
    """Makes the queue of a request from the request's Redis client."""

    #: How long it is, for the metric; ``None`` where nobody may ask.
    length: QueueLength | None = None

    def __init__(self, name: str, client: str) -> None:
        self.name = name
        self.client = client

    def __call__(self, redis_client: Any) -> MessageQueue:
        return MessageQueue(self.name, redis_client)


def discover_clients(config: Configurator) -> None:
    """Declare the clients that the settings name and the application didn't declare itself."""
    settings = config.registry.settings
    for name in discovered_clients(settings, read_url):
        problem = _problem_of_name(name)
        if problem is not None and PackageSettings.from_config(settings).clients is not None:
            raise ConfigurationError(f"{PACKAGE_PREFIX}clients: {name}: {problem[0]}")
        if problem is not None:
            raise ConfigurationError(
                f"{_url_key(config, name)}: {problem[0]}"
                f"{problem[1].format('the Redis client')}, or name the "
                f"Redis clients in {PACKAGE_PREFIX}clients if this is none"
            )
        if config.registry.queryUtility(IRedisContextFactory, name) is None:
            _declare_client(config, name, None, PHASE2_CONFIG)
            if not config.autocommit:  # where there are no conflicts at all
                config.action(None, _check_attribute, args=(config, name), order=_LAST)


def _url_key(config: Configurator, name: str) -> str:
    """The key for which a name was taken for a client's."""
    keys = [f"{name}.{key}" for key in URL_KEYS]
    return next((key for key in keys if key in config.registry.settings), keys[0])


def _description(name: str) -> str:
    return f"The Redis client {name}, bound to the request."


def _check_attribute(config: Configurator, name: str) -> None:
    """Pyramid finds no conflict between an action and one that is added while actions run."""
    attribute = config.introspector.get(REQUEST_CATEGORY, name)
    # Pyramid wraps what it is given, and keeps the description.
    if attribute is not None and attribute["callable"].__doc__ != _description(name):
        raise ConfigurationError(
            f"{_url_key(config, name)}: the application has a request.{name} of its own; choose "
            f"another name for the Redis client, or name the clients in {PACKAGE_PREFIX}clients"
        )


def check_name(name: str) -> None:
    """Refuse a name that can't be, or already is, an attribute of a request.

    :raises ConfigurationError: since Pyramid would replace the attribute silently.
    """
    problem = _problem_of_name(name)
    if problem is not None:
        raise ConfigurationError(
            f"{name}: {problem[0]}{problem[1].format('the Redis client or message queue')}"
        )


def _problem_of_name(name: str) -> tuple[str, str] | None:
    """What is wrong with a name, and what to do about it for what is put into the braces."""
    identifier = isinstance(name, str) and name.isidentifier() and name.isascii()
    if not identifier or keyword.iskeyword(name):
        return f"is not a Python identifier, so request.{name} can't be written", ""
    if hasattr(Request, name) or name in _SET_BY_PYRAMID:
        return f"request.{name} is Pyramid's own", "; choose another name for {}"
    return None


def request_span(request: Request) -> Span:
    """The request's server span; the current span where nothing started one for the request.

    An invalid span where there is none at all, as in a script without :func:`server_context`.
    """
    return trace.get_current_span()


def adopt_current_span(event: ContextFound) -> None:
    """Take over the span that OpenTelemetry's Pyramid instrumentation started meanwhile.

    It starts its span late and ends it early; commands outside of that time fall back to
    ``request.span``.
    """
    request = event.request
    current = trace.get_current_span()
    if request.span.get_span_context().is_valid or not current.get_span_context().is_valid:
        return
    clients = [name for name, _ in request.registry.getUtilitiesFor(IRedisContextFactory)]
    adopt_span(request, current, clients)
