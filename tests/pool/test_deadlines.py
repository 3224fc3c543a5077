"""No fault holds a caller for longer than the settings say, however a server dawdles."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from ..support.servers import MakeClient, RecordedSpans, Server, attributes
from .conftest import MakePool

ENOUGH = 0.25  # seconds for a socket_timeout of 0.1 on a busy machine


class DawdlingServer:
    """Answers each of a handshake's commands in time, and then as it is told."""

    def __init__(self, answer: Callable[[socket.socket], None], login_delay: float = 0) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._answer, self._login_delay = answer, login_delay
        self.url = f"redis://127.0.0.1:{self._socket.getsockname()[1]}/1?protocol=2"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            while data := connection.recv(65536):
                if b"SETINFO" in data or b"SELECT" in data:
                    time.sleep(self._login_delay)
                    connection.sendall(b"+OK\r\n")
                else:
                    self._answer(connection)
        except OSError:
            pass

    def close(self) -> None:
        self._socket.close()


def drip(connection: socket.socket) -> None:
    connection.sendall(b"$1000\r\n")
    for _ in range(1000):
        time.sleep(0.03)
        connection.sendall(b"x")


def half(connection: socket.socket) -> None:
    connection.sendall(b"$1000\r\nhalf")


@contextmanager
def dawdling(*args: Any, **kwargs: Any) -> Iterator[DawdlingServer]:
    server = DawdlingServer(*args, **kwargs)
    try:
        yield server
    finally:
        server.close()


def seconds_of(call: Callable[[], Any]) -> float:
    started = time.monotonic()
    with pytest.raises(redis.TimeoutError):
        call()
    return time.monotonic() - started


@pytest.mark.parametrize("answer", [drip, half])
def test_a_reply_in_pieces_has_the_time_of_one(
    make_client: MakeClient, answer: Callable[[socket.socket], None]
) -> None:
    with dawdling(answer) as server:
        client = make_client(server.url, socket_timeout="100 ms")
        assert 0.09 < seconds_of(lambda: client.get("key")) < ENOUGH


def test_a_pipelines_replies_in_pieces_have_the_time_of_one(make_client: MakeClient) -> None:
    with dawdling(drip) as server:
        pipeline = make_client(server.url, socket_timeout="100 ms").pipeline(transaction=False)
        pipeline.get("a").get("b")
        assert 0.09 < seconds_of(pipeline.execute) < ENOUGH


def test_a_slow_login_has_the_time_of_one_reply(make_client: MakeClient) -> None:
    with dawdling(half, login_delay=0.07) as server:  # three of which take longer
        client = make_client(server.url, socket_timeout="100 ms")
        assert 0.09 < seconds_of(lambda: client.get("key")) < ENOUGH


def test_each_reply_has_a_time_of_its_own(make_client: MakeClient, valkey: Server) -> None:
    client = make_client(valkey, socket_timeout="700 ms")
    for _ in range(3):
        client.execute_command("BLPOP", "nothing", 0.3)


def test_a_large_reply_in_many_pieces_is_read(make_client: MakeClient, valkey: Server) -> None:
    client = make_client(valkey)
    client.set("large", b"x" * 5_000_000)
    assert len(client.get("large")) == 5_000_000  # type: ignore[arg-type]


def test_a_queue_that_is_waited_for_isnt_cut_short(make_client: MakeClient, valkey: Server) -> None:
    client = make_client(valkey, socket_timeout="100 ms")
    timer = threading.Timer(0.4, client.message_queue("jobs").put, ("message",))
    timer.start()
    assert client.message_queue("jobs").get(timeout=2) == b"message"
    timer.join()


def test_all_addresses_of_a_name_together_have_socket_connect_timeout(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A full backlog: the kernel answers no further connection.
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    address = listener.getsockname()
    full = [socket.socket() for _ in range(4)]
    for each in full:
        each.setblocking(False)
        each.connect_ex(address)
    info = (socket.AF_INET, socket.SOCK_STREAM, 6, "", address)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: [info] * 5)
    client = make_client("redis://redis.example", socket_connect_timeout="100 ms")
    assert 0.09 < seconds_of(lambda: client.get("key")) < ENOUGH
    for each in [*full, listener]:
        each.close()


def test_an_empty_pool_costs_pool_timeout(make_client: MakeClient, valkey: Server) -> None:
    client = make_client(valkey, max_connections="1", pool_timeout="100 ms")
    held = client.connection_pool.get_connection()
    started = time.monotonic()
    with pytest.raises(redis.ConnectionError):
        client.get("key")
    assert 0.09 < time.monotonic() - started < ENOUGH
    client.connection_pool.release(held)


def test_a_frozen_server_ends_a_watching_pipeline_after_one_timeout(
    make_client: MakeClient, valkey: Server
) -> None:
    # redis-py sends UNWATCH then, to the same frozen server.
    client = make_client(valkey, socket_timeout="100 ms")
    pipeline = client.pipeline()
    pipeline.watch("key")
    with redis.Redis(port=valkey.port) as admin:
        admin.client_pause(600)
        started = time.monotonic()
        with pytest.raises(redis.WatchError), pipeline:
            pipeline.get("key")
        seconds = time.monotonic() - started
        admin.client_unpause()
    assert 0.09 < seconds < ENOUGH


# Interruptions of somebody who keeps a connection


class _Interrupted(BaseException):
    pass


def interrupt_after_sending(connection: Any) -> None:
    """Have the next command of a connection interrupted between sending and reading."""

    def interrupted(*args: Any) -> None:
        del connection.read_response, connection._read
        raise _Interrupted

    connection.read_response = connection._read = interrupted


def test_a_client_with_its_own_connection_never_takes_an_interrupted_commands_reply(
    make_client: MakeClient, valkey: Server
) -> None:
    client = make_client(valkey).client()
    interrupt_after_sending(client.connection)
    with pytest.raises(_Interrupted):
        client.echo("first")
    assert client.echo("second") == b"second"
    client.close()


def test_a_watching_pipeline_never_takes_an_interrupted_commands_reply(
    make_client: MakeClient, valkey: Server
) -> None:
    client = make_client(valkey)
    with client.pipeline() as pipeline:
        pipeline.watch("key")
        interrupt_after_sending(pipeline.connection)
        with pytest.raises(_Interrupted):
            pipeline.echo("first")
        with pytest.raises(redis.WatchError, match="interrupted"):
            pipeline.echo("second")
    assert client.echo("third") == b"third"


def test_an_interrupted_command_of_the_pool_leaves_no_reply_behind(
    make_client: MakeClient, valkey: Server, spans: RecordedSpans
) -> None:
    client = make_client(valkey, max_connections="1")
    client.ping()
    (idle,) = client.connection_pool._get_free_connections()
    interrupt_after_sending(idle)
    spans.clear()
    with pytest.raises(_Interrupted):
        client.echo("first")
    assert client.echo("second") == b"second"
    assert attributes(spans.all[0])["error.type"].endswith("_Interrupted")


def test_a_timeout_for_one_reply_is_kept(make_pool: MakePool) -> None:
    pool = make_pool(socket_timeout="5 seconds")
    connection = pool.get_connection()
    started = time.monotonic()
    with pytest.raises(redis.TimeoutError):
        connection.read_response(timeout=0.05)
    assert 0.04 < time.monotonic() - started < 2
    pool.release(connection)
