"""Servers that accept the password, refuse it, or say nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from ..support.metrics import collect
from ..support.servers import free_port, running_server
from .search import PASSWORD
from .ways_in import WAYS, Give, Given


@pytest.fixture
def provider() -> None:
    """Collect metrics."""
    collect()


@pytest.fixture(scope="session")
def accepting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with the password."""
    with running_server("valkey", tmp_path_factory.mktemp("accepting")) as server:
        with redis.Redis(port=server.port) as admin:
            admin.config_set("requirepass", PASSWORD)
        yield f"127.0.0.1:{server.port}"


@pytest.fixture(scope="session")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with another password."""
    directory = tmp_path_factory.mktemp("refusing")
    with running_server("valkey", directory, "--requirepass", "another") as server:
        yield f"127.0.0.1:{server.port}"


@pytest.fixture(scope="session")
def silent() -> Iterator[str]:
    """The address of a server that never replies."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(params=["wrong password", "refused", "timeout"])
def failing(request: pytest.FixtureRequest) -> str:
    """The address of a server that a client cannot use."""
    if request.param == "refused":
        return f"127.0.0.1:{free_port()}"
    name = "refusing" if request.param == "wrong password" else "silent"
    return str(request.getfixturevalue(name))


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Give:
    """Return the settings and keyword arguments of a way in, for the server at an address."""

    def give(way: str, address: str) -> Given:
        found = WAYS[way](address, tmp_path, monkeypatch)
        short = {"socket_timeout": "50 milliseconds", "socket_connect_timeout": "50 milliseconds"}
        settings = {f"foo.{key}": value for key, value in {**short, "retries": "1"}.items()}
        return Given({**settings, **found.settings}, found.kwargs)

    return give
