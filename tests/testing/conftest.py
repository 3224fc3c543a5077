"""Each test starts with empty servers, and each file without the servers of the others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pyramid_baseplate_redis.testing import external_server, flush


@pytest.fixture(autouse=True, scope="module")
def _forgotten() -> Iterator[None]:
    """Forget the external servers at the end: another server may get the port of one that ended."""
    yield
    external_server._servers.clear()


@pytest.fixture(autouse=True)
def _empty() -> None:
    flush()
