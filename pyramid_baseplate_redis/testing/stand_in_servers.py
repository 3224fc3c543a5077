"""The embedded servers that stand in for an application's own while it is tested.

One for each server that the settings name, since a server has more than databases: channels,
scripts, FLUSHALL. All in memory, private to the process and those that it forks.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Sequence
from typing import cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..pool.embedded import STARTUP_SECONDS, EmbeddedConnection, EmbeddedServer
from ..settings.url import MOST_DATABASES


class StandInServer(EmbeddedServer):
    """Stands in for one server.

    It has as many databases as a URL may name. They cost nothing before they are used.
    """

    log_level = logging.DEBUG  # it is for tests, and mustn't be among what a test looks for
    options: Sequence[str] = ("--databases", str(MOST_DATABASES + 1))

    def __init__(self) -> None:
        super().__init__(None)

    def _client(self) -> redis.Redis:
        # redis-py would try for seconds whether a server that is gone comes back.
        return redis.Redis(unix_socket_path=self.socket_path, retry=Retry(NoBackoff(), 0))

    def flush(self) -> None:
        """Empty it of keys, functions and scripts; nothing is done if it was never started."""
        if not self.socket_path:
            return
        with self._client() as client:
            try:
                client.flushall()
                client.function_flush()
                client.script_flush()
            except redis.ConnectionError:
                # It is gone, and everything that it had: the next command starts it anew.
                if self._running():
                    raise


class StandInCluster(StandInServer):
    """Stands in for a Cluster: a Cluster of one node, which serves all slots.

    A node waits for two seconds before it believes that it is the whole Cluster.
    """

    def _spawn(self, lock: int) -> None:
        # Only the bus, which nothing connects to, listens on a network interface.
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            bus = probe.getsockname()[1]
        self.options = (
            "--cluster-enabled", "yes", "--bind", "127.0.0.1", "--cluster-port", str(bus),
            "--cluster-announce-port", "6379",
        )  # fmt: skip
        super()._spawn(lock)

    def _start_or_join(self) -> None:
        super()._start_or_join()
        deadline = time.monotonic() + STARTUP_SECONDS
        with self._client() as client:
            client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            while client.cluster("info").get("cluster_state") != "ok":
                self._wait(deadline, self._shell)


_servers: dict[str, StandInServer] = {}
_lock = threading.Lock()


def stand_in(name: str, is_cluster: bool = False) -> StandInServer:
    """Return the stand-in for the server or the Cluster of that name; a new one is not started."""
    with _lock:
        if name not in _servers:
            _servers[name] = StandInCluster() if is_cluster else StandInServer()
        return _servers[name]


def flush_stand_ins() -> None:
    """Empty all of this process."""
    for server in list(_servers.values()):
        server.flush()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()
    for server in _servers.values():
        server.after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)


class StandInConnection(EmbeddedConnection):
    """A connection to a server that stands in for another, which it starts if need be.

    :param stand_in_for: the other's name; see :func:`stand_in`.
    :param host: of a Cluster's node, which is shown and not connected to; likewise ``port``.
    :param socket_keepalive: has no meaning here; a Cluster's settings name it.
    """

    def __init__(
        self,
        stand_in_for: str = "",
        directory: str | None = None,
        host: str = "embedded",
        port: int = 0,
        socket_keepalive: bool | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__(directory, **kwargs)
        self.stand_in_for = stand_in_for
        self._host, self.port = host, port  # both as redis.Connection has them

    @property
    def host(self) -> str:
        return self._host

    @host.setter
    def host(self, value: str) -> None:
        self._host = value

    def _connect(self) -> socket.socket:
        server = _servers[self.stand_in_for]
        server.start()  # waits if another process is starting it: a Cluster needs a moment
        self.path = server.socket_path
        return cast(socket.socket, super(EmbeddedConnection, self)._connect())
