"""A TLS server at the other end of a socket pair, which sends a byte at a time."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

import trustme

PAUSE = 0.01  # seconds before each byte
_AUTHORITY = trustme.CA()
_NAME = "redis.example"


@contextlib.contextmanager
def slow_tls(reply: bytes, module: Any = ssl) -> Iterator[Any]:
    """Yield a socket with TLS, whose handshake is done.

    :param reply: sent after the handshake, a byte at a time.
    :param module: makes the socket: :mod:`ssl` or gevent's.
    """
    context = module.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _AUTHORITY.configure_trust(context)
    with slow_server(reply) as near, context.wrap_socket(near, server_hostname=_NAME) as wrapped:
        yield wrapped


@contextlib.contextmanager
def slow_server(reply: bytes = b"", *, slow_handshake: bool = False) -> Iterator[socket.socket]:
    """Yield a socket that is connected to the server, before the handshake.

    :param slow_handshake: whether the handshake's bytes come one at a time, too.
    """
    near, far = socket.socketpair()
    thread = threading.Thread(target=_serve, args=(far, reply, slow_handshake), daemon=True)
    thread.start()
    try:
        yield near
    finally:
        near.close()
        far.close()
        thread.join()


def _serve(far: socket.socket, reply: bytes, slow_handshake: bool) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _AUTHORITY.issue_cert(_NAME).configure_cert(context)
    received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(received, to_send, server_side=True)
    with contextlib.suppress(OSError):  # the client has closed the socket
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                _send(far, to_send.read(), slow_handshake)
                received.write(far.recv(65536))
        _send(far, to_send.read(), slow_handshake)
        tls.write(reply)
        _send(far, to_send.read(), slow=True)


def _send(far: socket.socket, data: bytes, slow: bool) -> None:
    for piece in [data[n : n + 1] for n in range(len(data))] if slow else [data]:
        if slow:
            time.sleep(PAUSE)
        far.sendall(piece)
