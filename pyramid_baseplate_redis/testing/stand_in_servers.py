"""The embedded servers that stand in for an application's own while it is tested.

There is one for each server that the settings name, since not all of a server's state is in its
databases: channels and scripts are not. All are in memory and private to the process and its forks.
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

#: How many databases a stand-in has, unless a URL names one with a higher number. Each server
#: looks at all of its databases ten times a second: a million of them take 4 % of a processor.
USUAL_DATABASES = 1000


class StandInServer(EmbeddedServer):
    """Stands in for one server.

    :param databases: how many databases it has.
    """

    log_level = logging.DEBUG  # a test that examines log records should not see those of its start

    def __init__(self, databases: int = USUAL_DATABASES) -> None:
        self.options: Sequence[str] = ("--databases", str(databases))
        super().__init__(None)

    def _client(self) -> redis.Redis:
        # By default redis-py would retry for seconds if the server is gone.
        return redis.Redis(unix_socket_path=self.socket_path, retry=Retry(NoBackoff(), 0))

    def flush(self) -> None:
        """Remove all keys, functions and scripts, unless the server was never started."""
        if not self.socket_path:
            return
        with self._client() as client:
            try:
                client.flushall()
                client.function_flush()
                client.script_flush()
            except redis.ConnectionError:
                # The server is gone with all its data; the next command starts a new one.
                if self._running():
                    raise


class StandInCluster(StandInServer):
    """Stands in for a Cluster: a Cluster of one node, which serves all slots.

    A new node takes two seconds until the Cluster's state is ``ok``.
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


def stand_in(name: str, is_cluster: bool = False, db: int = 0) -> StandInServer:
    """Return the stand-in for a server or a Cluster; a new one is not started yet.

    :param name: a name for the real server or Cluster.
    :param db: a database that it has to have, if it is a new one.
    """
    with _lock:
        if name not in _servers:
            databases = USUAL_DATABASES if db < USUAL_DATABASES else MOST_DATABASES + 1
            _servers[name] = StandInCluster() if is_cluster else StandInServer(databases)
        return _servers[name]


def flush_stand_ins() -> None:
    """Empty all stand-ins of this process."""
    for server in list(_servers.values()):
        server.flush()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()
    for server in _servers.values():
        server.after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)


class StandInConnection(EmbeddedConnection):
    """A connection to a stand-in, which is started if it is not running.

    :param stand_in_for: the real server's name; see :func:`stand_in`.
    :param host: the host of a Cluster's node, which is only shown, like ``port``.
    :param socket_keepalive: ignored; the pool of a Cluster passes it.
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
        self._host, self.port = host, port  # the attributes of redis.Connection

    @property
    def host(self) -> str:
        return self._host

    @host.setter
    def host(self, value: str) -> None:
        self._host = value

    def _connect(self) -> socket.socket:
        server = _servers[self.stand_in_for]
        server.start()  # waits if another process is starting it; a Cluster takes two seconds
        self.path = server.socket_path
        return cast(socket.socket, super(EmbeddedConnection, self)._connect())
