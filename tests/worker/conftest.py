"""Workers in threads of the tests, and the queue that they process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from pyramid.config import Configurator

from pyramid_baseplate_redis import DurableMessageQueue

from ..support.servers import Server

MakeConfig = Callable[..., Configurator]


@pytest.fixture
def make_registry(make_config: MakeConfig) -> Callable[..., Any]:
    """Make the registry of an application that has the durable queue ``jobs``."""

    def make(server: Server, **settings: str) -> Any:
        config = make_config(
            foo__url=server.url, jobs__queue="foo", jobs__durable="true", **settings
        )
        config.make_wsgi_app()
        return config.registry

    return make


@pytest.fixture
def queue(valkey: Server) -> Iterator[DurableMessageQueue]:
    with redis.Redis(port=valkey.port) as client:
        yield DurableMessageQueue("jobs", client)


@pytest.fixture
def raw(valkey: Server) -> Iterator[redis.Redis]:
    with redis.Redis(port=valkey.port) as client:
        yield client
