"""A deadline bounds how long a large command takes to send, also with TLS."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis
import trustme
from redis.client import NEVER_DECODE

from pyramid_baseplate_redis import DeadlineExceededError, is_retryable
from pyramid_baseplate_redis.runtime.deadline import SENDING, Deadline, called

from ..support.servers import MakeClient, Server
from .test_deadlines import SECONDS, exceeded, is_idle


@contextmanager
def slow_reader(directory: Path, delay: float) -> Iterator[tuple[str, dict[str, str]]]:
    """A server with TLS that logs clients in and then reads 20 kB each ``delay`` seconds."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "authority.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                plain, _ = listener.accept()
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
                with context.wrap_socket(plain, server_side=True) as connection:
                    while b"SELECT" not in (data := connection.recv(4096)):
                        connection.sendall(b"+OK\r\n" * data.count(b"SETINFO"))
                    connection.sendall(b"+OK\r\n" * (1 + data.count(b"SETINFO")))
                    while connection.recv(20_000):
                        time.sleep(delay)

        threading.Thread(target=serve, daemon=True).start()
        url = f"rediss://127.0.0.1:{listener.getsockname()[1]}/1?protocol=2"
        yield url, {"ssl_ca_certs": str(directory / "authority.pem")}


@pytest.mark.alone("packing has to end in time")
@pytest.mark.parametrize("direct", [True, False])
def test_a_large_value_with_tls_is_bounded_as_a_whole(
    make_client: MakeClient, tmp_path: Path, direct: bool
) -> None:
    options = {} if direct else {NEVER_DECODE: True}  # redis-py's way
    with slow_reader(tmp_path, 0.01) as (url, tls):
        client = make_client(url, **tls)
        client.connection_pool.release(client.connection_pool.get_connection())
        bounded, value = client.within(SECONDS), b"x" * 5_000_000
        error = exceeded(lambda: bounded.execute_command("SET", "key", value, **options))
    assert "passed while sending" in str(error)
    assert is_retryable(error) is None
    assert is_idle(client)


def test_nothing_is_sent_after_the_deadline(make_client: MakeClient, valkey: Server) -> None:
    pool = make_client(valkey).connection_pool
    deadline = Deadline(time.monotonic() - 0.01)
    for direct in (True, False):
        connection = pool.get_connection()
        send = connection.ask if direct else lambda args, each=connection: each.send_command(*args)
        with pytest.raises(redis.TimeoutError, match="writing"):
            called(deadline, lambda send=send: send(("SET", "key", "value")))
        pool.release(connection)
    assert SENDING not in deadline.spent
    assert deadline.phase != SENDING
    assert make_client(valkey).get("key") is None


def test_packing_is_a_phase_of_its_own(make_client: MakeClient, valkey: Server) -> None:
    client = make_client(valkey)
    assert client.ping()
    value = b"x" * 50_000_000
    with pytest.raises(DeadlineExceededError) as caught:
        client.within(0.003).set("key", value)
    assert caught.value.phase == "packing the commands"
    assert is_retryable(caught.value) is True
    assert "max_connections" not in str(caught.value)
    assert client.get("key") is None
