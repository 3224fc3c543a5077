"""The health of an application's clients."""

from __future__ import annotations

from typing import Any

from pyramid.config import Configurator

from pyramid_baseplate_redis import ClientHealth, ping_all
from pyramid_baseplate_redis.interfaces import IRedisContextFactory

# As long as a healthy server may take on a busy machine.
PATIENT = "20 seconds"


def only(config: Configurator) -> ClientHealth:
    (health,) = ping_all(config.registry)
    return health


def pool_of(config: Configurator) -> Any:
    config.commit()
    return config.registry.getUtility(IRedisContextFactory, "foo").connection_pool
