"""Each test starts with empty servers."""

from __future__ import annotations

import pytest

from pyramid_baseplate_redis.testing import flush


@pytest.fixture(autouse=True)
def _empty() -> None:
    flush()
