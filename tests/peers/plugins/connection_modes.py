"""A pytest plugin for redis-py's own tests: run them with one connection and with a pool.

The clients of their fixtures keep one connection, as those of :meth:`redis.Redis.client` do. A
client of an application takes one of the pool for each command.
"""

from __future__ import annotations

import inspect
import sys

import pytest

_MODES = {"single": True, "pooled": False}
_CLIENTS = {"r", "r2", "decoded_r", "r_timeout", "r_with_keyspace_notifications"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that has a client, or makes one itself from its ``request``, in both modes."""
    makes_one = "request" in inspect.signature(metafunc.function).parameters
    if makes_one or not _CLIENTS.isdisjoint(metafunc.fixturenames):
        metafunc.fixturenames.insert(0, "connection_mode")
        metafunc.parametrize("connection_mode", _MODES, indirect=True)


@pytest.fixture
def connection_mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set whether the clients of the test keep one connection."""
    make_client = sys.modules["tests.conftest"]._get_client
    _, *others = make_client.__defaults__
    monkeypatch.setattr(make_client, "__defaults__", (_MODES[request.param], *others))
