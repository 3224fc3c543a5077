"""Pools and clients made from settings, and a port that accepts connections."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import pool_from_config

from ...support.servers import Server


def make_pool(url: str, /, **settings: Any) -> redis.BlockingConnectionPool:
    """The pool of a client named foo; what starts with two underscores is a keyword argument."""
    app_config = {f"foo.{k}": v for k, v in settings.items() if not k.startswith("__")}
    kwargs = {k[2:]: v for k, v in settings.items() if k.startswith("__")}
    return pool_from_config({"foo.url": url, **app_config}, prefix="foo.", **kwargs)


@contextlib.contextmanager
def client_of(pool: redis.ConnectionPool) -> Iterator[redis.Redis]:
    try:
        yield redis.Redis(connection_pool=pool)
    finally:
        pool.disconnect()


@contextlib.contextmanager
def client(url: str, /, **settings: Any) -> Iterator[redis.Redis]:
    with client_of(make_pool(url, **settings)) as made:
        yield made


def wait_until(condition: Callable[[], Any], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


class Listener:
    """A port that answers nobody: it counts who connects, and hangs up."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        self.connections = 0
        self._thread: threading.Thread | None = None

    def waiting(self) -> bool:
        """Whether somebody has connected; for a listener that isn't hanging up."""
        self._socket.setblocking(False)
        try:
            self._socket.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def hang_up(self) -> None:
        """From now on, close every connection as soon as it is there."""
        self._socket.setblocking(True)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            self.connections += 1
            connection.close()

    def attempts(self, make: Callable[[], Any]) -> int:
        """How often somebody connected while a call failed."""
        before = self.connections
        with pytest.raises(redis.ConnectionError):
            make()
        return self.connections - before


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def acl_user(valkey: Server) -> Iterator[tuple[str, str]]:
    with redis.Redis(port=valkey.port) as admin:
        admin.execute_command("ACL", "SETUSER", "app", "on", ">app-secret", "~*", "+@all")
        yield "app", "app-secret"
        admin.execute_command("ACL", "DELUSER", "app")
