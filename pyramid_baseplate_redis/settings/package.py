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
    """The names of the clients. No other prefix is read then."""
    server_span: str = setting(parsers.choice("auto", "always", "never"), "auto")
    """``auto`` starts a server span for each request, unless there is one already, such as that of
    OpenTelemetry's instrumentation of Pyramid or WSGI. ``always`` starts one in any case, and
    ``never`` starts none.
    """
    trust_trace_headers: bool = setting(parsers.boolean, False)
    """Continue the trace that a request's headers name. Never set it for requests from the public
    internet.
    """
    health_details: bool = setting(parsers.boolean, False)
    """Show addresses and errors in the health view."""
    prometheus: bool = setting(parsers.boolean, False)
    """Record metrics for Prometheus."""
    queues: list[str] | None = setting(parsers.words)
    """The names of the queues. No other ``<name>.queue`` is read then."""
    print_spans: bool = setting(parsers.boolean, False)
    """Print each request's spans as a tree. Needs the extra ``[dev]``."""
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
