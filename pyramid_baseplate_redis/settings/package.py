"""The ``baseplate_redis.*`` settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..exceptions import ConfigurationError
from ..interfaces import IPackageSettings
from . import parsers
from .fields import PACKAGE_PREFIX, own_keys, parsed_all, setting, settings_of, unknown_key


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
