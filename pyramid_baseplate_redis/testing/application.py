"""For an application's tests: every Redis client of it on an embedded server, or on one given.

config.include("pyramid_baseplate_redis.testing")         # or
main({}, **for_tests(settings))                           # without a change to the application

pytest's fixtures are in :mod:`.testing.fixtures`, what records spans in :mod:`.testing.spans`.
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
from .external_server import CLIENT_KEY, PREFIX, URL_KEY, flush_given
from .stand_in_servers import flush_stand_ins

if TYPE_CHECKING:
    from pyramid.config import Configurator
    from pyramid.registry import Registry

__all__ = ["add_clients", "dummy_request", "flush", "for_tests", "includeme", "plain_client"]

_INCLUDES = "pyramid.includes"
# Of applications under test: the registry and its swap, if they are still there, and the pools.
_applications: list[
    tuple[weakref.ref[Any], weakref.ref[ClientSwap], weakref.WeakSet[redis.ConnectionPool]]
] = []


def includeme(config: Configurator) -> None:
    """Swap the server of every Redis client of the application, and include the package.

    The order of includes and declarations makes no difference. Each server that the settings name
    becomes an embedded one of this process, and databases stay as they are; or
    ``baseplate_redis.testing.url`` names one server for all.

    :raises ConfigurationError: when the application is built, if a setting is malformed, or there
        is no embedded server to be had.
    """
    _disconnect_torn_down()
    registry = config.registry
    swap = ClientSwap(registry.settings)
    _applications.append((weakref.ref(registry), weakref.ref(swap), swap.pools))
    registry.registerUtility(swap, IClientSwap)
    # Where actions have run already, as they do at once under pyramid.testing.setUp().
    for name, client in list(registry.getUtilitiesFor(IRedisClient)):
        register_client(registry, name, client)
    for _, queue in registry.getUtilitiesFor(IMessageQueueFactory):
        queue.observe_length(registry.getUtility(IRedisContextFactory, queue.client))
    config.include("pyramid_baseplate_redis")


def for_tests(
    settings: Mapping[str, Any], server: str | redis.Redis | redis.ConnectionPool | None = None
) -> dict[str, Any]:
    """A copy of an application's settings with which its clients are swapped.

    :param settings: such as :func:`pyramid.paster.get_appsettings` reads.
    :param server: a server that is there for tests: a URL, or a client or pool of redis-py's such
        as the fixtures of pytest-redis. Its databases, from the one named upwards, are used and
        emptied. ``None`` for embedded ones.
    """
    made = {key: value for key, value in settings.items() if not str(key).startswith(PREFIX)}
    made[_INCLUDES] = "\n".join([*aslist(settings.get(_INCLUDES, "")), __package__])
    if server is not None:
        made[URL_KEY if isinstance(server, str) else CLIENT_KEY] = server
    return made


def flush(app: Any = None) -> None:
    """Empty the servers that stand in for an application's: keys, functions and scripts.

    Of a server that was given, the databases that were used, and no others. No other server is
    ever emptied.

    :param app: the WSGI application, its registry, its Configurator, or WebTest's ``TestApp`` of
        it; ``None`` for everything that any application in this process used.
    :raises ConfigurationError: if that application's clients are its real ones.
    """
    _disconnect_torn_down()
    if app is None:
        flush_stand_ins()
        flush_given()
    else:
        _swap_of(app).flush()


def plain_client(app: Any, name: str, **kwargs: Any) -> redis.Redis:
    """A client of redis-py's, without spans, to see what the application stored.

    :param app: as for :func:`flush`.
    :param name: the client's name in the application; same server, same database.
    :param kwargs: for its pool, such as ``decode_responses=True``.
    :raises ConfigurationError: if that application's clients are its real ones, or there is none
        of that name.
    """
    clients = _swap_of(app).clients
    if name not in clients:
        raise ConfigurationError(
            f"{name}: there is no such Redis client; configured: {', '.join(sorted(clients))}"
        )
    client: redis.Redis = clients[name].plain_client(**kwargs)
    return client


def add_clients(request: Any) -> Callable[[], object]:
    """Give a ``DummyRequest`` what a request has: its clients, its queues and ``request.span``.

    They are those of the request's registry, made when they are first used; what the test has set
    itself stays. ``request.span`` is a server span of its own, without a route. What the test
    leaves open is given back, and the span ended, when the request is gone.

    :returns: a function that does the same at once, for ``addCleanup``; it may be called again.
    :raises ConfigurationError: if the registry has no Redis client.
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
    """A :class:`pyramid.testing.DummyRequest` with clients, whose span is current in the block.

    At the end it is finished as the router does it: finished callbacks run, what is left open is
    given back.

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
    """Close what applications have left that are gone.

    pyramid.testing.tearDown() has no hook.
    """
    for application in list(_applications):
        registry, swap = application[0](), application[1]()
        if registry is None or swap is None or registry.queryUtility(IClientSwap) is not swap:
            _applications.remove(application)
            for pool in list(application[2]):
                pool.disconnect()
