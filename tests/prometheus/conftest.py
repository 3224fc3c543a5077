"""Clients that Prometheus observes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ..support.scrapes import Measured
from ..support.servers import Server

_numbers = itertools.count()


@pytest.fixture
def measure() -> Iterator[Callable[..., Measured]]:
    made: list[Measured] = []

    def make(server: Any, **settings: Any) -> Measured:
        url = server if isinstance(server, str) else server.url
        # The registry is the process's: what other tests have counted has other labels.
        made.append(Measured(url, f"measured_{next(_numbers)}", **settings))
        return made[-1]

    yield make
    for each in made:
        each.pool.disconnect()


@pytest.fixture
def foo(measure: Callable[..., Measured], valkey: Server) -> Measured:
    return measure(valkey, pool_timeout="0 seconds", max_connections="2")
