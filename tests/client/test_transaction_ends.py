"""``transaction()`` ends with the connection's error; redis-py would begin again without end."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from ..pool.direct.scripted_server import ScriptedServer
from ..support.servers import MakeClient, Server

_MOST_CALLS = 3  # after which a test gives up
_LOADING = b"-LOADING The server is loading the dataset in memory\r\n"


def test_a_transaction_on_a_loading_server_ends_at_once(make_client: MakeClient) -> None:
    calls: list[int] = []

    def change(pipeline: Any) -> None:
        calls.append(1)
        assert len(calls) <= _MOST_CALLS, "it is repeated without end"
        pipeline.exists("key")

    with ScriptedServer() as server:
        server.per_connection = [[b"+OK\r\n"], [_LOADING]]  # such a server allows WATCH
        with pytest.raises(redis.BusyLoadingError):
            make_client(server.url).transaction(change, "key")
    assert len(calls) == 1


def test_a_transaction_whose_function_gets_no_reply_in_time_is_not_repeated(
    make_client: MakeClient, valkey: Server
) -> None:
    client = make_client(valkey, socket_timeout="100 ms")
    calls: list[int] = []

    def wait(pipeline: Any) -> None:
        calls.append(1)
        assert len(calls) <= _MOST_CALLS, "it is repeated without end"
        pipeline.execute_command("BLPOP", "nothing", 1)

    with pytest.raises(redis.TimeoutError):
        client.transaction(wait, "key")
    assert len(calls) == 1
    assert client.connection_pool.stats.in_use == 0


def test_a_lost_connection_before_exec_stays_a_watch_error_for_other_pipelines(
    make_client: MakeClient, valkey: Server
) -> None:
    client = make_client(valkey, socket_timeout="100 ms")
    with client.pipeline() as pipeline:
        pipeline.watch("key")
        with pytest.raises(redis.WatchError):
            pipeline.execute_command("BLPOP", "nothing", 1)
