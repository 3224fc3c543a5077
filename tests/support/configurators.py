"""What a Configurator has registered, and why it refuses to."""

from __future__ import annotations

from typing import Any

import pytest
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationExecutionError
from pyramid.request import Request, apply_request_extensions

from pyramid_baseplate_redis import ConfigurationError
from pyramid_baseplate_redis.interfaces import IRedisContextFactory

NOWHERE = "redis://localhost:1"


def client_names(config: Configurator) -> list[str]:
    return sorted(name for name, _ in config.registry.getUtilitiesFor(IRedisContextFactory))


def request_of(config: Configurator) -> Any:
    """A request with everything that the application adds to requests."""
    request = Request.blank("/")
    request.registry = config.registry
    apply_request_extensions(request)
    return request


def refusal(config: Configurator) -> ConfigurationError:
    """Our own error, with which an application isn't built."""
    with pytest.raises(ConfigurationExecutionError) as caught:
        config.make_wsgi_app()
    error = caught.value.evalue
    assert isinstance(error, ConfigurationError)
    return error


def introspectable(config: Configurator, category: str, name: str) -> Any:
    return config.introspector.get(category, name)
