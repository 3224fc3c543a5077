"""The example app, a browser, and its stored links."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from webtest import TestApp

from example_app import main
from pyramid_baseplate_redis.testing import for_tests
from pyramid_baseplate_redis.testing.application import plain_client

from ..support.servers import Server


@pytest.fixture(scope="module")
def app() -> Any:
    return main({}, **for_tests({"links.url": "redis://localhost:6379/0"}))


@pytest.fixture
def browser(app: Any, empty_redis: None) -> TestApp:
    return TestApp(app)


@pytest.fixture
def client(app: Any, empty_redis: None) -> Iterator[redis.Redis]:
    """A plain client, to see what the app stored."""
    with plain_client(app, "links", decode_responses=True) as plain:
        yield plain


@pytest.fixture
def outside(valkey: Server) -> Iterator[redis.Redis]:
    """The same for an app or a worker that is a process of its own."""
    with redis.Redis(port=valkey.port, decode_responses=True) as plain:
        yield plain
