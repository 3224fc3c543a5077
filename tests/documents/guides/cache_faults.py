"""Faults of the cache of :mod:`.prices_page`."""

from __future__ import annotations

import contextlib
import queue
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ...support.servers import Server
from .prices_page import Page

HELD_CONNECTIONS = 10


@contextmanager
def no_fault(server: Server, page: Page) -> Iterator[None]:
    yield


@contextmanager
def frozen(server: Server, page: Page) -> Iterator[None]:
    server.executor.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.executor.process.send_signal(signal.SIGCONT)


@contextmanager
def dead(server: Server, page: Page) -> Iterator[None]:
    server.kill()
    yield


@contextmanager
def full_pool(server: Server, page: Page) -> Iterator[None]:
    held = [page.pool.get_connection() for _ in range(HELD_CONNECTIONS)]
    try:
        yield
    finally:
        for connection in held:
            page.pool.release(connection)


@contextmanager
def delaying_port(server: Server, seconds: float) -> Iterator[int]:
    """A proxy in front of a server, through which each reply arrives later."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    upstream = socket.create_connection(("127.0.0.1", server.port))
                    _forward(client, upstream, 0)
                    _forward(upstream, client, seconds)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def _forward(source: socket.socket, target: socket.socket, seconds: float) -> None:
    """Forward bytes in the background, each of them ``seconds`` after it has arrived."""
    waiting: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

    def read() -> None:
        data = b"-"
        while data:
            with contextlib.suppress(OSError):
                data = source.recv(1 << 16)
            waiting.put((time.monotonic() + seconds, data))

    def write() -> None:
        with contextlib.suppress(OSError):
            while True:
                due, data = waiting.get()
                time.sleep(max(0.0, due - time.monotonic()))
                if not data:
                    return target.shutdown(socket.SHUT_WR)
                target.sendall(data)

    for run in (read, write):
        threading.Thread(target=run, daemon=True).start()
