"""A server that answers a command with what a test says, byte by byte, and with any fault."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import hiredis

_RESET_WHEN_CLOSED = struct.pack("ii", 1, 0)  # SO_LINGER: on, for 0 seconds
_HANDSHAKE = {
    b"HELLO": b"%1\r\n$5\r\nproto\r\n:3\r\n",
    b"AUTH": b"+OK\r\n",
    b"CLIENT": b"+OK\r\n",
    b"SELECT": b"+OK\r\n",
}

CLOSE = "close"
RESET = "reset"
# Bytes are sent, for a number of seconds nothing happens, and the connection is closed or reset.
Step = bytes | float | str


class ScriptedServer:
    """A server on a port of 127.0.0.1; a context manager.

    Connections are made as with any server.
    """

    def __init__(self) -> None:
        self.port = 0  # chosen when it starts, and kept
        #: What it does after each command.
        self.script: Sequence[Step] = ()
        #: What it does after the next commands, one each, before ``script`` applies.
        self.scripts: list[Sequence[Step]] = []
        #: The same for the first commands of each connection.
        self.per_connection: Sequence[Sequence[Step]] = ()
        self.commands: list[list[bytes]] = []
        #: Whether it reads what arrives once a connection is made.
        self.reads = True
        #: Seconds after which it resets a connection from which it reads no more.
        self.reset_after: float | None = None
        self._opened: list[socket.socket] = []

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> ScriptedServer:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *args: Any) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.close_connections()

    def close_connections(self, reset: bool = False) -> None:
        """Close all connections, as a server does that ends."""
        opened, self._opened = self._opened, []
        for each in opened:
            _close(each, reset)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                opened, _ = self._listener.accept()
                self._opened.append(opened)
                threading.Thread(target=self._serve, args=(opened,), daemon=True).start()

    def _serve(self, opened: socket.socket) -> None:
        reader = hiredis.Reader(notEnoughData=...)
        scripts = list(self.per_connection)
        with suppress(OSError):
            while data := opened.recv(65536):
                reader.feed(data)
                while (command := reader.gets()) is not ...:
                    self._answer(opened, command, scripts)
                    if not self.reads and b"LIB-VER" in command:  # the handshake's last one
                        self._stop_reading(opened)
                        return

    def _stop_reading(self, opened: socket.socket) -> None:
        if self.reset_after is not None:
            time.sleep(self.reset_after)
            _close(opened, reset=True)

    def _answer(self, opened: socket.socket, command: Any, scripts: list[Sequence[Step]]) -> None:
        if (reply := _HANDSHAKE.get(command[0])) is not None:
            opened.sendall(reply)
            return
        self.commands.append(command)
        scripts = scripts or self.scripts
        for step in scripts.pop(0) if scripts else self.script:
            if isinstance(step, bytes):
                opened.sendall(step)
            elif isinstance(step, str):
                _close(opened, step == RESET)
            else:
                time.sleep(step)


def _close(opened: socket.socket, reset: bool) -> None:
    with suppress(OSError):
        if reset:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_WHEN_CLOSED)
            opened.shutdown(socket.SHUT_RD)  # wakes the thread that reads, and is not sent
        else:
            opened.shutdown(socket.SHUT_RDWR)
        opened.close()
