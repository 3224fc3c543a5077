"""The errors that this package raises itself, beside those of redis-py."""

from __future__ import annotations

from pyramid.exceptions import ConfigurationError as PyramidConfigurationError


class ConfigurationError(PyramidConfigurationError):
    """A setting is missing, malformed or contradicts another one.

    Raised while the application is built, never by a request. The message starts with the full
    setting key (``foo.socket_timeout: ...``) and never contains the value of a secret. Raised
    inside a Pyramid action it reaches the caller as
    :class:`pyramid.exceptions.ConfigurationExecutionError`, whose ``evalue`` is this error.
    """
