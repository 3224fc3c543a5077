"""The ``baseplate_redis.*`` settings, and the names of the declared clients. No I/O here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..exceptions import ConfigurationError
from ..interfaces import IPackageSettings
from . import parsers
from .fields import PACKAGE_PREFIX, own_keys, parsed_all, setting, settings_of, unknown_key
from .url import has_redis_scheme
from .url_settings import PLACES, URL_KEYS, ReadURL, nothing_is_read


@dataclass(frozen=True)
class PackageSettings:
    """The ``baseplate_redis.*`` settings, which apply to the whole application."""

    clients: list[str] | None = setting(parsers.words)
    server_span: str = setting(parsers.choice("auto", "always", "never"), "auto")
    trust_trace_headers: bool = setting(parsers.boolean, False)
    health_details: bool = setting(parsers.boolean, False)
    prometheus: bool = setting(parsers.boolean, False)
    queues: list[str] | None = setting(parsers.words)
    print_spans: bool = setting(parsers.boolean, False)
    # The values from which these were parsed.
    given: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_config(cls, app_config: Mapping[str, Any]) -> PackageSettings:
        """Read the settings that start with ``baseplate_redis.``.

        :param app_config: all settings of the application.
        :raises ConfigurationError: a key is unknown or a value is malformed.
        """
        given, known = dict(own_keys(app_config, PACKAGE_PREFIX)), settings_of(cls)
        for key in given:
            if key not in known:
                raise ConfigurationError(unknown_key(PACKAGE_PREFIX, key, list(known)))
        return cls(**parsed_all(PACKAGE_PREFIX, given, known), given=given)


def package_settings(registry: Any) -> PackageSettings:
    """Return the settings of the application that is being configured.

    They are parsed once, and again only if the application has changed them since: it may do so
    between two directives. Requests find the result as the utility :class:`.IPackageSettings`.

    :param registry: the application's registry.
    :raises ConfigurationError: a key is unknown or a value is malformed.
    """
    known: PackageSettings | None = registry.queryUtility(IPackageSettings)
    if known is None or known.given != dict(own_keys(registry.settings, PACKAGE_PREFIX)):
        known = PackageSettings.from_config(registry.settings)
        registry.registerUtility(known, IPackageSettings)
    return known


def discovered_clients(
    app_config: Mapping[str, Any],
    named: Collection[str] | None = None,
    read_url: ReadURL = nothing_is_read,
) -> list[str]:
    """Return the names of the clients that the settings declare, sorted.

    :param app_config: all settings of the application.
    :param named: the names in ``baseplate_redis.clients``. If it is ``None``, a client is declared
        by ``<identifier>.url`` with a Redis scheme, or by ``<identifier>.url_env`` or ``url_file``
        that leads to such a URL or to none at all: a forgotten variable is reported as an error.
    :param read_url: as for :meth:`ClientSettings.from_config`.
    """
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
        return has_redis_scheme(read_url(url_key, PLACES[url_key](value)))
    except ValueError:
        return True
