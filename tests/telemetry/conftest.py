"""A metric reader, clients to measure, and a server that a test may stop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from opentelemetry.sdk.metrics import Histogram

from pyramid_baseplate_redis import RedisClient

from ..support.metrics import Connect, collect, numbers
from ..support.servers import Server, running_server


@pytest.fixture
def provider() -> None:
    """Collect metrics."""
    collect()


@pytest.fixture
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Make a client, whose name is that of its pool in the metrics."""
    pools: list[Any] = []

    def make(url: str, name: str = "", **settings: str) -> Any:
        name = name or f"client{next(numbers)}"
        keys = {f"{name}.{key}": value for key, value in settings.items()}
        factory = RedisClient().parse(name, {f"{name}.url": url, **keys})
        pools.append(factory.connection_pool)
        return factory.make_object_for_context(name, None)

    yield make
    for pool in pools:
        pool.disconnect()


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Server]:
    """A server of this test's own."""
    with running_server("valkey", tmp_path) as server:
        yield server


@pytest.fixture
def record_calls() -> Iterator[Any]:
    """Count the calls of the SDK's ``Histogram.record()``."""
    original = Histogram.record
    with mock.patch.object(Histogram, "record", autospec=True, side_effect=original) as recorded:
        yield recorded
