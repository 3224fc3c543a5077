"""Pipelines and transactions: the direct way returns and raises what redis-py's way does."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from pyramid_baseplate_redis import MonitoredRedisConnection

from ...support.servers import MakeClient, Server
from .both_ways import compare
from .scripted_server import CLOSE, RESET, ScriptedServer, Step

Client = MonitoredRedisConnection


def executed(transaction: bool, raise_on_error: bool = True) -> Callable[[Client], Any]:
    def call(client: Client) -> Any:
        with client.pipeline("three", transaction=transaction) as pipeline:
            pipeline.get("a").incr("b").hgetall("c")
            return pipeline.execute(raise_on_error)

    return call


REPLIES = {
    "all": [b"$1\r\nx\r\n", b":1\r\n", b"%1\r\n+a\r\n+b\r\n"],
    "nils": [b"_\r\n", b"_\r\n", b"*0\r\n"],
    "an error": [b"$1\r\nx\r\n", b"-ERR no\r\n", b"%0\r\n"],
    "errors": [b"-ERR a\r\n", b"-READONLY You can't write\r\n", b"-WRONGTYPE c\r\n"],
    "a connection error": [b"$1\r\nx\r\n", b"-LOADING x\r\n", b"%0\r\n"],
    "pushes": [b">1\r\n+a\r\n$1\r\nx\r\n", b">1\r\n+b\r\n:1\r\n", b"%0\r\n>1\r\n+c\r\n"],
    "long ones": [b"$100000\r\n%s\r\n" % (b"x" * 100_000), b":1\r\n", b"%0\r\n"],
    "a callback that fails": [b"$1\r\nx\r\n", b":1\r\n", b":7\r\n"],
}


@pytest.mark.parametrize("raise_on_error", [False, True])
@pytest.mark.parametrize("replies", REPLIES.values(), ids=REPLIES)
def test_a_pipelines_replies(
    compared: Any, server: ScriptedServer, replies: list[bytes], raise_on_error: bool
) -> None:
    server.scripts = [[reply] for reply in replies] * 2
    compared([], executed(False, raise_on_error))


@pytest.mark.parametrize("raise_on_error", [False, True])
@pytest.mark.parametrize("replies", REPLIES.values(), ids=REPLIES)
def test_a_transactions_replies(
    compared: Any, server: ScriptedServer, replies: list[bytes], raise_on_error: bool
) -> None:
    queued = [[b"+OK\r\n"], *[[b"+QUEUED\r\n"]] * 3]
    server.scripts = [*queued, [b"*3\r\n", *replies]] * 2
    compared([], executed(True, raise_on_error))


QUEUED = [b"+OK\r\n", b"+QUEUED\r\n", b"+QUEUED\r\n", b"+QUEUED\r\n"]
TRANSACTIONS = {
    "aborted": [*QUEUED, b"_\r\n"],
    "MULTI is refused": [b"-ERR no MULTI\r\n", *QUEUED[1:], b"*0\r\n"],
    "a command is refused": [
        QUEUED[0], QUEUED[1], b"-ERR unknown command\r\n", QUEUED[3],
        b"-EXECABORT Transaction discarded because of previous errors.\r\n",
    ],
    "EXEC is refused": [*QUEUED, b"-ERR no EXEC\r\n"],
    "EXEC aborts without a reason": [*QUEUED, b"-EXECABORT why\r\n"],
    "a replica": [
        QUEUED[0], b"-READONLY You can't write against a read only replica.\r\n",
        QUEUED[2], QUEUED[3], b"-EXECABORT Transaction discarded.\r\n",
    ],
    "too few results": [*QUEUED, b"*2\r\n:1\r\n:2\r\n"],
    "a refusal and too few results": [
        QUEUED[0], b"-ERR first\r\n", QUEUED[2], QUEUED[3], b"*2\r\n:1\r\n%0\r\n",
    ],
}  # fmt: skip


@pytest.mark.parametrize("raise_on_error", [False, True])
@pytest.mark.parametrize("replies", TRANSACTIONS.values(), ids=TRANSACTIONS)
def test_a_transaction_that_fails(
    compared: Any, server: ScriptedServer, replies: list[bytes], raise_on_error: bool
) -> None:
    server.scripts = [[reply] for reply in replies] * 2
    compared([], executed(True, raise_on_error))


@pytest.mark.parametrize("transaction", [False, True])
@pytest.mark.parametrize("options", [{"NEVER_DECODE": True}, {"EMPTY_RESPONSE": []}], ids=str)
def test_a_command_with_redis_py_s_own_options_makes_the_pipeline_go_its_way(
    compared: Any, server: ScriptedServer, options: dict[str, Any], transaction: bool
) -> None:
    def call(client: Client) -> Any:
        with client.pipeline(transaction=transaction) as pipeline:
            pipeline.get("a").execute_command("GET", "b", **options)
            return pipeline.execute()

    around: list[list[Step]] = [[b"+OK\r\n"], [b"+QUEUED\r\n"], [b"+QUEUED\r\n"]]
    replies: list[Step] = [b"$1\r\nx\r\n", b"$1\r\ny\r\n"]
    scripts = [*around, [b"*2\r\n", *replies]] if transaction else [[reply] for reply in replies]
    server.scripts = scripts * 2
    compared([], call, direct=False, decode_responses=True)


ENDINGS: dict[str, list[list[Step]]] = {
    "no reply": [[]],
    "no second reply": [[b"+OK\r\n"], []],
    "half of the second reply": [[b"+OK\r\n"], [b"$100\r\nx"], []],
    "closed": [[CLOSE]],
    "closed after the first": [[b"+OK\r\n"], [CLOSE]],
    "reset after the first": [[b"+OK\r\n"], [RESET]],
    "byte by byte": [
        [step for byte in b"*3\r\n+a\r\n+b\r\n%0\r\n" for step in (bytes([byte]), 0.005)]
    ] * 5,
    "slow, but each in time": [[0.15, b"+OK\r\n"], [0.15, b":1\r\n"], [0.15, b"*0\r\n"]],
}  # fmt: skip


@pytest.mark.slow("waits for timeouts, in both ways")
@pytest.mark.parametrize("transaction", [False, True])
@pytest.mark.parametrize("scripts", ENDINGS.values(), ids=ENDINGS)
def test_a_pipeline_whose_replies_do_not_come(
    compared: Any, server: ScriptedServer, scripts: list[list[Step]], transaction: bool
) -> None:
    server.per_connection = scripts
    compared([], executed(transaction))


@pytest.mark.parametrize("sizes", [[1, 1, 1], [7000, 1, 7000], [3000] * 5, [6000], [100_000] * 3])
@pytest.mark.parametrize("transaction", [False, True])
def test_commands_are_sent_in_the_same_pieces(
    compared: Any,
    server: ScriptedServer,
    monkeypatch: pytest.MonkeyPatch,
    sizes: list[int],
    transaction: bool,
) -> None:
    """Each piece may take ``socket_timeout``."""
    pieces: list[list[int]] = []

    def call(client: Client) -> Any:
        connection = client.connection_pool.get_connection()
        mine: list[int] = []
        pieces.append(mine)

        class Socket:
            def __init__(self, real: Any) -> None:
                self._real = real

            def sendall(self, data: bytes) -> None:
                mine.append(len(data))
                self._real.sendall(data)

            def __getattr__(self, name: str) -> Any:
                return getattr(self._real, name)

        connection._sock = Socket(connection._sock)
        client.connection_pool.release(connection)
        pipeline = client.pipeline("pieces", transaction=transaction)
        for size in sizes:
            pipeline.set("k", b"x" * size)
        return pipeline.execute()

    if transaction:
        queued = [[b"+OK\r\n"], *[[b"+QUEUED\r\n"]] * len(sizes)]
        server.scripts = [*queued, [b"*%d\r\n" % len(sizes), *[b"+OK\r\n"] * len(sizes)]] * 2
    else:
        server.scripts = [[b"+OK\r\n"]] * len(sizes) * 2
    compared([], call)

    directly, otherwise = pieces
    assert directly == otherwise


@pytest.fixture
def compared_on_valkey(
    monkeypatch: pytest.MonkeyPatch, valkey: Server, make_client: MakeClient
) -> Callable[[Callable[[Client], Any]], Any]:
    def compared(call: Callable[[Client], Any]) -> Any:
        def flushed(client: Client) -> Any:
            client.flushdb()
            return call(client)

        return compare(monkeypatch, lambda: make_client(valkey), flushed)

    return compared


def test_a_watched_transaction_keeps_its_connection(compared_on_valkey: Any) -> None:
    def call(client: Client) -> Any:
        with client.pipeline("watched") as pipeline:
            pipeline.watch("key")
            pipeline.get("key")
            pipeline.multi()
            pipeline.set("key", "value").get("key")
            results = pipeline.execute()
        return results, client.get("key")

    found = compared_on_valkey(call)

    assert found["stats"].discards == 0


def test_a_watched_key_that_has_changed(compared_on_valkey: Any) -> None:
    def call(client: Client) -> Any:
        with client.pipeline("watched") as pipeline:
            pipeline.watch("key")
            client.set("key", "changed")
            pipeline.multi()
            pipeline.set("key", "value")
            return pipeline.execute()

    found = compared_on_valkey(call)

    assert found["stats"].discards == 0


def test_a_fork_while_keys_are_watched(compared_on_valkey: Any) -> None:
    def call(client: Client) -> Any:
        pipeline = client.pipeline("watched")
        pipeline.watch("key")
        pipeline.multi()
        pipeline.set("key", "value")
        pipeline.connection.pid = os.getppid()  # as the child process sees it
        try:
            return pipeline.execute()
        finally:
            if pipeline.connection is not None:
                pipeline.connection.pid = os.getpid()
                pipeline.reset()

    found = compared_on_valkey(call)

    assert "ForkedConnectionError" in str(found["raised"])
