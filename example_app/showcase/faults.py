"""Make the embedded server slow, kill it, and start it again.

Everything is done with a server's own commands and a signal, so the app sees what it would see if
another program had broken its Redis.
"""

from __future__ import annotations

import math
import os
import signal
import socketserver
import threading
import time
from contextlib import suppress
from pathlib import Path

import redis

from pyramid_baseplate_redis import pool_from_config

SLOW_SECONDS = 30
PAUSE_MILLISECONDS = 100


class Faults:
    """Breaks the embedded server of one URL.

    :param url: an ``embedded://`` URL with a directory.
    """

    def __init__(self, url: str) -> None:
        self._settings = {"links.url": url}
        self._lock = threading.Lock()
        self._slow_until = 0.0
        self._refusing: _Refusal | None = None

    @property
    def is_killed(self) -> bool:
        """Return whether the server was killed and not started again."""
        return self._refusing is not None

    @property
    def slow_seconds(self) -> int:
        """Return for how many more seconds the server is slow; 0 if it is not."""
        return max(0, math.ceil(self._slow_until - time.monotonic()))

    def make_slow(self) -> None:
        """Let each round trip take 100 to 200 milliseconds, for 30 seconds.

        A pause takes 100 milliseconds. The server looks for its end ten times a second.

        :raises redis.RedisError: the server does not run.
        """
        with self._lock:
            is_slow, server = self.slow_seconds > 0, self._server()
            if not is_slow:
                server.client_pause(PAUSE_MILLISECONDS)
            self._slow_until = time.monotonic() + SLOW_SECONDS
            if not is_slow:
                threading.Thread(target=self._keep_slow, args=(server,), daemon=True).start()

    def _keep_slow(self, server: redis.Redis) -> None:
        """Pause the server repeatedly. Between two pauses it answers the commands that wait."""
        with server, suppress(redis.RedisError):
            while time.monotonic() < self._slow_until:
                server.client_pause(PAUSE_MILLISECONDS)  # waits for the end of the last pause

    def kill(self) -> None:
        """Kill the server's process.

        :raises redis.RedisError: the server does not run.
        """
        with self._lock, self._server() as server:
            if self._refusing is not None:
                return
            address = str(server.config_get("unixsocket")["unixsocket"])
            process = server.info("server")["process_id"]
            # The client of an embedded:// URL starts the server if there is none. This listener
            # keeps it from that, so that the server stays away until start() is called.
            self._refusing = _Refusal(Path(address))
            self._slow_until = 0.0
            os.kill(process, signal.SIGKILL)

    def start(self) -> None:
        """Start the server again, with the data that it had.

        :raises redis.RedisError: it cannot be started.
        """
        with self._lock:
            self._slow_until = 0.0
            if self._refusing is not None:
                self._refusing.close()
                self._refusing = None
            with self._server() as server:
                server.ping()

    def _server(self) -> redis.Redis:
        """Return a client with a pool of its own, which no circuit breaker guards."""
        return redis.Redis.from_pool(pool_from_config(self._settings, "links."))


class _Refusal:
    """Listens in the place of the killed server, and closes each connection at once.

    :param address: the path of the server's socket, which is replaced.
    """

    def __init__(self, address: Path) -> None:
        self._address = address
        new = address.with_name("refuse")
        new.unlink(missing_ok=True)
        self._listener = socketserver.UnixStreamServer(str(new), socketserver.BaseRequestHandler)
        new.replace(address)  # no connection is made between the two servers
        threading.Thread(target=self._listener.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening, which frees the address."""
        self._listener.shutdown()
        self._listener.server_close()
        self._address.unlink(missing_ok=True)
