"""The ``baseplate_redis.*`` settings, and the names of the declared clients. No I/O here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..exceptions import ConfigurationError
from . import parsers
from .client import PARSERS, URL_KEYS, ReadURL, nothing_is_read
from .fields import PACKAGE_PREFIX, own_keys, parsed, unknown_key
from .url import has_redis_scheme


@dataclass(frozen=True)
class PackageSettings:
    """The ``baseplate_redis.*`` settings, which apply to the whole application."""

    clients: list[str] | None = None
    server_span: str = "auto"
    trust_trace_headers: bool = False
    health_details: bool = False
    prometheus: bool = False
    queues: list[str] | None = None
    print_spans: bool = False

    @classmethod
    def from_config(cls, app_config: Mapping[str, Any]) -> PackageSettings:
        """Read the settings that start with ``baseplate_redis.``.

        :param app_config: all settings of the application.
        :raises ConfigurationError: a key is unknown or a value is malformed.
        """
        by_key: dict[str, Callable[[Any], Any]] = {
            "clients": parsers.words,
            "server_span": parsers.choice("auto", "always", "never"),
            "trust_trace_headers": parsers.boolean,
            "health_details": parsers.boolean,
            "prometheus": parsers.boolean,
            "queues": parsers.words,
            "print_spans": parsers.boolean,
        }
        values = {}
        for key, raw in own_keys(app_config, PACKAGE_PREFIX):
            if key not in by_key:
                raise ConfigurationError(unknown_key(PACKAGE_PREFIX, key, list(by_key)))
            values[key] = parsed(PACKAGE_PREFIX, key, by_key[key], raw)
        return cls(**values)


def discovered_clients(
    app_config: Mapping[str, Any], read_url: ReadURL = nothing_is_read
) -> list[str]:
    """Return the names of the clients that the settings declare, sorted.

    They are listed in ``baseplate_redis.clients``. Without that setting, a client is declared by:

    1. ``<identifier>.url`` with a Redis scheme;
    2. ``<identifier>.url_env`` or ``<identifier>.url_file`` that leads to a URL with a Redis
       scheme, or to none at all: a forgotten variable is then reported as an error.

    :param app_config: all settings of the application.
    :param read_url: as for :meth:`ClientSettings.from_config`.
    :raises ConfigurationError: a ``baseplate_redis.*`` key is unknown or malformed.
    """
    named = PackageSettings.from_config(app_config).clients
    if named is not None:
        return sorted({name for name in named if name})
    names = set()
    for key, value in app_config.items():
        name, _, url_key = key.rpartition(".") if isinstance(key, str) else ("",) * 3
        if name.isidentifier() and url_key in URL_KEYS and _is_ours(url_key, value, read_url):
            names.add(name)
    return sorted(names)


def _is_ours(url_key: str, value: Any, read_url: ReadURL) -> bool:
    if url_key == "url":
        return has_redis_scheme(value)
    try:
        return has_redis_scheme(read_url(url_key, PARSERS[url_key](value)))
    except ValueError:
        return True
