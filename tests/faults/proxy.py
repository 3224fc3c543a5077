"""A TCP proxy in front of a server that loses, cuts, delays and resets what passes through it."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Any

READ_AT_ONCE = 65_536  # bytes
_RESET_WHEN_CLOSED = struct.pack("ii", 1, 0)  # SO_LINGER: on, for 0 seconds


class Proxy:
    """Forwards connections to a port of 127.0.0.1; a context manager.

    Two daemon threads for each connection, which mostly wait. Every method may be called at any
    time, from any thread, and what it says holds for old and new connections until it is undone.
    """

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port
        self.port = 0  # chosen when it starts, and kept
        self.accepted = 0  # connections, so far
        self.lost = 0  # replies, so far
        self._losing = 0.0
        self._cut_after: int | None = None
        self._delay = 0.0
        self._flowing = threading.Event()
        self._flowing.set()
        self._listener: socket.socket | None = None
        self._clients: set[socket.socket] = set()

    def __enter__(self) -> Proxy:
        self.refuse(False)
        return self

    def __exit__(self, *args: Any) -> None:
        self.refuse(True)
        self._flowing.set()
        for client in tuple(self._clients):
            _close(client)

    def lose_replies(self, probability: float | bool) -> None:
        """Of what the server says, throw so much away, and hang up: the command is executed."""
        self._losing = float(probability)

    def cut_reply_after(self, size: int | None) -> None:
        """Of a reply that is longer, forward so many bytes and hang up; ``None``: no longer."""
        self._cut_after = size

    def delay(self, seconds: float) -> None:
        """Forward replies later."""
        self._delay = seconds

    def freeze(self, frozen: bool) -> None:
        """Accept connections and forward nothing, in either direction; nothing is lost."""
        (self._flowing.clear if frozen else self._flowing.set)()

    def reset_connections(self) -> None:
        """Send each client a RST."""
        for client in tuple(self._clients):
            with suppress(OSError):
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_WHEN_CLOSED)
                # Wakes the thread that reads from it, and with that keeps it open; says nothing.
                client.shutdown(socket.SHUT_RD)
            _close(client, shut_down=False)

    def refuse(self, refused: bool) -> None:
        """Refuse new connections, as if nobody listened; old ones live on."""
        if refused and self._listener is not None:
            listener, self._listener = self._listener, None
            _close(listener)
        elif not refused and self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
            self.port = self._listener.getsockname()[1]
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return  # closed
            self.accepted += 1
            try:
                server = socket.create_connection(("127.0.0.1", self.server_port), 10)
            except OSError:
                _close(client)
                continue
            server.settimeout(None)
            self._clients.add(client)
            for pump in (self._forward_commands, self._forward_replies):
                threading.Thread(target=pump, args=(client, server), daemon=True).start()

    def _forward_commands(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(READ_AT_ONCE):
                self._flowing.wait()
                self._send_request(server, data)
        # Half-closed: the server executes what it got, and says its last word to the other pump.
        with suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _forward_replies(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(READ_AT_ONCE):
                time.sleep(self._delay)
                self._flowing.wait()
                if self._losing and random.random() < self._losing:
                    self.lost += 1
                    break
                if self._cut_after is not None and len(data) > self._cut_after:
                    client.sendall(data[: self._cut_after])
                    break
                self._send_reply(client, data)
        self._clients.discard(client)
        _close(client)
        _close(server)

    def _send_request(self, server: socket.socket, data: bytes) -> None:
        server.sendall(data)

    def _send_reply(self, client: socket.socket, data: bytes) -> None:
        client.sendall(data)


def _close(opened: socket.socket, shut_down: bool = True) -> None:
    if shut_down:
        with suppress(OSError):
            opened.shutdown(socket.SHUT_RDWR)  # wakes who waits for it in another thread
    with suppress(OSError):
        opened.close()
