"""A proxy that is slow: a byte at a time, a reply at a time, or reading little of a request."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import hiredis

from ..proxy import READ_AT_ONCE, Proxy

_INCOMPLETE = object()


class SlowProxy(Proxy):
    """Forwards connections to a port of 127.0.0.1, slowly when told to."""

    def __init__(self, server_port: int) -> None:
        super().__init__(server_port)
        #: Seconds between two bytes of a reply; 0 forwards at once.
        self.byte_pause = 0.0
        #: Seconds before each reply; 0 forwards at once.
        self.reply_pause = 0.0
        #: Seconds between two reads of 64 kB of a request; 0 forwards at once.
        self.read_pause = 0.0
        #: A push message that is sent before the next reply.
        self.push = b""

    def refuse(self, refused: bool) -> None:
        super().refuse(refused)
        if self._listener is not None:  # its connections get a buffer of this size
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READ_AT_ONCE)

    def _send_request(self, server: socket.socket, data: bytes) -> None:
        time.sleep(self.read_pause)
        server.sendall(data)

    def _send_reply(self, client: socket.socket, data: bytes) -> None:
        push, self.push = self.push, b""
        for pause, piece in self._pieces(push + data):
            time.sleep(pause)
            client.sendall(piece)

    def _pieces(self, data: bytes) -> Iterator[tuple[float, bytes]]:
        if self.reply_pause:
            yield from ((self.reply_pause, reply) for reply in _replies(data))
        elif self.byte_pause:
            yield from ((self.byte_pause, data[at : at + 1]) for at in range(len(data)))
        else:
            yield 0.0, data


def _replies(data: bytes) -> Iterator[bytes]:
    """Split what a server sent into whole replies."""
    reader = hiredis.Reader(notEnoughData=_INCOMPLETE)
    begun = 0
    for at in range(len(data)):
        reader.feed(data[at : at + 1])
        if reader.gets() is not _INCOMPLETE:
            yield data[begun : at + 1]
            begun = at + 1
    if begun < len(data):
        yield data[begun:]
