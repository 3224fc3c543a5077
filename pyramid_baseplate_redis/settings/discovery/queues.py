"""The names of the queues that the settings declare, and those that name no client."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ...exceptions import ConfigurationError
from .. import parsers
from ..fields import PACKAGE_PREFIX, own_keys
from ..queue import QUEUE_SETTINGS


def discovered_queues(
    app_config: Mapping[str, Any], named: Collection[str] | None, clients: Collection[str]
) -> list[str]:
    """Return the names of the queues that the settings declare, sorted.

    :param app_config: all settings of the application.
    :param named: the names in ``baseplate_redis.queues``. If it is ``None``, every
        ``<identifier>.queue`` declares a queue whose value is the name of a Redis client, or that
        has an ``<identifier>.durable`` beside it; others belong to other libraries.
    :param clients: the names of all Redis clients.
    :raises ConfigurationError: a named queue has no ``<name>.queue``.
    """
    if named is not None:
        for name in named:
            if name and f"{name}.queue" not in app_config:
                raise ConfigurationError(
                    f"{name}.queue: is missing; write the name of the queue's Redis client"
                )
        return sorted({name for name in named if name})
    return sorted(
        name
        for name, client in _queue_keys(app_config)
        if client in clients or f"{name}.durable" in app_config
    )


def queues_without_client(
    app_config: Mapping[str, Any], known: Collection[str], clients: Collection[str]
) -> list[str]:
    """Return warnings about queues that name no client and are not durable.

    Another library's ``<identifier>.queue`` is passed over: it has other keys beside it.

    :param known: the names of the queues that are declared or found.
    :param clients: the names of all Redis clients.
    :raises ConfigurationError: one of these queues has a setting that only this package has.
    """
    warnings = []
    for name, _ in _queue_keys(app_config):
        given = dict(own_keys(app_config, f"{name}."))
        has_others = any(
            key.startswith(f"{name}.") and key[len(name) + 1 :] not in QUEUE_SETTINGS
            for key in app_config
            if isinstance(key, str)
        )
        if name in known or has_others:
            continue
        names = parsers.listed(sorted(clients)) if clients else "none"
        message = (
            f"{name}.queue: does not name a Redis client; configured: {names} (if {name}.* "
            "belongs to something else, list the message queues in "
            f"{PACKAGE_PREFIX}queues; then no other prefix is read)"
        )
        if given.keys() & {"lease", "max_attempts", "trace_parent"}:
            raise ConfigurationError(message)
        warnings.append(message)
    return warnings


def _queue_keys(app_config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the prefix of each ``<identifier>.queue``, and its value."""
    pairs = []
    for key, value in app_config.items():
        name, _, rest = key.rpartition(".") if isinstance(key, str) else ("",) * 3
        if name.isidentifier() and rest == "queue":
            pairs.append((name, value.strip() if isinstance(value, str) else ""))
    return pairs
