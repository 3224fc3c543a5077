"""Each test starts with empty servers, and each file without the servers of the others."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pyramid_baseplate_redis.testing import external_server, flush, stand_in_servers


@pytest.fixture(autouse=True, scope="module")
def _forgotten() -> Iterator[None]:
    """Forget the external servers at the end: another server may get the port of one that ended."""
    yield
    external_server._servers.clear()


@pytest.fixture(autouse=True, scope="module")
def _stopped() -> Iterator[None]:
    """Stop the stand-ins at the end: each server costs time, although nothing uses it."""
    yield
    for server in stand_in_servers._servers.values():
        if server._users is not None:
            os.close(server._users)
            server._users = None


@pytest.fixture(autouse=True)
def _empty() -> None:
    flush()
