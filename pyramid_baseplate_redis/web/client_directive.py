"""The directive ``add_redis_client``, and the discovery of clients in the settings."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from pyramid.config import PHASE1_CONFIG, PHASE2_CONFIG
from pyramid.request import Request

from ..exceptions import ConfigurationError
from ..factories import RedisClient
from ..interfaces import IClientSwap, IRedisClient, IRedisContextFactory
from ..prometheus.observer import observe_client
from ..settings.discovery.clients import discovered_clients
from ..settings.discovery.mistakes import check_prefixes
from ..settings.discovery.names import check_package_prefix
from ..settings.fields import PACKAGE_PREFIX
from ..settings.package import package_settings
from ..settings.sources import read_url
from ..settings.url_settings import URL_KEYS
from ..telemetry.operations import observer_of
from .attribute_names import check_attribute, check_name, problem_of_name
from .introspection import CLIENTS_CATEGORY, client_facts, relate_client, source_line_hidden
from .queue_directive import follow_transactions
from .request_cleanup import RequestCleanup
from .setting_place import settings_action

if TYPE_CHECKING:
    from pyramid.config import Configurator

logger = logging.getLogger(__package__)

_LAST = 10_000  # after every action of the application


def add_redis_client(config: Configurator, name: str, client: RedisClient | None = None) -> None:
    """Declare the Redis client ``request.<name>``.

    A second declaration of the same name raises Pyramid's
    :class:`~pyramid.exceptions.ConfigurationConflictError` when the application is built.

    :param name: a Python identifier that is not yet an attribute of the request.
    :param client: the client's configuration; by default only the settings ``<name>.*`` apply.
    :raises ConfigurationError: the name can't be used, or ``client`` is not a ``RedisClient``;
        when the application is built: the client's settings are malformed.
    """
    _declare_client(config, name, client, PHASE1_CONFIG)


def _declare_client(
    config: Configurator, name: str, client: RedisClient | None, order: int
) -> None:
    check_name(name)
    if client is not None and not hasattr(client, "parse"):
        # Show only the type: the value may be a URL with a password.
        raise ConfigurationError(f"{name}: {type(client).__name__} is not a RedisClient")
    introspectable = config.introspectable(CLIENTS_CATEGORY, name, name, "redis client")

    def register() -> None:
        factory = register_client(config.registry, name, client or RedisClient())
        introspectable.update(client_facts(name, factory, client))

    def redis_client(request: Request) -> Any:
        factory = request.registry.getUtility(IRedisContextFactory, name)
        made = factory.make_object_for_context(name, request.span)
        observer = observer_of(request.environ)
        if observer is not None:
            made.observed_by(observer)
        RequestCleanup.of(request).add(made)
        follow_transactions(request, made)
        return made

    redis_client.__doc__ = _description(name)
    with source_line_hidden(config, name, client):
        settings_action(
            config,
            (CLIENTS_CATEGORY, name),
            register,
            place=_url_key(config, name) if order == PHASE2_CONFIG else "",
            introspectables=(introspectable,),
            order=order,
        )
        config.add_request_method(redis_client, name, reify=True)
    config.action(None, relate_client, args=(config, name), order=_LAST)


def discover_clients(config: Configurator) -> None:
    """Declare the clients that the settings name, except those that the application declared.

    :raises ConfigurationError: a client's name can't be used, or settings that are clearly a
        client's declare none.
    """
    check_package_prefix(config.registry.settings)
    named = package_settings(config.registry).clients
    names = discovered_clients(config.registry.settings, named, read_url)
    if named is None:
        _check_other_prefixes(config.registry, names)
    for name in names:
        problem = problem_of_name(name)
        if problem is not None and named is not None:
            raise ConfigurationError(f"{PACKAGE_PREFIX}clients: {problem[0]}")
        if problem is not None:
            raise ConfigurationError(
                f"{_url_key(config, name)}: {problem[0]}"
                f"{problem[1].format('the Redis client')}. If this is not the URL of a Redis "
                f"client, list the Redis clients in {PACKAGE_PREFIX}clients."
            )
        if config.registry.queryUtility(IRedisContextFactory, name) is None:
            _declare_client(config, name, None, PHASE2_CONFIG)
            if not config.autocommit:  # Pyramid detects no conflicts with autocommit
                hint = f"Redis clients in {PACKAGE_PREFIX}clients"
                args = (config, name, _url_key(config, name), _description(name), hint)
                settings_action(config, None, partial(check_attribute, *args), order=_LAST)


def _check_other_prefixes(registry: Any, found: list[str]) -> None:
    """Log warnings about settings that look like those of a client, but declare none."""
    declared = [name for name, _ in registry.getUtilitiesFor(IRedisContextFactory)]
    for warning in check_prefixes(registry.settings, found, declared, read_url):
        logger.warning(warning)


def _url_key(config: Configurator, name: str) -> str:
    """Return the setting from which the name of a client was taken."""
    keys = [f"{name}.{key}" for key in URL_KEYS]
    return next((key for key in keys if key in config.registry.settings), keys[0])


def _description(name: str) -> str:
    return f"The Redis client {name}, bound to the request."


def register_client(registry: Any, name: str, client: RedisClient) -> Any:
    """Make the factory of a client and register both.

    In an application under test the factory is that of the client's stand-in.

    :raises ConfigurationError: the client's settings are malformed.
    """
    swap = registry.queryUtility(IClientSwap)
    parse = client.parse if swap is None else partial(swap.parse, client)
    factory = parse(name, registry.settings)
    if package_settings(registry).prometheus:
        observe_client(factory)
    registry.registerUtility(client, IRedisClient, name)
    registry.registerUtility(factory, IRedisContextFactory, name)
    return factory
