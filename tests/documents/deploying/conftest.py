"""A server with a user of its own for the application, and a collector."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ...support.servers import Server, running_server
from .deployment import PASSWORD, USER


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Valkey whose user ``myapp`` has a password. The tests are the default user."""
    user = (USER, "on", f">{PASSWORD}", "~*", "&*", "+@all")
    with running_server("valkey", tmp_path_factory.mktemp("guarded"), "--user", *user) as server:
        yield server
